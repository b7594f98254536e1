package api

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/durationpb"
	networking "istio.io/api/networking/v1alpha3"
)

// longestRegex is what Istio takes: a bound on the work of every request.
const longestRegex = 1024

// Bounds of the body of a direct response, in bytes: above the first it is a
// burden to each proxy, above the second Istio refuses it.
const (
	largeBody   = 100 << 10
	largestBody = 1 << 20
)

func (v *validator) httpRoute(r *routing, field string, h *networking.HTTPRoute) {
	v.httpAction(r, field, h)
	for i, m := range h.Match {
		v.httpMatch(index(field+".match", i), m)
	}
	v.httpDestinations(r, field+".route", h.Route)
	v.redirect(field+".redirect", h.Redirect)
	v.directResponse(field+".directResponse", h.DirectResponse)
	v.rewrite(field, h)
	v.headers(field+".headers", h.Headers)
	v.timeout(field+".timeout", h.Timeout)
	v.retries(field+".retries", h.Retries)
	v.fault(field+".fault", h.Fault)
	v.mirrors(r, field, h)
	v.cors(field+".corsPolicy", h.CorsPolicy)
}

// A part is a field that may be there.
type part struct {
	name  string
	there bool
}

// excludes refuses the parts that cannot go with what.
func (v *validator) excludes(field, what string, parts ...part) {
	for _, p := range parts {
		if p.there {
			v.err(join(field, p.name), "cannot go with %s; remove one", what)
		}
	}
}

// httpAction checks that a rule does one thing.
func (v *validator) httpAction(r *routing, field string, h *networking.HTTPRoute) {
	var (
		route    = part{"route", len(h.Route) > 0}
		redirect = part{"redirect", h.Redirect != nil}
		direct   = part{"directResponse", h.DirectResponse != nil}
		rewrite  = part{"rewrite", h.Rewrite != nil}
		fault    = part{"fault", h.Fault != nil}
	)
	switch {
	case h.Delegate != nil:
		if r.delegated {
			v.err(field+".delegate", "others delegate to a VirtualService without hosts, and it cannot delegate further; route here")
		}
		v.excludes(field, "delegate", route, redirect, direct)
		v.delegate(field+".delegate", h.Delegate)
	case redirect.there:
		v.excludes(field, "redirect", route, direct, rewrite, fault)
	case direct.there:
		v.excludes(field, "directResponse", route, rewrite)
	case !route.there:
		v.err(field, "does nothing with the request; give it route, redirect or directResponse")
	}
}

func (v *validator) delegate(field string, d *networking.Delegate) {
	if d.Name == "" {
		v.err(field+".name", "names no VirtualService; name the one to delegate to")
	} else if fault := subdomainFault(d.Name); fault != "" {
		v.err(field+".name", "%s is no name of an object: %s", quote(d.Name), fault)
	}
	if d.Namespace != "" && labelFault(d.Namespace) != "" {
		v.err(field+".namespace", "%s is no namespace: %s", quote(d.Namespace), labelFault(d.Namespace))
	}
}

func (v *validator) httpMatch(field string, m *networking.HTTPMatchRequest) {
	for _, f := range []struct {
		name string
		is   *networking.StringMatch
	}{{"uri", m.Uri}, {"scheme", m.Scheme}, {"method", m.Method}, {"authority", m.Authority}} {
		v.stringMatch(join(field, f.name), f.is)
	}
	for _, path := range []string{m.Uri.GetPrefix(), m.Uri.GetExact()} {
		if path != "" && path[0] != '/' && path != "*" {
			v.warn(field+".uri", "no path begins with %s, so nothing matches; write %s", quote(path), quote("/"+path))
		}
	}
	for _, f := range []struct {
		name    string
		headers map[string]*networking.StringMatch
		header  bool
	}{{"headers", m.Headers, true}, {"withoutHeaders", m.WithoutHeaders, true}, {"queryParams", m.QueryParams, false}} {
		field := join(field, f.name)
		for _, name := range slices.Sorted(maps.Keys(f.headers)) {
			v.stringMatch(join(field, name), f.headers[name])
			if f.header {
				v.matchedHeader(join(field, name), name)
			}
		}
	}
	v.matchSource(field, m.Port, m.SourceLabels, m.Gateways, m.SourceNamespace)
	if len(m.Gateways) == 0 {
		return
	}
	if len(m.SourceLabels) > 0 {
		v.warn(field+".sourceLabels", "Istio does not look at it in a match with gateways; split the match in two")
	}
	if m.SourceNamespace != "" {
		v.warn(field+".sourceNamespace", "Istio does not look at it in a match with gateways; split the match in two")
	}
}

// matchedHeader checks the name of a header that a request is to have. Claims of
// a token are matched as if they were headers.
func (v *validator) matchedHeader(field, name string) {
	switch {
	case name == "":
		v.err(field, "names no header; name one")
	case strings.HasPrefix(name, "@request.auth.claims"), headerFault(strings.TrimPrefix(name, ":")) == "":
	default:
		v.warn(field, "%s is no name of a header, so no request has it: %s", quote(name), headerFault(name))
	}
}

func (v *validator) stringMatch(field string, m *networking.StringMatch) {
	if r, ok := m.GetMatchType().(*networking.StringMatch_Regex); ok {
		v.regex(field+".regex", r.Regex)
	}
}

func (v *validator) regex(field, text string) {
	if text == "" {
		v.err(field, "is empty; write an expression, or remove it")
		return
	}
	if len(text) > longestRegex {
		v.err(field, "has %d characters, at most %d are allowed; split it into several matches", len(text), longestRegex)
		return
	}
	if _, err := regexp.Compile(text); err != nil {
		v.err(field, "%s is no expression of RE2: %s", quote(text), strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
}

func (v *validator) httpDestinations(r *routing, field string, route []*networking.HTTPRouteDestination) {
	w := weights{validator: v, field: field}
	for i, d := range route {
		v.neededDestination(r, index(field, i)+".destination", d.Destination)
		v.headers(index(field, i)+".headers", d.Headers)
		w.add(d.Weight)
	}
	w.check()
}

func (v *validator) redirect(field string, d *networking.HTTPRedirect) {
	if d == nil {
		return
	}
	if d.Uri == "" && d.PrefixRewrite == "" && d.Authority == "" && d.Scheme == "" && d.RedirectPort == nil {
		v.err(field, "leads to where the request came from; give it uri, prefixRewrite, authority, port, derivePort or scheme")
	}
	if d.Uri != "" && d.PrefixRewrite != "" {
		v.err(field+".prefixRewrite", "cannot go with uri, which replaces the whole path; remove one")
	}
	if p, ok := d.RedirectPort.(*networking.HTTPRedirect_Port); ok && (p.Port == 0 || p.Port > 65535) {
		v.err(field+".port", "%d is no port; use 1 to 65535", p.Port)
	}
	switch code := d.RedirectCode; {
	case code == 0:
	case code < 300 || code > 399:
		v.err(field+".redirectCode", "%d is no redirect; use 301, 302, 303, 307 or 308", code)
	case !slices.Contains([]uint32{301, 302, 303, 307, 308}, code):
		v.warn(field+".redirectCode", "Istio takes %d and makes a rule of it that does nothing; use 301, 302, 303, 307 or 308", code)
	}
}

func (v *validator) directResponse(field string, d *networking.HTTPDirectResponse) {
	if d == nil {
		return
	}
	v.httpStatus(field+".status", int64(d.Status))
	size, field := len(d.Body.GetString_())+len(d.Body.GetBytes()), field+".body"
	switch {
	case size > largestBody:
		v.err(field, "has %d bytes, at most %d are allowed; serve it from a host", size, largestBody)
	case size > largeBody:
		v.warn(field, "has %d bytes, which every proxy holds; serve what is larger than %d from a host", size, largeBody)
	}
}

// httpStatus checks a status that a proxy is to answer with.
func (v *validator) httpStatus(field string, status int64) {
	if status < 200 || status > 600 {
		v.err(field, "%d is no status to answer with; use 200 to 600", status)
	}
}

// rewrite checks what a rule makes of the request, its authority above all,
// which may be set in one place.
func (v *validator) rewrite(field string, h *networking.HTTPRoute) {
	authorities := []string{}
	if w := h.Rewrite; w != nil {
		field := field + ".rewrite"
		if w.Authority != "" {
			authorities = append(authorities, field+".authority")
		}
		v.rewritten(field, w)
	}
	for _, f := range []struct {
		name   string
		values map[string]string
	}{{"set", h.Headers.GetRequest().GetSet()}, {"add", h.Headers.GetRequest().GetAdd()}} {
		for _, name := range slices.Sorted(maps.Keys(f.values)) {
			if isAuthority(name) {
				authorities = append(authorities, join(field+".headers.request."+f.name, name))
			}
		}
	}
	for _, other := range authorities[min(1, len(authorities)):] {
		v.err(other, "the authority is set by %s already; leave one", authorities[0])
	}
}

func (v *validator) rewritten(field string, w *networking.HTTPRewrite) {
	x := w.UriRegexRewrite
	switch {
	case w.Uri == "" && x == nil && w.Authority == "":
		v.err(field, "rewrites nothing; give it uri, uriRegexRewrite or authority")
	case w.Uri != "" && x != nil:
		v.err(field+".uriRegexRewrite", "cannot go with uri; remove one")
	}
	if x == nil {
		return
	}
	field += ".uriRegexRewrite"
	v.regex(field+".match", x.Match)
	if x.Rewrite == "" {
		v.err(field+".rewrite", "is empty; write what is to stand in place of the match")
	}
}

// timeout checks that of a request, for which 0 is not how to have none.
func (v *validator) timeout(field string, d *durationpb.Duration) {
	if d != nil && d.AsDuration() == 0 {
		v.err(field, "0s is not allowed; remove the field to wait without limit, or use 1ms or more")
		return
	}
	v.optionalDuration(field, d)
}

func (v *validator) headers(field string, h *networking.Headers) {
	for _, side := range []struct {
		name string
		ops  *networking.Headers_HeaderOperations
	}{{"request", h.GetRequest()}, {"response", h.GetResponse()}} {
		field := join(field, side.name)
		for _, f := range []struct {
			name   string
			values map[string]string
		}{{"set", side.ops.GetSet()}, {"add", side.ops.GetAdd()}} {
			for _, name := range slices.Sorted(maps.Keys(f.values)) {
				field := join(join(field, f.name), name)
				if side.name != "request" || !isAuthority(name) {
					v.changedHeader(field, name)
				}
				if strings.ContainsAny(f.values[name], "\r\n\x00") {
					v.err(field, "the value of a header is one line; remove its line breaks")
				}
			}
		}
		for i, name := range side.ops.GetRemove() {
			v.changedHeader(index(join(field, "remove"), i), name)
		}
	}
}

func (v *validator) changedHeader(field, name string) {
	switch {
	case strings.HasPrefix(name, ":") || strings.EqualFold(name, "host"):
		v.err(field, "%s is no header that can be changed here; remove it (rewrite changes the path and the authority)", quote(name))
	case headerFault(name) != "":
		v.err(field, "%s is no name of a header: %s", quote(name), headerFault(name))
	}
}

func isAuthority(name string) bool {
	return strings.EqualFold(name, "host") || strings.EqualFold(name, ":authority")
}

// headerFault says what keeps s from being the name of a header, or "".
func headerFault(s string) string {
	if s == "" {
		return "it is empty"
	}
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return "only letters, digits, hyphens and the like are allowed, no spaces or colons"
		}
	}
	return ""
}
