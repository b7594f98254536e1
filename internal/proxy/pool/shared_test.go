package pool

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/fairlead/fairlead/internal/proxy/h2"
	"github.com/fairlead/fairlead/internal/proxy/streams"
	"github.com/fairlead/fairlead/internal/proxy/transport"
)

// share is one connection to a peer that lets so many streams be open at once and
// answers none of them. Its settings have come, unless nobody wants it any more.
func share(t *testing.T, s *Shared, most uint32) *Member {
	t.Helper()
	ours, theirs := net.Pipe()
	client := streams.NewClient(transport.New(ours, nil), streams.Options{})
	m := s.Opened(client)
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = client.Run(t.Context())
		s.Removed(m)
	})
	wg.Go(func() {
		preface := make([]byte, len(h2.Preface))
		if _, err := io.ReadFull(theirs, preface); err != nil && !client.Done() {
			t.Error(err)
		}
		f := http2.NewFramer(theirs, theirs)
		if err := f.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: most}, http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: 1}); err != nil && !client.Done() {
			t.Error(err)
		}
		for {
			if _, err := f.ReadFrame(); err != nil {
				return
			}
		}
	})
	t.Cleanup(func() {
		_, _ = ours.Close(), theirs.Close()
		wg.Wait()
	})
	if !client.WebSockets(time.Minute) && !client.Done() {
		t.Fatal("the settings did not come")
	}
	s.Settled(m)
	return m
}

func TestPlacesAreThoseThatThePeerAllows(t *testing.T) {
	var s Shared
	m, _, wait, open := s.Join(nil)
	if m != nil || !open {
		t.Fatal("a place on no connection")
	}
	if m, _, again, open := s.Join(nil); m != nil || open || again != wait {
		t.Fatal("a second one is to be opened for the second who waits")
	}
	share(t, &s, 2)
	<-wait.Done()
	if wait.Err() != nil {
		t.Fatal(wait.Err())
	}
	first, used, _, _ := s.Join(nil)
	if first == nil || used {
		t.Fatal("no place on the new connection, or one that was used")
	}
	second, used, _, _ := s.Join(nil)
	if second != first || !used {
		t.Fatal("no second place, or one that was not used")
	}
	if m, _, _, open := s.Join(nil); m != nil || !open {
		t.Fatal("a place more than the peer allows")
	}
	second.Leave() // without a stream
	if m, _, _, _ := s.Join(nil); m != first {
		t.Fatal("a place that was given back is lost")
	}
	stream, err := first.Open(h2.AppendField(nil, "x", "y"), h2.Start{End: true})
	if err != nil {
		t.Fatal(err)
	}
	first.Leave()
	if m, _, _, _ := s.Join(nil); m != nil {
		t.Fatal("the place of a stream is free")
	}
	stream.Close()
	if m, _, _, _ := s.Join(nil); m != first {
		t.Fatal("the place of a stream that is over is taken")
	}
	s.Failed(io.EOF) // nobody waits any more
}

func TestAFailureReachesAllWhoWait(t *testing.T) {
	var s Shared
	_, _, one, _ := s.Join(nil)
	_, _, two, _ := s.Join(nil)
	s.Failed(io.ErrNoProgress)
	<-one.Done()
	<-two.Done()
	if !errors.Is(one.Err(), io.ErrNoProgress) || !errors.Is(two.Err(), io.ErrNoProgress) {
		t.Error(one.Err(), two.Err())
	}
	if _, _, _, open := s.Join(nil); !open {
		t.Error("nobody tries again")
	}
	s.Failed(io.EOF)
}

func TestClosedConnectionsEndWithTheirLastStream(t *testing.T) {
	var s Shared
	_, _, wait, _ := s.Join(nil)
	share(t, &s, 10)
	m, _, _, _ := s.Join(wait)
	stream, err := m.Open(h2.AppendField(nil, "x", "y"), h2.Start{End: true})
	if err != nil {
		t.Fatal(err)
	}
	m.Leave()
	s.Close()
	if s.Len() != 1 || m.Capacity() != 0 {
		t.Errorf("%d connections, room for %d", s.Len(), m.Capacity())
	}
	stream.Close()
	eventually(t, func() bool { return s.Len() == 0 })
	// Who comes late still gets one, which is gone with the last who used it.
	_, _, wait, open := s.Join(nil)
	if !open {
		t.Fatal("no connection for who comes late")
	}
	share(t, &s, 10)
	m, _, _, _ = s.Join(wait)
	m.Leave()
	eventually(t, func() bool { return s.Len() == 0 })
}

// One that takes no streams at all is not asked again and again.
func TestAConnectionOfNoUseIsEnded(t *testing.T) {
	var s Shared
	_, _, wait, _ := s.Join(nil)
	share(t, &s, 0)
	<-wait.Done()
	if !errors.Is(wait.Err(), ErrNoStreams) || !errors.Is(wait.Err(), streams.ErrRefused) {
		t.Error(wait.Err())
	}
	if m, _, _, open := s.Join(nil); m != nil || !open {
		t.Fatal("a place where none is")
	}
	eventually(t, func() bool { return s.Len() == 0 })
	s.Failed(io.EOF)
}

// Whoever waited for a connection to an endpoint that is gone may be gone as well
// when it is there.
func TestAConnectionThatNobodyWaitsForAnyMoreIsEnded(t *testing.T) {
	for name, leave := range map[string]func(s *Shared, wait *Opening){
		"before it is there": func(s *Shared, wait *Opening) { s.Forgo(wait); s.Close(); share(t, s, 10) },
		"when it is there":   func(s *Shared, wait *Opening) { s.Close(); share(t, s, 10); s.Forgo(wait) },
	} {
		t.Run(name, func(t *testing.T) {
			var s Shared
			_, _, wait, _ := s.Join(nil)
			leave(&s, wait)
			eventually(t, func() bool { return s.Len() == 0 })
		})
	}
}

// How many streams a connection takes is not known before its settings.
func TestANewConnectionCarriesOneStreamUntilItsSettingsCome(t *testing.T) {
	var s Shared
	_, _, wait, _ := s.Join(nil)
	_, _, _, _ = s.Join(nil)
	ours, theirs := net.Pipe()
	client := streams.NewClient(transport.New(ours, nil), streams.Options{})
	m := s.Opened(client)
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = io.Copy(io.Discard, theirs)
	})
	wg.Go(func() { _ = client.Run(t.Context()) })
	<-wait.First()
	select {
	case <-wait.First():
		t.Error("two were let through")
	case <-wait.Done():
		t.Error("all were let through")
	default:
	}
	if first, _, _, _ := s.Join(wait); first != m {
		t.Error("no place for the first")
	}
	if second, _, again, open := s.Join(wait); second != nil || again != wait || open {
		t.Error("a place for the second, or another connection")
	}
	theirs.Close()
	wg.Wait()
	s.Settled(m)
	<-wait.Done()
	if !errors.Is(wait.Err(), streams.ErrRefused) {
		t.Errorf("who sent nothing is told %v", wait.Err())
	}
	s.Removed(m)
}
