package decision

import (
	"bytes"
	"net/netip"
	"strconv"

	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/xds"
)

// AppendSentence appends one plain sentence that tells an operator why the
// exchange ended as it did: which entry, which endpoint, what happened, what
// to do. It appends nothing for a Record whose Reason is OK.
func (r *Record) AppendSentence(dst []byte) []byte {
	switch r.Reason {
	case OK:
		return dst
	case NotDeclared:
		dst = r.AppendUndeclared(dst)
		if r.Declared != nil {
			dst = append(dst, ',')
		}
		dst = append(dst, " and the outbound policy is REGISTRY_ONLY; "...)
		dst = r.appendAdvice(dst, " to allow it")
		dst = r.appendErr(dst)
	case NoRoute:
		dst = append(dst, "no route of "...)
		dst = r.appendEntry(dst)
		dst = append(dst, " matches this request for "...)
		dst = r.appendTarget(dst)
		dst = r.appendErr(dst)
	case NoCluster:
		dst = append(dst, "the route for "...)
		dst = r.appendTarget(dst)
		dst = append(dst, " leads to cluster "...)
		dst = append(dst, r.Cluster...)
		dst = append(dst, ", which does not exist; check the destination and its port in "...)
		dst = r.appendEntry(dst)
	case NoEndpoint:
		dst = r.appendEntry(dst)
		dst = append(dst, " has no endpoint to send "...)
		dst = r.appendTarget(dst)
		dst = append(dst, " to"...)
		if r.Behind != nil {
			dst = r.appendBehind(dst)
			break
		}
		switch r.DNS {
		case Negative:
			dst = append(dst, ": the name has no address"...)
		case Never:
			dst = append(dst, ": the name was never resolved"...)
		case NotResolved:
			if r.Endpoints == 0 && r.Err == "" {
				dst = append(dst, ": it lists none"...)
			}
		case Fresh, Stale:
		}
		dst = r.appendErr(dst)
		if r.DNSError != "" {
			dst = append(dst, " ("...)
			dst = append(dst, r.DNSError...)
			dst = append(dst, ')')
		}
	case ConnectFailed:
		dst = r.appendEntry(dst)
		dst = append(dst, ": connection to endpoint "...)
		dst = r.appendEndpoint(dst)
		dst = append(dst, " failed: "...)
		dst = append(dst, r.Err...)
		dst = r.appendTries(dst)
	case UpstreamReset:
		dst = r.appendEntry(dst)
		dst = append(dst, ": endpoint "...)
		dst = r.appendEndpoint(dst)
		what := " ended the connection"
		if r.Flags&UR != 0 {
			what = " ended the stream"
		}
		dst = append(dst, what...)
		dst = append(dst, " before its answer was complete"...)
		dst = r.appendErr(dst)
		dst = r.appendTries(dst)
	case UpstreamBroken:
		dst = r.appendEntry(dst)
		dst = append(dst, ": endpoint "...)
		dst = r.appendEndpoint(dst)
		dst = append(dst, " sent an answer that is not valid in the protocol spoken with it"...)
		dst = r.appendErr(dst)
	case BadRequest:
		dst = append(dst, "the request breaks HTTP and was refused"...)
		dst = r.appendErr(dst)
	case TooLarge:
		dst = append(dst, "the request head is over the proxy's limit"...)
		dst = r.appendErr(dst)
	case Timeout:
		dst = r.appendEntry(dst)
		dst = append(dst, ": no answer from endpoint "...)
		dst = r.appendEndpoint(dst)
		dst = append(dst, " in time"...)
		dst = r.appendErr(dst)
	case ClientGone:
		dst = append(dst, "the caller ended the connection before the answer was complete"...)
	case Overload:
		dst = append(dst, "the proxy is at a limit of its own"...)
		dst = r.appendErr(dst)
	case Loop:
		dst = append(dst, "the destination "...)
		dst = appendAddr(dst, r.Original)
		dst = append(dst, " is the workload or its proxy itself, which cannot be reached through the proxy; the connection was refused as a loop"...)
		dst = r.appendErr(dst)
	case PortHeld:
		dst = r.appendHeld(dst)
	case NotReady:
		dst = append(dst, "the proxy has no configuration yet and lets nothing out until it has; try again, and see fairlead proxy-status if this lasts"...)
		dst = r.appendErr(dst)
	case Internal:
		dst = append(dst, "the proxy failed while it served this, a fault of its own; its log holds the details"...)
		dst = r.appendErr(dst)
	case Drained:
		dst = append(dst, "the proxy was ended while this was in progress, and cut it off"...)
		dst = r.appendErr(dst)
	case UpgradeRefused:
		dst = append(dst, "upgrades other than websocket are not allowed here"...)
		dst = r.appendErr(dst)
	}
	return append(dst, '.')
}

// Sentence is AppendSentence as a string.
func (r *Record) Sentence() string { return string(r.AppendSentence(nil)) }

// appendHeld tells whose connections those to a port are, and what would keep
// them apart.
func (r *Record) appendHeld(dst []byte) []byte {
	dst = append(dst, "port "...)
	dst = strconv.AppendUint(dst, uint64(r.Original.Port()), 10)
	dst = append(dst, " of "...)
	dst = r.appendTarget(dst)
	dst = append(dst, " is refused: "...)
	if r.HolderEntry != (mesh.Ref{}) {
		dst = r.HolderEntry.AppendWhere(dst)
		dst = append(dst, " holds connections to it for host "...)
		dst = append(dst, r.Holder...)
	} else {
		dst = append(dst, "another host holds connections to it"...)
	}
	dst = append(dst, ", and an address does not tell which of the two is meant; give "...)
	dst = r.appendEntry(dst)
	return append(dst, " spec.addresses of its own or another port, or let it have a virtual address"...)
}

// appendTarget names the destination by the best name known (authority, SNI, DNS
// name) and adds the address, unless that is the name already.
func (r *Record) appendTarget(dst []byte) []byte {
	begin := len(dst)
	switch {
	case len(r.Authority) > 0:
		dst = append(dst, r.Authority...)
	case r.SNI != "":
		dst = append(dst, r.SNI...)
	case r.Name != "":
		dst = append(dst, r.Name...)
	default:
		return appendAddr(dst, r.Original)
	}
	if !r.Original.IsValid() {
		return dst
	}
	end := len(dst)
	dst = append(dst, " ("...)
	dst = r.Original.AppendTo(dst)
	name, addr := dst[begin:end], dst[end+2:]
	if rest, ok := bytes.CutPrefix(addr, name); ok && (len(rest) == 0 || rest[0] == ':') {
		return append(dst[:begin], addr...)
	}
	return append(dst, ')')
}

func (r *Record) appendEntry(dst []byte) []byte {
	if r.Entry != (mesh.Ref{}) {
		return r.Entry.AppendWhere(dst)
	}
	switch r.Cluster {
	case "":
	case xds.PassthroughCluster, xds.BlackHoleCluster:
		dst = append(dst, r.Cluster...)
		return append(dst, " (for what no ServiceEntry visible here declares, by host, port and protocol)"...)
	default:
		dst = append(dst, "cluster "...)
		return append(dst, r.Cluster...)
	}
	return append(dst, "the original destination"...)
}

func (r *Record) appendEndpoint(dst []byte) []byte {
	if r.EndpointName != "" {
		dst = append(dst, r.EndpointName...)
		if !r.Endpoint.IsValid() {
			return dst
		}
		dst = append(dst, " at "...)
	}
	return appendAddr(dst, r.Endpoint)
}

func appendAddr(dst []byte, a netip.AddrPort) []byte {
	if !a.IsValid() {
		return append(dst, "an unknown address"...)
	}
	return a.AppendTo(dst)
}

func (r *Record) appendErr(dst []byte) []byte {
	if r.Err == "" {
		return dst
	}
	dst = append(dst, ": "...)
	return append(dst, r.Err...)
}

// appendTries tells how often it was tried, and why no more often if that was not
// as the route says.
func (r *Record) appendTries(dst []byte) []byte {
	switch {
	case r.Tries < 2:
	case r.Endpoints > 1: // some of the tries may have been elsewhere
		dst = append(dst, " (the last of "...)
		dst = strconv.AppendUint(dst, uint64(r.Tries), 10)
		dst = append(dst, " tries among "...)
		dst = strconv.AppendInt(dst, int64(r.Endpoints), 10)
		dst = append(dst, " endpoints)"...)
	default:
		dst = append(dst, " (tried "...)
		dst = strconv.AppendUint(dst, uint64(r.Tries), 10)
		dst = append(dst, " times)"...)
	}
	if r.Flags&UO != 0 {
		dst = append(dst, "; it was not tried again, as enough of the requests in progress there are retries"...)
	}
	return dst
}
