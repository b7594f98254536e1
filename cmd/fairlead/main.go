// Command fairlead runs commands behind a proxy and shows what the proxy does.
package main

import (
	"os"

	"github.com/fairlead/fairlead/internal/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:], cli.Environment())) }
