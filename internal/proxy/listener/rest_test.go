package listener

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"reflect"
	"runtime"
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
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		answer, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		rec := b.records.next(t)
		rec.ID, rec.Start, rec.Duration = 0, time.Time{}, 0 // its own
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
