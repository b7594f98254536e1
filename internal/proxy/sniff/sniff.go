// Package sniff tells from the first bytes of a connection what it is. It is
// pure and bounded: nothing here reads, and nothing grows with its input.
package sniff

// STUB: owned by the HTTP helper; signatures are the contract.

// A Verdict is what the bytes so far allow to say.
type Verdict uint8

// The verdicts.
const (
	More Verdict = iota // more bytes may change the answer
	No                  // it is something else
	Yes                 // it is
)

// MaxHello bounds a ClientHello (its handshake message), as Envoy does.
const MaxHello = 16 << 10

// A Hello is what a ClientHello says that routing needs.
type Hello struct {
	ServerName string   // lower case, canonical; empty if absent or not a host name
	Protocols  []string // ALPN offers
}

// ClientHello parses the beginning of a TLS stream, across records and
// fragments.
func ClientHello(b []byte) (Hello, Verdict) { panic("stub") }

// MaxLine bounds the first line of a request.
const MaxLine = 64 << 10

// HTTP tells the application protocol of the first line: "http/1.1",
// "http/1.0" or "h2c".
func HTTP(b []byte) (string, Verdict) { panic("stub") }
