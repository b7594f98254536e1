package listener

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/decision"
)

// TestAConnectionThatWaitsForARequestHoldsNoGoroutine, whether it was busy before or
// not, and nevertheless tells the same of each request, and ends with a drain.
func TestAConnectionThatWaitsForARequestHoldsNoGoroutine(t *testing.T) {
	b := newBed(t, options{closed: true})
	c := b.dial("93.184.216.34:80")
	answers := bufio.NewReader(c)
	var records []decision.Record
	for range 9 {
		ask(t, c, 1)
		hear(t, answers, 1)
		rec := b.records.next(t)
		rec.ID, rec.Start, rec.Duration = 0, time.Time{}, 0 // its own
		rec.Request, rec.Response = nil, nil                // good while it is added
		records = append(records, rec)
		if len(records) == 1 || len(records) >= 8 {
			awaitRest(t)
		}
	}
	if r := records[0]; r.Name != "db.test" || !r.Original.IsValid() || !r.Downstream.IsValid() || r.Listener == "" || r.Chain == "" {
		t.Errorf("record %+v", r)
	}
	for i, r := range records {
		if !reflect.DeepEqual(records[0], r) {
			t.Errorf("record %d is %+v, the first %+v", i, r, records[0])
		}
	}
	b.stop()
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("a drain left a waiting connection: %d, %v", n, err)
	}
}

// TestWhatCameWithAnEndDuringARestIsAnswered before the end is.
func TestWhatCameWithAnEndDuringARestIsAnswered(t *testing.T) {
	b := newBed(t, options{closed: true})
	c := b.dial("93.184.216.34:80")
	answers := bufio.NewReader(c)
	ask(t, c, 1)
	hear(t, answers, 1)
	awaitRest(t)
	ask(t, c, 2)
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	hear(t, answers, 2)
	if _, err := answers.ReadByte(); err != io.EOF {
		t.Errorf("read %v, want the end", err)
	}
	gone(t, b)
}

// TestFault64ConnectionsThatRestCountForTheLimit, until they are closed.
func TestFault64ConnectionsThatRestCountForTheLimit(t *testing.T) {
	b := newBed(t, options{closed: true, tune: func(o *Options) { o.Limit = 2 }})
	var resting []net.Conn
	for range 2 {
		c := b.dial("93.184.216.34:80")
		ask(t, c, 1)
		hear(t, bufio.NewReader(c), 1)
		b.records.next(t)
		resting = append(resting, c)
	}
	awaitRest(t)
	c := b.dial("93.184.216.34:80")
	ask(t, c, 1)
	hear(t, bufio.NewReader(c), 1)
	if rec := b.records.next(t); rec.Details != "connection_limit" {
		t.Errorf("record %+v", rec)
	}
	for _, c := range append(resting, c) {
		c.Close()
	}
	gone(t, b)
}

// ask makes n requests at once.
func ask(t *testing.T, c net.Conn, n int) {
	t.Helper()
	if _, err := io.WriteString(c, strings.Repeat("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", n)); err != nil {
		t.Fatal(err)
	}
}

// hear reads n answers.
func hear(t *testing.T, answers *bufio.Reader, n int) {
	t.Helper()
	for range n {
		answer, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, answer.Body)
	}
}

// gone waits until no connection is counted.
func gone(t *testing.T, b *bed) {
	t.Helper()
	for end := time.Now().Add(time.Minute); b.listener.Open() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d connections are still counted", b.listener.Open())
		}
	}
}

func awaitRest(t *testing.T) {
	t.Helper()
	stacks := make([]byte, 1<<20)
	for range 12_000 { // one that was busy takes some seconds
		if !bytes.Contains(stacks[:runtime.Stack(stacks, true)], []byte("l7.(*conn)")) {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Error("a goroutine waits for the next request")
}
