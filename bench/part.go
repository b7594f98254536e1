package main

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
)

// part is this program as one process of the rig. A server prints its address,
// or what else there is to know of it, and serves until standard input ends.
func part(name string, args []string) error {
	parts := map[string]func([]string) error{
		"backend":       listening(backend),
		"bulk-backend":  listening(bulkBackend),
		"grpc-backend":  listening(grpcBackend),
		"reverse-proxy": listening(reverseProxy),
		"relay":         listening(relay),
		"grpc-proxy":    listening(grpcProxy),
		"plane":         plane,
		"fairlead":      fairlead,
		"load-h1":       loadH1,
		"load-close":    loadClose,
		"load-h2":       loadH2,
		"load-bulk":     loadBulk,
		"load-paced":    loadPaced,
		"hold":          hold,
		"control-build": controlBuild,
		"control-chain": controlChain,
		"control-names": controlNames,
	}
	run := parts[name]
	if run == nil {
		return errors.New("no such part")
	}
	return run(args)
}

// listening makes a part of a server that sends on to the address in its
// argument.
func listening(serve func(l net.Listener, to string) error) func([]string) error {
	return func(args []string) error {
		to := ""
		if len(args) > 0 {
			to = args[0]
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		fmt.Println(l.Addr())
		go answer(nil)
		return serve(l, to)
	}
}

// answer answers each line of standard input and ends the process with it.
// "allocations" is answered with the count of them, "collect" too, once the collector
// has run, and the rest by do.
func answer(do func(string) string) {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		if lines.Text() == "collect" {
			runtime.GC()
		}
		if lines.Text() == "allocations" || do == nil {
			fmt.Println(allocations())
			continue
		}
		fmt.Println(do(lines.Text()))
	}
	os.Exit(0)
}

func allocations() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}

// numbers reads the arguments of a part.
func numbers(args []string) ([]int, error) {
	out := make([]int, len(args))
	for i, a := range args {
		n, err := strconv.Atoi(a)
		if err != nil {
			return nil, err
		}
		out[i] = n
	}
	return out, nil
}
