package sandbox

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

// maxFrame bounds one message. A command line with its environment is the
// largest: the kernel's own bound for it is 2 MiB by default, which base64
// makes 2.7.
const maxFrame = 8 << 20

// maxReply bounds a message that comes from inside.
const maxReply = 64 << 10

// maxFiles bounds the descriptors of one message; the sockets of a sandbox are
// six.
const maxFiles = 8

// A channel carries JSON messages with open files over a unix stream socket:
// four bytes of length, then the message. Files travel with the length. Any
// number of goroutines may send; one may receive.
type channel struct {
	conn *net.UnixConn
	mu   sync.Mutex // held while sending
}

// channelPair returns one end as a channel and the other as a file to give
// away.
func channelPair() (*channel, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a socket pair: %w", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "channel")
	c, err := channelOf(os.NewFile(uintptr(fds[0]), "channel"))
	if err != nil {
		return nil, nil, errors.Join(err, theirs.Close())
	}
	return c, theirs, nil
}

// channelOf takes over f, which is closed in any case.
func channelOf(f *os.File) (*channel, error) {
	conn, err := net.FileConn(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("use a channel: %w", err)
	}
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("use a channel: it is a %s socket, not a unix one", conn.LocalAddr().Network()), conn.Close())
	}
	return &channel{conn: u}, nil
}

func (c *channel) Close() error { return c.conn.Close() }

// send writes one message. The files stay the caller's.
func (c *channel) send(v any, files ...*os.File) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(body) > maxFrame {
		return fmt.Errorf("a message of %d bytes is too long (at most %d): the command line and its environment are too large", len(body), maxFrame)
	}
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		rights = unix.UnixRights(fds...)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, _, err := c.conn.WriteMsgUnix(binary.BigEndian.AppendUint32(nil, uint32(len(body))), rights, nil); err != nil {
		return err
	}
	_, err = c.conn.Write(body)
	return err
}

// receive reads one message of at most limit bytes into v. The files that came
// with it are the caller's; after an error there are none. The error is io.EOF
// when the other side has closed between messages.
func (c *channel) receive(limit int, v any) (files []*os.File, err error) {
	defer func() {
		if err != nil {
			closeAll(files)
			files = nil
		}
	}()
	head := make([]byte, 4)
	oob := make([]byte, unix.CmsgSpace(maxFiles*4))
	for have := 0; have < len(head); {
		n, oobn, flags, _, err := c.conn.ReadMsgUnix(head[have:], oob)
		if err != nil {
			return files, err
		}
		if n == 0 && oobn == 0 {
			if have > 0 {
				return files, io.ErrUnexpectedEOF
			}
			return files, io.EOF
		}
		more, err := rightsOf(oob[:oobn])
		files = append(files, more...)
		if err != nil {
			return files, err
		}
		if flags&unix.MSG_CTRUNC != 0 || len(files) > maxFiles {
			return files, fmt.Errorf("a message carries too many files (at most %d)", maxFiles)
		}
		have += n
	}
	size := int(binary.BigEndian.Uint32(head))
	if size > limit {
		return files, fmt.Errorf("a message of %d bytes is too long (at most %d)", size, limit)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(c.conn, body); err != nil {
		return files, fmt.Errorf("read a message: %w", err)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return files, fmt.Errorf("read a message: %w", err)
	}
	return files, nil
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
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "passed"))
		}
	}
	return files, nil
}

// closeAll closes what was only a copy; an error could lose nothing.
func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// What supervisor and init say to each other.
type (
	// setup is the first message; init answers with ready.
	setup struct {
		Root     bool     // of the whole machine: every id is mapped
		UID      int      // as seen by the supervisor
		GID      int      // likewise
		ReadOnly []string // absolute paths
		Hide     []string // absolute paths of sockets and folders of sockets
	}
	// ready carries the sockets: TCP, DNS packets, DNS streams, of each IPv4
	// then, if there is any, IPv6.
	ready struct {
		Error  string
		Errno  int    // of the error, if it has one
		NoIPv6 string // why there is no IPv6
	}
	// question asks init for its counters, the only thing there is to ask.
	question struct{}
	answer   struct {
		Error    string
		Counters Counters
	}
)

// What supervisor and starter say to each other, and a client of `exec` and
// the supervisor likewise.
type (
	// order is one of: start a command (with its three files), or send a signal
	// to one.
	order struct {
		ID     int
		Start  *start `json:",omitempty"`
		Signal int    `json:",omitempty"`
	}
	// start is a command. Bytes and not strings, for neither arguments nor names
	// need be UTF-8.
	start struct {
		Args, Env [][]byte
		Dir       []byte
		Main      bool // its end is the end of everything
		Terminal  int  // which of its files becomes its controlling terminal, plus one; 0: none
	}
	// event is one of: started, not started (Failure with Code 126 or 127), ended.
	event struct {
		ID      int
		Started bool   `json:",omitempty"`
		Ended   bool   `json:",omitempty"`
		Failure string `json:",omitempty"`
		Code    int
		Signal  int `json:",omitempty"`
	}
)
