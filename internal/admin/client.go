package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead/fairlead/internal/peer"
)

// maxAnswer bounds what a client reads: a proxy with 100,000 entries stays well
// below it.
const maxAnswer = 1 << 30

// A Client asks one proxy, or one control plane. It is safe for concurrent use.
type Client struct {
	name string
	http http.Client
}

// NewClient returns a client for the admin socket of that abstract name. Close
// ends the connections that it keeps.
func NewClient(name string) *Client {
	return &Client{name: name, http: http.Client{
		Timeout: time.Minute,
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return peer.Dial(ctx, name) },
		},
	}}
}

// Close ends the connections that the client keeps.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Config returns what the proxy was told, with raw resources if raw is set.
func (c *Client) Config(ctx context.Context, raw bool) (Config, error) {
	path := pathConfig
	if raw {
		path += "?raw=true"
	}
	return get[Config](ctx, c, path)
}

// Clusters returns the clusters as they are now, sorted by name.
func (c *Client) Clusters(ctx context.Context) ([]ClusterState, error) {
	return get[[]ClusterState](ctx, c, pathClusters)
}

// Stats returns the counters.
func (c *Client) Stats(ctx context.Context) (Stats, error) { return get[Stats](ctx, c, pathStats) }

// Status returns who the proxy is and whether it serves.
func (c *Client) Status(ctx context.Context) (Status, error) { return get[Status](ctx, c, pathReady) }

// WhoOwns asks a control plane whose a host is.
func (c *Client) WhoOwns(ctx context.Context, q Question) (Decision, error) {
	asked := url.Values{"host": {q.Host}}
	if q.Port != 0 {
		asked.Set("port", strconv.Itoa(int(q.Port)))
	}
	if q.Kind != "" {
		asked.Set("kind", q.Kind)
	}
	if q.Namespace != "" {
		asked.Set("namespace", q.Namespace)
	}
	return get[Decision](ctx, c, pathWhoOwns+"?"+asked.Encode())
}

func get[T any](ctx context.Context, c *Client, path string) (v T, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://run"+path, nil)
	if err != nil {
		return v, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return v, fmt.Errorf("ask %s: %w", c.name, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return v, fmt.Errorf("ask %s: %w", c.name, err)
	}
	// A proxy that is not ready says so with its status, as probes want it.
	if resp.Header.Get("Content-Type") != "application/json" {
		return v, fmt.Errorf("ask %s for %s: %s: %s", c.name, path, resp.Status, strings.TrimSpace(string(body)))
	}
	if err := json.Unmarshal(body, &v); err != nil {
		return v, fmt.Errorf("read the answer of %s: %w", c.name, err)
	}
	return v, nil
}
