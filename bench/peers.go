package main

import (
	"context"
	_ "embed"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// A peer is a proxy that can be started in front of a backend.
type peer struct {
	name  string
	start func(ctx context.Context, to string) (*server, error)
}

// ofThisProgram is a peer that is a part of this program.
func ofThisProgram(name, part string) peer {
	return peer{name, func(ctx context.Context, to string) (*server, error) { return startPart(ctx, proxyCore, part, to) }}
}

// haproxy is given its frontend's and its backend's lines beside those of all.
func haproxy(name, mode, bindOptions, serverOptions string) peer {
	return peer{name, func(ctx context.Context, to string) (*server, error) {
		addr, err := freeAddress()
		if err != nil {
			return nil, err
		}
		config := strings.NewReplacer("MODE", mode, "BIND", addr+" "+bindOptions, "SERVER", to+" "+serverOptions).Replace(haproxyConfig)
		return startProgram(ctx, addr, "haproxy.cfg", config, "haproxy", "-q", "-db", "-f", "DIR/haproxy.cfg")
	}}
}

const haproxyConfig = `global
  nbthread 1
  maxconn 30000
  no strict-limits
defaults
  timeout connect 5s
  timeout client 10m
  timeout server 10m
  MODE
frontend in
  bind BIND
  default_backend out
backend out
  server one SERVER
`

const (
	haproxyHTTP = "mode http\n  http-reuse always"
	haproxyTCP  = "mode tcp\n  option splice" // and when
)

// The nginx that most compare with writes no log, as the other peers. By default it
// writes a line for each request, as we do.
const (
	nginxName   = "nginx"
	nginxLogged = "nginx, its default log"
)

// nginx is given the block of its server.
func nginx(name, block string) peer {
	return peer{name, func(ctx context.Context, to string) (*server, error) {
		addr, err := freeAddress()
		if err != nil {
			return nil, err
		}
		config := nginxConfig
		if name == nginxLogged {
			block = strings.Replace(block, "access_log off", "access_log /dev/null combined", 1)
		}
		if strings.HasPrefix(block, "stream") {
			// Debian has it as a module of its own.
			if modules, _ := filepath.Glob("/usr/lib/nginx/modules/ngx_stream_module.so"); len(modules) > 0 {
				config = "load_module " + modules[0] + ";\n" + config
			}
		}
		config = strings.NewReplacer("BLOCK", block).Replace(config)
		config = strings.NewReplacer("LISTEN", addr, "UPSTREAM", to, "LIMIT", strconv.Itoa(openFiles())).Replace(config)
		return startProgram(ctx, addr, "nginx.conf", config, "nginx", "-p", "DIR", "-e", "stderr", "-c", "DIR/nginx.conf")
	}}
}

// The worker is the user of the bench: another could not enter the folder. Of
// its connections it ends idle ones once few are left, hence so many.
const nginxConfig = `daemon off;
user root;
worker_processes 1;
worker_rlimit_nofile LIMIT;
pid DIR/nginx.pid;
error_log stderr error;
events { worker_connections 50000; }
BLOCK
`

const nginxPaths = `
  access_log off;
  client_body_temp_path DIR/body;
  proxy_temp_path DIR/proxy;
  fastcgi_temp_path DIR/fastcgi;
  uwsgi_temp_path DIR/uwsgi;
  scgi_temp_path DIR/scgi;
  keepalive_timeout 10m;
  keepalive_requests 1000000000;
  upstream out { server UPSTREAM; keepalive 1024; keepalive_requests 1000000000; }
`

const nginxHTTP1 = `http {` + nginxPaths + `
  server {
    listen LISTEN;
    location / { proxy_pass http://out; proxy_http_version 1.1; proxy_set_header Connection ""; }
  }
}`

const nginxHTTP2 = `http {` + nginxPaths + `
  server {
    listen LISTEN http2;
    location / { proxy_pass http://out; proxy_http_version 1.1; proxy_set_header Connection ""; }
  }
}`

const nginxGRPC = `http {` + nginxPaths + `
  server {
    listen LISTEN http2;
    location / { grpc_pass grpc://out; }
  }
}`

const nginxStream = `stream {
  server { listen LISTEN; proxy_pass UPSTREAM; }
}`

// caddy is Debian's, with neither its log nor its administration.
var caddy = peer{"caddy", func(ctx context.Context, to string) (*server, error) {
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	config := strings.NewReplacer("PORT", port, "UPSTREAM", to).Replace(caddyConfig)
	return startProgram(ctx, addr, "Caddyfile", config, "caddy", "run", "--config", "DIR/Caddyfile", "--adapter", "caddyfile")
}}

const caddyConfig = `{
	admin off
	auto_https off
}
http://:PORT {
	bind 127.0.0.1
	reverse_proxy UPSTREAM
}
`

//go:embed testdata/relay.c
var relaySource []byte

// relayInC is compiled when it is started.
var relayInC = peer{"blind relay in C", func(ctx context.Context, to string) (*server, error) {
	compiler, err := exec.LookPath("gcc")
	if err != nil {
		return nil, fmt.Errorf("gcc: %w", errMissing)
	}
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	_, upstream, err := net.SplitHostPort(to)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "bench-relay-")
	if err != nil {
		return nil, err
	}
	cleanUp := func() { _ = os.RemoveAll(dir) }
	source, program := filepath.Join(dir, "relay.c"), filepath.Join(dir, "relay")
	if err := os.WriteFile(source, relaySource, 0o600); err != nil {
		cleanUp()
		return nil, err
	}
	if told, err := exec.CommandContext(ctx, compiler, "-O2", "-Wall", "-o", program, source).CombinedOutput(); err != nil {
		cleanUp()
		return nil, fmt.Errorf("compile the relay: %w: %s", err, told)
	}
	s := &server{addr: addr, cmd: onCore(ctx, proxyCore, program, port, upstream), ends: []func(){cleanUp}}
	return s, s.launch(ctx)
}}
