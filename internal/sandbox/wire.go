package sandbox

import (
	"os"

	"github.com/fairlead/fairlead/internal/peer"
)

// maxReply bounds a message that comes from inside.
const maxReply = 64 << 10

// channelPair returns one end as a channel and the other as a file to give
// away.
func channelPair() (*peer.Channel, *os.File, error) {
	ours, theirs, err := peer.Pair()
	if err != nil {
		return nil, nil, err
	}
	return peer.NewChannel(ours), theirs, nil
}

// givenChannel is the channel at a descriptor that this process was started
// with.
func givenChannel(fd uintptr) (*peer.Channel, error) {
	conn, err := peer.FileConn(os.NewFile(fd, "supervisor"))
	if err != nil {
		return nil, err
	}
	return peer.NewChannel(conn), nil
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
