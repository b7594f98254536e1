package sandbox

import (
	"io"
	"os"
	"strconv"
	"time"
)

// What is kept of a starter's last words, and how long init waits for the rest
// of them after its end, as a command may hold the pipe.
const (
	maxWords   = 4 << 10
	wordsAfter = 100 * time.Millisecond
)

// lastWords are what the starter wrote to its standard error, which it does
// when it fails. Any command can write there too: it is bounded and quoted
// before it goes to the log, and never seen unless the starter fails.
type lastWords struct {
	end  *os.File // to write to
	from *os.File
	done chan struct{}
	text []byte // to be read when done is closed
}

func hearLastWords() (*lastWords, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	l := &lastWords{end: w, from: r, done: make(chan struct{})}
	go func() {
		defer close(l.done)
		l.text, _ = io.ReadAll(io.LimitReader(r, maxWords)) // the end is the end
		_, _ = io.Copy(io.Discard, r)                       // nobody is to wait for a full pipe
	}()
	return l, nil
}

// quoted is how to add them to a sentence; without any it is empty.
func (l *lastWords) quoted() string {
	_ = l.from.SetReadDeadline(time.Now().Add(wordsAfter)) // a pipe has deadlines
	<-l.done
	if len(l.text) == 0 {
		return ""
	}
	return ": " + strconv.Quote(string(l.text))
}
