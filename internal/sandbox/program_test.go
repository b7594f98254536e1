package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"
	"unsafe"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/peer"
)

// programMain is what tests run inside a sandbox: one small deed, told on the
// standard output.
func programMain(args []string) int {
	deeds := map[string]func(args []string) error{
		"get":     func(a []string) error { return get(a[0], false) },
		"mptcp":   func(a []string) error { return get(a[0], true) },
		"dns-udp": func(a []string) error { return askPacket(a[0]) },
		"dns-tcp": func(a []string) error { return askStream(a[0]) },
		"send":    func(a []string) error { return send(a[0], a[1]) },
		"serve":   func(a []string) error { return serveSelf(a[0], a[1]) },
		"listen":  func(a []string) error { return listenAt(a[0]) },
		"socket":  func(a []string) error { return openAny(a[0]) },
		"type":    func([]string) error { return typeInto() },
		"keys":    func([]string) error { return useKeys() },
		"signals": func([]string) error { return tellSignals() },
	}
	deed := deeds[args[0]]
	if deed == nil {
		fmt.Println("no such deed:", args[0])
		return 2
	}
	if err := deed(args[1:]); err != nil {
		fmt.Println("error:", err)
		return 1
	}
	return 0
}

// get connects and tells what it reads and where from.
func get(address string, multipath bool) error {
	d := net.Dialer{Timeout: patience}
	d.SetMultipathTCP(multipath)
	c, err := d.DialContext(context.Background(), "tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	fmt.Println("connected")
	text, err := io.ReadAll(c)
	if err != nil {
		return err
	}
	fmt.Println(string(text))
	return nil
}

// question is an A question for example.com.
func aQuestion() *dns.Msg { return new(dns.Msg).SetQuestion("example.com.", dns.TypeA) }

// askPacket asks from a socket that takes answers from anybody, and tells from
// whom one came.
func askPacket(server string) error {
	to, err := net.ResolveUDPAddr("udp", server)
	if err != nil {
		return err
	}
	c, err := net.ListenUDP("udp", nil)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	text, err := aQuestion().Pack()
	if err != nil {
		return err
	}
	if _, err := c.WriteToUDP(text, to); err != nil {
		return err
	}
	buf := make([]byte, 512)
	n, from, err := c.ReadFromUDP(buf)
	if err != nil {
		return err
	}
	var m dns.Msg
	if err := m.Unpack(buf[:n]); err != nil {
		return err
	}
	fmt.Println(from, m.Answer[0].(*dns.A).A)
	return nil
}

func askStream(server string) error {
	m, _, err := (&dns.Client{Net: "tcp", Timeout: patience}).Exchange(aQuestion(), server)
	if err != nil {
		return err
	}
	fmt.Println(m.Answer[0].(*dns.A).A)
	return nil
}

// send sends one packet and tells the error, if it came at once. The network
// "icmp" and "icmp6" are pings.
func send(network, address string) error {
	var err error
	switch network {
	case "icmp", "icmp6":
		err = ping(network, address)
	default:
		var c net.Conn
		if c, err = net.Dial(network, address); err == nil {
			defer c.Close()
			_, err = c.Write([]byte("hello"))
		}
	}
	if err == nil {
		return errors.New("it was sent")
	}
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return err
	}
	fmt.Println(unix.ErrnoName(errno))
	return nil
}

func ping(network, address string) error {
	ip := net.ParseIP(address)
	family, proto := unix.AF_INET, unix.IPPROTO_ICMP
	var to unix.Sockaddr = &unix.SockaddrInet4{}
	if v4 := ip.To4(); v4 != nil {
		to = &unix.SockaddrInet4{Addr: [4]byte(v4)}
	}
	packet := []byte{8, 0, 0, 0, 0, 0, 0, 1}
	if network == "icmp6" {
		family, proto, packet[0] = unix.AF_INET6, unix.IPPROTO_ICMPV6, 128
		to = &unix.SockaddrInet6{Addr: [16]byte(ip.To16())}
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM, proto)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, to); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	if _, err := unix.Write(fd, packet); err != nil {
		return err
	}
	// IPv6 tells it by an ICMP message alone.
	if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd)}}, int(patience/time.Millisecond)); err != nil {
		return err
	}
	code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil || code == 0 {
		return err
	}
	return syscall.Errno(code)
}

// openAny opens what is not for everybody, and tells the error.
func openAny(kind string) error {
	family, typ, proto := unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW
	switch kind {
	case "packet":
		family, proto = unix.AF_PACKET, 0
	case "vsock":
		family, typ, proto = unix.AF_VSOCK, unix.SOCK_STREAM, 0
	case "uring":
		_, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, 0, 0)
		fmt.Println(unix.ErrnoName(errno))
		return nil
	}
	fd, err := unix.Socket(family, typ, proto)
	if err == nil {
		return errors.Join(errors.New("it was opened"), unix.Close(fd))
	}
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return err
	}
	fmt.Println(unix.ErrnoName(errno))
	return nil
}

// typeInto puts a character into its controlling terminal's input, and tells
// the error.
func typeInto() error {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer tty.Close()
	for _, request := range []uintptr{unix.TIOCSTI, unix.TIOCLINUX, unix.TIOCSTI | 1<<32} {
		text := []byte{'!', 0}
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, tty.Fd(), request, uintptr(unsafe.Pointer(&text[0])))
		fmt.Println(unix.ErrnoName(errno))
	}
	return nil
}

// useKeys tells the errors of the calls about keys.
func useKeys() error {
	_, err1 := unix.AddKey("user", "fairlead", []byte("x"), unix.KEY_SPEC_PROCESS_KEYRING)
	_, err2 := unix.RequestKey("user", "fairlead", "x", 0)
	_, err3 := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, true)
	for _, err := range []error{err1, err2, err3} {
		var errno syscall.Errno
		errors.As(err, &errno)
		fmt.Println(unix.ErrnoName(errno))
	}
	return nil
}

// serveSelf is a server and its client in one.
func serveSelf(network, address string) error {
	l, err := net.Listen(network, address)
	if err != nil {
		return err
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = io.WriteString(c, "served by myself")
	}()
	return get(l.Addr().String(), false)
}

// listenAt listens at a path until it is killed.
func listenAt(path string) error {
	l, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	fmt.Println("listening")
	for {
		if _, err := l.Accept(); err != nil {
			return err
		}
	}
}

// tellSignals tells each signal as it comes, until SIGUSR1.
func tellSignals() error {
	got := make(chan os.Signal, 16)
	signal.Notify(got, syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2)
	fmt.Println("ready")
	for s := range got {
		fmt.Println(unix.SignalName(s.(syscall.Signal)))
		if s == syscall.SIGUSR1 {
			return nil
		}
	}
	return nil
}

// clientMain has the server at an abstract socket execute the rest.
func clientMain(args []string) int {
	conn, err := peer.Dial(context.Background(), args[0])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 125
	}
	code, err := ExecClient(context.Background(), conn.(*net.UnixConn), Command{Args: args[1:], Env: os.Environ(), Dir: "/", Files: [3]*os.File{os.Stdin, os.Stdout, os.Stderr}})
	var failed *StartError
	switch {
	case errors.As(err, &failed):
		fmt.Fprintln(os.Stderr, err)
		return failed.Code
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		return 125
	}
	return code
}
