package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"
)

// The paths of the server.
const (
	pathConfig   = "/config"
	pathClusters = "/clusters"
	pathStats    = "/stats"
	pathReady    = "/ready"
	pathWhoOwns  = "/who-owns"
)

// Serve answers on ln until ctx ends, then closes it and returns when the last
// answer is out, or a second later. Whom to let in is ln's business.
func Serve(ctx context.Context, ln net.Listener, from Source, log *slog.Logger) error {
	return serve(ctx, ln, Handler(from), log)
}

// ServeControl is Serve for a control plane.
func ServeControl(ctx context.Context, ln net.Listener, from Control, log *slog.Logger) error {
	return serve(ctx, ln, ControlHandler(from), log)
}

func serve(ctx context.Context, ln net.Listener, h http.Handler, log *slog.Logger) error {
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      time.Minute,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if srv.Shutdown(last) != nil {
			_ = srv.Close() // who has not read by now will not
		}
	})
	err := srv.Serve(ln)
	if !stop() {
		<-closed
	}
	if errors.Is(err, http.ErrServerClosed) {
		return ctx.Err()
	}
	_ = ln.Close() // it is broken already
	return err
}

// Handler answers GET and HEAD on the paths of the server with JSON.
func Handler(from Source) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+pathConfig, func(w http.ResponseWriter, r *http.Request) {
		c, err := from.Config(r.URL.Query().Get("raw") == "true")
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		answer(w, http.StatusOK, c)
	})
	mux.HandleFunc("GET "+pathClusters, func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, from.Clusters())
	})
	mux.HandleFunc("GET "+pathStats, func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, from.Stats())
	})
	mux.HandleFunc("GET "+pathReady, func(w http.ResponseWriter, _ *http.Request) {
		s := from.Status()
		code := http.StatusOK
		if !s.Ready {
			code = http.StatusServiceUnavailable
		}
		answer(w, code, s)
	})
	return mux
}

// ControlHandler answers questions with JSON: GET /who-owns?host=a.example&port=80.
func ControlHandler(from Control) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+pathWhoOwns, func(w http.ResponseWriter, r *http.Request) {
		asked := r.URL.Query()
		q := Question{Host: asked.Get("host"), Namespace: asked.Get("namespace"), Kind: asked.Get("kind")}
		if text := asked.Get("port"); text != "" {
			port, err := strconv.ParseUint(text, 10, 16)
			if err != nil {
				http.Error(w, fmt.Sprintf("port %q: use a number up to 65535", text), http.StatusBadRequest)
				return
			}
			q.Port = uint16(port)
		}
		d, err := from.WhoOwns(q)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		answer(w, http.StatusOK, d)
	})
	return mux
}

func answer(w http.ResponseWriter, code int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(append(b, '\n')) // who has gone does not need it
}
