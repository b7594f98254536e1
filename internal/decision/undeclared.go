package decision

import (
	"strconv"

	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/xds"
)

// A lack is in what way something is not declared.
type lack uint8

const (
	undeclaredHost lack = iota
	unknownPorts        // the host is, but what exactly is not known
	otherPorts          // the host is, with other ports
	withheldPort        // the port is, but the Sidecar does not import the host for it
	otherProtocol       // the port is, for something else than this
	otherAddress        // the port is, and only an address can lead to it
	noServerName        // the port is, and only a server name can lead to it
)

// lacks says what of the destination is not declared; p is the port that is.
func (r *Record) lacks() (l lack, p *DeclaredPort) {
	d := r.Declared
	if d == nil {
		return undeclaredHost, nil
	}
	p = d.port(r.Original.Port())
	switch {
	case len(d.Ports) == 0:
		return unknownPorts, nil
	case p == nil:
		return otherPorts, nil
	case p.Withheld:
		return withheldPort, p
	case p.Protocol.IsTLS() && r.Protocol == TLS:
		return noServerName, p
	case p.Protocol.IsTLS(), p.Protocol.IsHTTP() && (r.Protocol == TLS || r.Protocol == TCP):
		return otherProtocol, p
	case p.Protocol.IsHTTP():
		return unknownPorts, nil // a request by its Host: what changes just now
	}
	return otherAddress, p
}

// AppendUndeclared appends in what way nothing declares what was asked for: the
// host, its port, or what is spoken there. It is a sentence without its end.
func (r *Record) AppendUndeclared(dst []byte) []byte {
	lack, p := r.lacks()
	switch d := r.Declared; lack {
	case undeclaredHost:
		dst = r.appendTarget(dst)
		dst = append(dst, " is not declared by any ServiceEntry visible here"...)
	case unknownPorts:
		dst = r.appendTarget(dst)
		dst = append(dst, " is not declared with this port and protocol by "...)
		dst = d.Entry.AppendWhere(dst)
		dst = append(dst, ", which declares the host"...)
	case otherPorts:
		dst = r.appendTarget(dst)
		dst = append(dst, " is not declared"...)
		if r.isConnect() { // whose target names another port
			dst = append(dst, " on port "...)
			dst = strconv.AppendUint(dst, uint64(r.Original.Port()), 10)
		}
		dst = append(dst, ": "...)
		dst = d.Entry.AppendWhere(dst)
		dst = append(dst, " declares host "...)
		dst = append(dst, d.Host...)
		dst = append(dst, " with "...)
		dst = appendPorts(dst, d.Ports)
		dst = append(dst, " only"...)
	case withheldPort:
		dst = d.Sidecar.AppendWhere(dst)
		dst = append(dst, " imports host "...)
		dst = append(dst, d.Host...)
		dst = append(dst, " of "...)
		dst = d.Entry.AppendWhere(dst)
		dst = append(dst, ", but not for port "...)
		dst = strconv.AppendUint(dst, uint64(p.Number), 10)
	case otherProtocol, otherAddress, noServerName:
		dst = d.Entry.AppendWhere(dst)
		dst = append(dst, " declares port "...)
		dst = strconv.AppendUint(dst, uint64(p.Number), 10)
		dst = append(dst, " of host "...)
		dst = append(dst, d.Host...)
		dst = append(dst, " for "...)
		dst = append(dst, spoken(p.Protocol)...)
		dst = r.appendInstead(dst, lack)
	}
	return dst
}

func (r *Record) isConnect() bool { return string(r.Method) == "CONNECT" && r.Original.IsValid() }

// appendInstead says what was found where a port is declared.
func (r *Record) appendInstead(dst []byte, l lack) []byte {
	switch {
	case l == otherAddress:
		dst = append(dst, ", which goes by address, and "...)
		if !r.Original.Addr().IsValid() {
			return append(dst, "the caller's is none that leads to it"...)
		}
		dst = r.Original.Addr().AppendTo(dst)
		return append(dst, " is none that leads to it"...)
	case l == noServerName:
		if r.SNI == "" {
			return append(dst, " and this TLS names no server"...)
		}
		return append(dst, " and this TLS names another server"...)
	case r.Protocol == TLS:
		return append(dst, " and this is TLS"...)
	case r.Protocol == TCP || r.Protocol == Unknown:
		return append(dst, " and this is something else"...)
	}
	dst = append(dst, " and this is plain "...)
	return append(dst, r.Protocol.String()...)
}

// appendAdvice says what to do about what AppendUndeclared tells, and what for
// where that is to declare something.
func (r *Record) appendAdvice(dst []byte, purpose string) []byte {
	lack, p := r.lacks()
	if r.isConnect() && lack != withheldPort {
		return r.appendToHear(dst, r.Name)
	}
	switch lack {
	case undeclaredHost:
		dst = append(dst, "declare the host and port in a ServiceEntry"...)
		dst = append(dst, purpose...)
	case unknownPorts:
		dst = append(dst, "declare them there"...)
		dst = append(dst, purpose...)
	case otherPorts:
		dst = append(dst, "declare port "...)
		dst = strconv.AppendUint(dst, uint64(r.Original.Port()), 10)
		dst = append(dst, " there"...)
		dst = append(dst, purpose...)
	case withheldPort:
		dst = append(dst, "add the host to the listener of that port there"...)
		dst = append(dst, purpose...)
	case otherProtocol:
		dst = append(dst, "speak "...)
		dst = append(dst, spoken(p.Protocol)...)
		dst = append(dst, " there, or declare the port with the protocol that is spoken"...)
	case otherAddress:
		dst = append(dst, "use an address that DNS gives for the host here, or list this one in spec.addresses"...)
	case noServerName:
		dst = append(dst, "let the caller send the host as server name (SNI)"...)
	}
	return dst
}

// appendToHear says how a host is declared that is to get what is sent to it,
// though that names another one, as a proxy is; an empty host is not known.
func (r *Record) appendToHear(dst []byte, host string) []byte {
	dst = append(dst, "declare port "...)
	dst = strconv.AppendUint(dst, uint64(r.Original.Port()), 10)
	dst = append(dst, " of "...)
	if host == "" {
		host = "the proxy that it was sent to"
	}
	dst = append(dst, host...)
	dst = append(dst, " as TCP, so that it gets whatever comes there, or the host that is named on that port"...)
	return dst
}

// appendBehind tells that a virtual address leads to nothing else than its host,
// which has no address. It follows "has no endpoint to send … to".
func (r *Record) appendBehind(dst []byte) []byte {
	dst = append(dst, ": that is the virtual address of "...)
	dst = append(dst, r.Behind.Host...)
	if r.DNS == Never {
		dst = append(dst, ", whose own address was never learnt"...)
	} else {
		dst = append(dst, ", which has no address of its own"...)
	}
	if r.DNSError != "" {
		dst = append(dst, " ("...)
		dst = append(dst, r.DNSError...)
		dst = append(dst, ')')
	}
	switch {
	case r.Cluster != xds.PassthroughCluster: // something declares it, though not there
		return dst
	case r.Declared == nil:
		dst = append(dst, "; "...)
		return r.appendToHear(dst, r.Behind.Host)
	}
	dst = append(dst, "; "...)
	dst = r.AppendUndeclared(dst)
	dst = append(dst, ": "...)
	return r.appendAdvice(dst, "")
}

// spoken is a protocol as sentences have it.
func spoken(p mesh.Protocol) string {
	if p == mesh.Unset {
		return "whatever is spoken"
	}
	return p.String()
}

func appendPorts(dst []byte, ports []DeclaredPort) []byte {
	dst = append(dst, "port"...)
	if len(ports) > 1 {
		dst = append(dst, 's')
	}
	for i, p := range ports {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, ' ')
		dst = strconv.AppendUint(dst, uint64(p.Number), 10)
		if p.Protocol != mesh.Unset {
			dst = append(dst, ' ')
			dst = append(dst, p.Protocol.String()...)
		}
	}
	return dst
}
