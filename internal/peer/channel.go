package peer

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// MaxFrame bounds every message. A command line with its environment is the
// largest: the kernel's own bound for it is 2 MiB by default, which base64
// makes 2.7.
const MaxFrame = 8 << 20

// MaxFiles bounds the open files of one message.
const MaxFiles = 16

// A Channel carries JSON messages with open files over a unix stream socket:
// four bytes of length, then the message. Files travel with the length. Any
// number of goroutines may send; one may receive. It reads no byte beyond a
// message, so that the connection can be used for other things after it.
type Channel struct {
	conn *net.UnixConn
	mu   sync.Mutex // held while sending
}

// NewChannel returns a channel over conn, which it closes with Close.
func NewChannel(conn *net.UnixConn) *Channel { return &Channel{conn: conn} }

// Pair returns the two ends of a connection, one as a file to start another
// process with. That process makes a connection of it with FileConn.
func Pair() (ours *net.UnixConn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a socket pair: %w", err)
	}
	theirs = os.NewFile(uintptr(fds[1]), "channel") //nolint:gosec // a descriptor is not negative
	ours, err = FileConn(os.NewFile(uintptr(fds[0]), "channel"))
	if err != nil {
		return nil, nil, errors.Join(err, theirs.Close())
	}
	return ours, theirs, nil
}

// FileConn makes a connection of a unix stream socket. It takes over f, which
// is closed in any case.
func FileConn(f *os.File) (*net.UnixConn, error) {
	conn, err := net.FileConn(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("use a channel: %w", err)
	}
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("use a channel: it is a %s socket, not a unix one", conn.LocalAddr().Network()), conn.Close())
	}
	return u, nil
}

// Close closes the connection.
func (c *Channel) Close() error { return c.conn.Close() }

// Send writes one message. The files stay the caller's.
func (c *Channel) Send(v any, files ...*os.File) error {
	body, err := json.Marshal(v)
	switch {
	case err != nil:
		return err
	case len(body) > MaxFrame:
		return fmt.Errorf("a message of %d bytes is too long (at most %d)", len(body), MaxFrame)
	case len(files) > MaxFiles:
		return fmt.Errorf("a message cannot carry %d files (at most %d)", len(files), MaxFiles)
	}
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd()) //nolint:gosec // a descriptor is an int
		}
		rights = unix.UnixRights(fds...)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, _, err := c.conn.WriteMsgUnix(binary.BigEndian.AppendUint32(nil, uint32(len(body))), rights, nil); err != nil { //nolint:gosec // bounded above
		return err
	}
	_, err = c.conn.Write(body)
	return err
}

// Receive reads one message of at most limit bytes into v. The files that came
// with it are the caller's; after an error there are none. The error is io.EOF
// when the other side has closed between messages.
func (c *Channel) Receive(limit int, v any) (files []*os.File, err error) {
	defer func() {
		if err != nil {
			CloseAll(files)
			files = nil
		}
	}()
	size, files, err := c.head()
	if err != nil {
		return files, err
	}
	if size > limit {
		return files, fmt.Errorf("a message of %d bytes is too long (at most %d)", size, limit)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(c.conn, body); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return files, fmt.Errorf("read a message: %w", err)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return files, fmt.Errorf("read a message: %w", err)
	}
	return files, nil
}

// head reads the length of a message and its files, which are the caller's even
// after an error.
func (c *Channel) head() (size int, files []*os.File, err error) {
	var length [4]byte
	oob := make([]byte, unix.CmsgSpace(MaxFiles*4))
	for have := 0; have < len(length); {
		n, oobn, flags, _, err := c.conn.ReadMsgUnix(length[have:], oob)
		switch {
		case errors.Is(err, io.EOF) && have > 0:
			return 0, files, io.ErrUnexpectedEOF
		case errors.Is(err, io.EOF):
			return 0, files, io.EOF
		case err != nil:
			return 0, files, err
		}
		more, err := rightsOf(oob[:oobn])
		files = append(files, more...)
		if err != nil {
			return 0, files, err
		}
		// The kernel has closed what it had no room for.
		if flags&unix.MSG_CTRUNC != 0 || len(files) > MaxFiles {
			return 0, files, fmt.Errorf("a message carries too many files (at most %d)", MaxFiles)
		}
		have += n
	}
	return int(binary.BigEndian.Uint32(length[:])), files, nil
}

func rightsOf(oob []byte) ([]*os.File, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			return files, err
		}
		for _, fd := range fds { // net has had them closed on exec
			files = append(files, os.NewFile(uintptr(fd), "passed")) //nolint:gosec // a descriptor is not negative
		}
	}
	return files, nil
}

// CloseAll closes copies of files, for which an error could lose nothing.
func CloseAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}
