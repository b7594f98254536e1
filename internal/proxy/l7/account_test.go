package l7

import (
	"io"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/proxy/overload"
)

// shortRig is a rig whose streams are counted, with an endpoint that looks at
// requests, and answers none before go_ is closed.
func shortRig(t *testing.T, requests int) (r *rig, a *overload.Account, asked, go_ chan struct{}) {
	t.Helper()
	asked, go_ = make(chan struct{}), make(chan struct{})
	r = two(t, func(f *framer) {
		for range requests {
			f.request()
		}
		close(asked)
		<-go_
		f.serve(func(id uint32) { f.head(id, true, ":status", "204") })
	})
	a = overload.NewAccount(0)
	r.server.memory.Account = a
	r.clusters.Bound(a)
	return r, a, asked, go_
}

func awaitHeld(t *testing.T, a *overload.Account, n int64) {
	t.Helper()
	for end := time.Now().Add(patience); a.Held() < n; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d bytes are held", a.Held())
		}
	}
}

// isShort checks the record of a request that was refused, or ended, for memory.
func isShort(t *testing.T, rec *decision.Record) {
	t.Helper()
	const why = "are held for streams of HTTP/2 that are not read fast enough, and 262144 KiB may be"
	if rec.Flags != decision.OM || rec.Details != "overload" || rec.Reason != decision.Overload || !strings.Contains(rec.Err, why) {
		t.Errorf("record %+v", rec)
	}
}

// TestFault65AnUploadThatHoldsTooMuchIsToldSo has an endpoint take nothing of six
// uploads, and memory become short: some are reset, and another connection is served.
func TestFault65AnUploadThatHoldsTooMuchIsToldSo(t *testing.T) {
	r, a, asked, go_ := shortRig(t, 6)
	f := r.frames()
	for id := uint32(1); id < 13; id += 2 {
		f.head(id, false, ":method", "POST", ":scheme", "http", ":path", "/up", ":authority", "x.example")
	}
	<-asked
	f.fill(1, 3, 5, 7, 9, 11)
	awaitHeld(t, a, 100<<10)
	a.Move(0, a.Limit())
	defer a.Move(a.Limit(), 0)
	for fr := f.next(); ; fr = f.next() {
		if reset, is := fr.(*http2.RSTStreamFrame); is {
			if reset.ErrCode != http2.ErrCodeEnhanceYourCalm {
				t.Errorf("stream %d is reset with %v", reset.StreamID, reset.ErrCode)
			}
			break
		}
	}
	rec := r.record()
	isShort(t, &rec)
	close(go_)
	other := r.frames()
	other.get(1, "/")
	if head, _, _ := other.answer(1); !strings.HasPrefix(head, ":status: 204") {
		t.Errorf("another connection hears %q", head)
	}
}

// TestFault65ARequestIsRefusedWhereHeadsHoldTooMuch has requests with large heads
// wait for their answers.
func TestFault65ARequestIsRefusedWhereHeadsHoldTooMuch(t *testing.T) {
	r, a, asked, go_ := shortRig(t, 6)
	f := r.frames()
	for id := uint32(1); id < 13; id += 2 {
		f.get(id, "/", "x-large", strings.Repeat("v", 15_000))
	}
	<-asked
	awaitHeld(t, a, 64<<10)
	a.Move(0, a.Limit())
	f.get(13, "/")
	if head, body, _ := f.answer(13); !strings.HasPrefix(head, ":status: 503\n") || !strings.Contains(body, "the proxy is at a limit of its own: ") {
		t.Errorf("%s%s", head, body)
	}
	rec := r.record()
	isShort(t, &rec)
	a.Move(a.Limit(), 0)
	f.get(15, "/")
	close(go_)
	if head, _, _ := f.answer(15); !strings.HasPrefix(head, ":status: 204") {
		t.Errorf("with room again: %s", head)
	}
}

// fill uses the first windows of streams up.
func (f *framer) fill(ids ...uint32) {
	for _, id := range ids {
		for range 4 {
			if f.WriteData(id, false, make([]byte, 16<<10-1)) != nil {
				return // which the reader sees
			}
		}
	}
}

// While the account is lean, windows of new connections are small: bodies come as they
// are read all the same.
func TestBodiesComeWhileTheAccountIsLean(t *testing.T) {
	const size = 200_000
	up := goEndpoint(t, func(w http.ResponseWriter, req *http.Request) {
		n, _ := io.Copy(io.Discard, req.Body)
		_, _ = io.WriteString(w, strconv.FormatInt(n, 10))
	})
	r := newRig(t, entry{host: "x.example", endpoints: []netip.AddrPort{up}})
	a := overload.NewAccount(0)
	r.server.memory.Account = a
	a.Move(0, a.Limit()/4)
	for range 10 {
		res, err := r.goClient(2).Post("http://x.example/", "text/plain", strings.NewReader(strings.Repeat("x", size)))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if string(body) != strconv.Itoa(size) {
			t.Errorf("%s bytes came, %v", body, err)
		}
	}
}
