// Package decode turns resources as they come over the wire into what the proxy
// works with. Protobuf stops here; the bytes are kept beside each value, for
// proxy-config to show.
//
// Nothing is skipped in silence: a field that is set and not understood is an
// error that names resource and field, so that a control plane which asks for
// more than the proxy does hears of it. The few fields that may be ignored are
// listed, each with its reason. The input is not trusted: depth and counts are
// bounded, and names, addresses and ports are parsed into their types.
package decode

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/hostname"
	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/xds"
	"github.com/fairlead/fairlead/internal/xds/fairleadpb"
)

// Bounds on what one resource may hold.
const (
	maxEndpoints  = 100_000
	maxChains     = 100_000
	maxDomains    = 10_000
	maxRoutes     = 10_000
	maxAddresses  = 1_000
	maxRefused    = 100_000 // ports of a host, by who holds them
	maxWithin     = 10_000
	maxPorts      = 64 // of a host, as far as they are told
	maxShortNames = 8
	maxName       = 4_096 // bytes of any name
	// maxApplication is what ALPN has room for.
	maxApplication = 255
)

// resource begins an error about a resource.
func resource(typeURL, name string, err error) error {
	if len(name) > 256 {
		name = name[:256] + "…"
	}
	return fmt.Errorf("%s %q: %w", xds.ShortType(typeURL), name, err)
}

// named checks that a message is of the resource that it came as.
func named(got, want string) error {
	switch {
	case want == "":
		return errors.New("a resource without a name")
	case len(want) > maxName:
		return fmt.Errorf("its name is longer than %d bytes", maxName)
	case got != want:
		return fmt.Errorf("the message in it is named %q", got)
	}
	return nil
}

// Name decodes a declared name.
func Name(name string, raw []byte) (*config.Name, error) {
	n, err := nameOf(name, raw)
	if err != nil {
		return nil, resource(xds.NameType, name, err)
	}
	return n, nil
}

func nameOf(name string, raw []byte) (*config.Name, error) {
	var m fairleadpb.Name
	if err := unmarshal(raw, &m); err != nil {
		return nil, err
	}
	fields := fieldSet{
		"host": acted, "addresses": acted, "source": acted, "virtual": acted, "refused": acted,
		"ports": acted, "narrowed_by": acted, "short_names": acted,
	}
	if err := fields.check("", &m); err != nil {
		return nil, err
	}
	if err := named(m.GetHost(), name); err != nil {
		return nil, err
	}
	if err := canonical(m.GetHost()); err != nil {
		return nil, fmt.Errorf("host: %w", err)
	}
	if len(m.GetAddresses()) > maxAddresses {
		return nil, fmt.Errorf("addresses: more than %d", maxAddresses)
	}
	n := &config.Name{Host: m.GetHost(), Virtual: m.GetVirtual(), Raw: raw}
	for i, a := range m.GetAddresses() {
		ip, err := netip.ParseAddr(a)
		if err != nil || ip.Zone() != "" {
			return nil, fmt.Errorf("%s: %q is no IP address", index("addresses", i), a)
		}
		n.Addresses = append(n.Addresses, ip.Unmap())
	}
	n.Entry = entryOf(m.GetSource())
	if len(m.GetRefused()) > maxRefused {
		return nil, fmt.Errorf("refused: more than %d", maxRefused)
	}
	for i, r := range m.GetRefused() {
		p, err := refusedPort(index("refused", i), r)
		if err != nil {
			return nil, err
		}
		n.Refused = append(n.Refused, p)
	}
	var err error
	if n.Declared, err = declaration(&m, n.Entry); err != nil {
		return nil, err
	}
	if len(m.GetShortNames()) > maxShortNames {
		return nil, fmt.Errorf("short_names: more than %d", maxShortNames)
	}
	for i, short := range m.GetShortNames() {
		if err := canonical(short); err != nil {
			return nil, fmt.Errorf("%s: %w", index("short_names", i), err)
		}
	}
	n.Short = m.GetShortNames()
	return n, nil
}

// declaration is what a name says that its host is declared with.
func declaration(m *fairleadpb.Name, by mesh.Ref) (d decision.Declaration, err error) {
	d = decision.Declaration{Host: m.GetHost(), Entry: by, Sidecar: entryOf(m.GetNarrowedBy())}
	if len(m.GetPorts()) > maxPorts {
		return d, fmt.Errorf("ports: more than %d", maxPorts)
	}
	for i, x := range m.GetPorts() {
		path := index("ports", i)
		protocol, ok := mesh.ParseProtocol(x.GetProtocol())
		switch err := (fieldSet{"number": acted, "protocol": acted, "withheld": acted}).check(path, x); {
		case err != nil:
			return d, err
		case x.GetNumber() == 0 || x.GetNumber() > math.MaxUint16:
			return d, fmt.Errorf("%s.number: %d is no port", path, x.GetNumber())
		case !ok:
			return d, fmt.Errorf("%s.protocol: %q is none", path, x.GetProtocol())
		}
		d.Ports = append(d.Ports, decision.DeclaredPort{Number: uint16(x.GetNumber()), Protocol: protocol, Withheld: x.GetWithheld()})
	}
	return d, nil
}

func refusedPort(path string, m *fairleadpb.RefusedPort) (config.RefusedPort, error) {
	p := config.RefusedPort{RequestsPass: m.GetRequestsPass(), Holder: m.GetHolder(), Entry: entryOf(m.GetSource())}
	fields := fieldSet{"port": acted, "within": acted, "requests_pass": acted, "holder": acted, "source": acted}
	switch err := fields.check(path, m); {
	case err != nil:
		return p, err
	case m.GetPort() == 0 || m.GetPort() > math.MaxUint16:
		return p, fmt.Errorf("%s.port: %d is no port", path, m.GetPort())
	case len(m.GetWithin()) > maxWithin:
		return p, fmt.Errorf("%s.within: more than %d", path, maxWithin)
	case len(m.GetHolder()) > maxName:
		return p, fmt.Errorf("%s.holder: longer than %d bytes", path, maxName)
	}
	p.Port = uint16(m.GetPort())
	for i, text := range m.GetWithin() {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return p, fmt.Errorf("%s: %q is no range of addresses", index(path+".within", i), text)
		}
		p.Within = append(p.Within, prefix)
	}
	return p, nil
}

// entryOf is the object that declared something; the zero Ref if none is named.
func entryOf(s *fairleadpb.Source) mesh.Ref {
	return mesh.Ref{Kind: s.GetKind(), Namespace: s.GetNamespace(), Name: s.GetName(), File: s.GetFile(), Line: int(s.GetLine())}
}

// canonical reports whether s is a host in the form in which hosts are compared.
func canonical(s string) error {
	n, err := hostname.Parse(s)
	if err != nil {
		return fmt.Errorf("%q: %w", s, err)
	}
	if string(n) != s {
		return fmt.Errorf("%q is not in canonical form (%s)", s, n)
	}
	return nil
}

// entry reads the object that declared something out of its metadata. The fields
// named in others are read elsewhere.
func entry(path string, m *corev3.Metadata, others ...string) (mesh.Ref, error) {
	s := m.GetFilterMetadata()[xds.MetadataKey]
	if s == nil {
		return mesh.Ref{}, nil
	}
	path = join(path, "filter_metadata["+xds.MetadataKey+"]")
	var r mesh.Ref
	text := map[string]*string{"kind": &r.Kind, "namespace": &r.Namespace, "name": &r.Name, "file": &r.File}
	for key, v := range s.GetFields() {
		if to := text[key]; to != nil {
			x, ok := v.GetKind().(*structpb.Value_StringValue)
			if !ok || len(x.StringValue) > maxName {
				return r, fmt.Errorf("%s.%s is no text of at most %d bytes", path, key, maxName)
			}
			*to = x.StringValue
			continue
		}
		if key == "line" {
			x := v.GetNumberValue()
			if x < 0 || x > 1<<31-1 || x != float64(int(x)) {
				return r, fmt.Errorf("%s.line is no line number", path)
			}
			r.Line = int(x)
			continue
		}
		if slices.Contains(others, key) {
			continue
		}
		return r, fmt.Errorf("%s.%s is not supported by this proxy", path, key)
	}
	return r, nil
}

// listed reads the addresses that an entry lists out of a cluster's metadata.
func listed(path string, m *corev3.Metadata) ([]netip.Prefix, error) {
	v := m.GetFilterMetadata()[xds.MetadataKey].GetFields()[xds.AddressesKey]
	if v == nil {
		return nil, nil
	}
	path = join(path, "filter_metadata["+xds.MetadataKey+"]."+xds.AddressesKey)
	values := v.GetListValue().GetValues()
	if len(values) == 0 || len(values) > maxAddresses {
		return nil, fmt.Errorf("%s is no list of 1 to %d addresses", path, maxAddresses)
	}
	all := make([]netip.Prefix, 0, len(values))
	for i, x := range values {
		p, err := netip.ParsePrefix(x.GetStringValue())
		if err != nil || p.Addr().Is4In6() {
			return nil, fmt.Errorf("%s: %q is no address with the length of its prefix", index(path, i), x.GetStringValue())
		}
		all = append(all, p)
	}
	return all, nil
}

// socket reads an IP address and port.
func socket(path string, a *corev3.Address) (netip.AddrPort, error) {
	host, port, err := hostPort(path, a)
	if err != nil {
		return netip.AddrPort{}, err
	}
	ip, err := netip.ParseAddr(host)
	if err != nil || ip.Zone() != "" || port == 0 {
		return netip.AddrPort{}, fmt.Errorf("%s: %q port %d is no IP address and port", at(path), host, port)
	}
	return netip.AddrPortFrom(ip.Unmap(), port), nil
}

// hostPort reads an address of any kind; a unix socket is its path and port 0.
func hostPort(path string, a *corev3.Address) (string, uint16, error) {
	if err := (fieldSet{"socket_address": acted, "pipe": acted}).check(path, a); err != nil {
		return "", 0, err
	}
	switch x := a.GetAddress().(type) {
	case *corev3.Address_Pipe:
		if err := (fieldSet{"path": acted}).check(join(path, "pipe"), x.Pipe); err != nil {
			return "", 0, err
		}
		p := x.Pipe.GetPath()
		// The longest path that fits into a socket address.
		if len(p) < 2 || len(p) > 107 || p[0] != '/' && p[0] != '@' || strings.IndexByte(p, 0) >= 0 {
			return "", 0, fmt.Errorf("%s: %q is neither an absolute path nor @ and a name, of at most 107 bytes", join(path, "pipe.path"), p)
		}
		return p, 0, nil
	case *corev3.Address_SocketAddress:
		path = join(path, "socket_address")
		if err := (fieldSet{"protocol": acted, "address": acted, "port_value": acted}).check(path, x.SocketAddress); err != nil {
			return "", 0, err
		}
		if x.SocketAddress.GetProtocol() != corev3.SocketAddress_TCP {
			return "", 0, fmt.Errorf("%s.protocol: only TCP is supported by this proxy", path)
		}
		port := x.SocketAddress.GetPortValue()
		if port == 0 || port > 65535 {
			return "", 0, fmt.Errorf("%s.port_value: %d is no port", path, port)
		}
		host, err := hostname.Parse(x.SocketAddress.GetAddress())
		if err != nil || host.IsWildcard() {
			return "", 0, fmt.Errorf("%s.address: %q is neither an IP address nor a host name", path, x.SocketAddress.GetAddress())
		}
		return string(host), uint16(port), nil
	}
	return "", 0, fmt.Errorf("%s: no address", at(path))
}

// duration reads a duration that must not be negative; absent is 0.
func duration(path string, d *durationpb.Duration) (time.Duration, error) {
	if d == nil {
		return 0, nil
	}
	if err := d.CheckValid(); err != nil || d.AsDuration() < 0 {
		return 0, fmt.Errorf("%s: no valid duration", path)
	}
	return d.AsDuration(), nil
}

// JSON shows the bytes of a resource as protobuf's JSON, on one line, with the
// field names that istioctl prints. Unknown types are an error.
func JSON(typeURL string, raw []byte) ([]byte, error) {
	var m proto.Message
	switch typeURL {
	case xds.ClusterType:
		m = &clusterv3.Cluster{}
	case xds.EndpointType:
		m = &endpointv3.ClusterLoadAssignment{}
	case xds.ListenerType:
		m = &listenerv3.Listener{}
	case xds.RouteType:
		m = &routev3.RouteConfiguration{}
	case xds.VirtualHostType:
		m = &routev3.VirtualHost{}
	case xds.NameType:
		m = &fairleadpb.Name{}
	case xds.ServerNameType:
		m = &fairleadpb.ServerName{}
	default:
		return nil, fmt.Errorf("resource type %q is not known", typeURL)
	}
	if err := unmarshal(raw, m); err != nil {
		return nil, fmt.Errorf("read a %s: %w", xds.ShortType(typeURL), err)
	}
	b, err := protojson.MarshalOptions{}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("show a %s: %w", xds.ShortType(typeURL), err)
	}
	// protojson varies its spaces on purpose; equal resources are to be equal text.
	var out bytes.Buffer
	if err := json.Compact(&out, b); err != nil {
		return nil, fmt.Errorf("show a %s: %w", xds.ShortType(typeURL), err)
	}
	return out.Bytes(), nil
}

// isAddress reports whether the host of an endpoint needs no resolving.
func isAddress(host string) bool {
	if host == "" || host[0] == '/' || host[0] == '@' {
		return true
	}
	_, err := netip.ParseAddr(host)
	return err == nil
}
