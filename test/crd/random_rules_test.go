package crd

import (
	"math/rand/v2"
	"strings"
)

// randomHost draws one that a rule is for, or leads to.
func randomHost(r *rand.Rand) string {
	return pick(r, "a.example", "b.example", "c.example", "*.d.example", "short", "*", "", "Upper.example", "192.0.2.1")
}

func randomDuration(r *rand.Rand) string {
	return pick(r, "1s", "1m30s", "1ms", "2h", rarely(r, "3s", pick(r, "0s", "0.5ms", "1.5s", "-1s", "soon")))
}

// rarely draws the second value one time in ten.
func rarely[T any](r *rand.Rand, usual, other T) T {
	if r.IntN(10) == 0 {
		return other
	}
	return usual
}

func randomDestination(r *rand.Rand) fields {
	return fields{}.often(r, 30, "host", rarely(r, "a.example", randomHost(r))).
		maybe(r, 6, "subset", rarely(r, "v1", "V_1")).
		maybe(r, 4, "port", fields{}.often(r, 20, "number", rarely(r, 443, pick(r, 0, 65536))))
}

func randomRoute(r *rand.Rand) []any {
	one := func() any {
		return fields{}.often(r, 30, "destination", randomDestination(r)).often(r, 4, "weight", pick(r, 1, 50, 100, 0, rarely(r, 1, -1)))
	}
	return rarely(r, []any{one()}, some(r, 2, one))
}

func randomString(r *rand.Rand) fields {
	f := fields{pick(r, "exact", "prefix", "regex"): rarely(r, pick(r, "/a", "/", "a.*"), pick(r, "(", ""))}
	if r.IntN(30) == 0 {
		f[pick(r, "exact", "prefix", "regex")] = "/c"
	}
	return f
}

func randomHTTPMatch(r *rand.Rand) fields {
	strings := func() fields { return fields{rarely(r, "x-a", pick(r, "", "a b", ":method")): randomString(r)} }
	return fields{}.
		maybe(r, 2, "uri", randomString(r)).
		maybe(r, 6, "method", randomString(r)).
		maybe(r, 6, "authority", randomString(r)).
		maybe(r, 6, "headers", strings()).
		maybe(r, 6, "withoutHeaders", strings()).
		maybe(r, 6, "queryParams", strings()).
		maybe(r, 6, "port", rarely[any](r, 80, pick(r, 65535, 0, 65536, -1))).
		maybe(r, 6, "sourceLabels", fields{"app": "a"}).
		maybe(r, 6, "gateways", []any{rarely(r, "mesh", "B/c")}).
		maybe(r, 6, "sourceNamespace", "b").
		maybe(r, 6, "ignoreUriCase", true)
}

func randomHTTPRoute(r *rand.Rand) fields {
	percentage := func() fields { return fields{"value": pick(r, 0, 0.5, 100, rarely(r, 1.0, -1), rarely(r, 1, 100.1))} }
	changes := func() fields {
		return fields{"set": fields{rarely(r, "x-a", "host"): "b"}, "remove": []any{rarely(r, "x-b", "")}}
	}
	f := fields{}
	switch r.IntN(8) {
	case 0:
		f["redirect"] = fields{}.often(r, 5, "uri", "/b").maybe(r, 4, "scheme", "https").
			maybe(r, 4, "port", pick(r, 443, 0)).maybe(r, 4, "derivePort", pick(r, "FROM_REQUEST_PORT", "other")).
			maybe(r, 3, "redirectCode", pick(r, 301, 308, 399, 200))
	case 1:
		f["directResponse"] = fields{}.often(r, 8, "status", pick(r, 200, 503, 600, 199)).
			maybe(r, 2, "body", fields{}.often(r, 3, "string", "a").maybe(r, 3, "bytes", pick(r, "YQ==", "?")))
	case 2:
		f["delegate"] = fields{}.often(r, 5, "name", "b").maybe(r, 3, "namespace", "c")
	default:
		f["route"] = randomRoute(r)
	}
	return f.often(r, 3, "match", some(r, 2, func() any { return randomHTTPMatch(r) })).
		maybe(r, 6, "rewrite", fields{}.often(r, 3, "uri", "/c").maybe(r, 3, "uriRegexRewrite", fields{"match": "a", "rewrite": "b"})).
		maybe(r, 4, "timeout", randomDuration(r)).
		maybe(r, 4, "retries", fields{}.often(r, 4, "attempts", pick(r, 0, 1, 3, -1)).maybe(r, 4, "perTryTimeout", randomDuration(r)).
			maybe(r, 4, "retryOn", pick(r, "5xx", "503,reset", "other")).maybe(r, 4, "retryRemoteLocalities", pick[any](r, true, nil)).maybe(r, 4, "backoff", randomDuration(r))).
		maybe(r, 6, "fault", fields{}.
			often(r, 3, "delay", fields{"percentage": percentage()}.often(r, 5, "fixedDelay", randomDuration(r)).maybe(r, 9, "exponentialDelay", "1s")).
			often(r, 3, "abort", fields{"percentage": percentage()}.often(r, 5, "httpStatus", pick(r, 503, 601)).maybe(r, 5, "grpcStatus", pick(r, "INTERNAL", "other")))).
		maybe(r, 6, "mirror", randomDestination(r)).
		maybe(r, 9, "mirrors", some(r, 2, func() any { return fields{"destination": randomDestination(r)}.maybe(r, 2, "percentage", percentage()) })).
		maybe(r, 9, "mirrorPercentage", percentage()).
		maybe(r, 6, "corsPolicy", fields{}.often(r, 3, "allowOrigins", some(r, 2, func() any { return randomString(r) })).
			maybe(r, 3, "maxAge", randomDuration(r)).maybe(r, 3, "unmatchedPreflights", pick(r, "IGNORE", "other"))).
		maybe(r, 6, "headers", fields{pick(r, "request", "response"): changes()})
}

func randomVirtualService(r *rand.Rand) fields {
	connection := func() fields {
		return fields{}.maybe(r, 3, "destinationSubnets", []any{rarely(r, "192.0.2.0/24", "x")}).
			maybe(r, 3, "port", rarely(r, 443, pick(r, 0, 65536)))
	}
	rules := func(one func() fields) []any { return some(r, 2, func() any { return one() }) }
	return fields{}.
		often(r, 15, "hosts", rarely(r, []any{"a.example", "b.example"}, some(r, 2, func() any { return randomHost(r) }))).
		maybe(r, 4, "gateways", some(r, 2, func() any { return rarely(r, "mesh", pick(r, "b/egress", "")) })).
		maybe(r, 6, "exportTo", some(r, 2, func() any { return pick(r, ".", "*", "b", "~") })).
		often(r, 4, "http", rules(func() fields { return randomHTTPRoute(r) })).
		maybe(r, 4, "tcp", rules(func() fields {
			return fields{"route": randomRoute(r)}.often(r, 3, "match", rules(connection))
		})).
		maybe(r, 4, "tls", rules(func() fields {
			return fields{"route": randomRoute(r)}.often(r, 15, "match", rules(func() fields {
				return connection().often(r, 15, "sniHosts", []any{rarely(r, "a.example", randomHost(r))})
			}))
		}))
}

func randomBalancer(r *rand.Rand) fields {
	f := fields{}
	switch r.IntN(4) {
	case 0:
		f["simple"] = pick(r, "RANDOM", "LEAST_REQUEST", "ROUND_ROBIN", "other")
	case 1:
		hash := fields{}.
			maybe(r, 3, "httpHeaderName", pick(r, "x-a", "")).
			maybe(r, 3, "useSourceIp", pick(r, true, false)).
			maybe(r, 3, "httpCookie", fields{}.often(r, 5, "name", pick(r, "a", "")).maybe(r, 2, "ttl", randomDuration(r)).
				maybe(r, 3, "attributes", []any{fields{}.often(r, 3, "name", "a")})).
			maybe(r, 4, "maglev", fields{}.often(r, 5, "tableSize", pick[any](r, 3, 65537, 65536, 5000011, 0, -1))).
			maybe(r, 4, "ringHash", fields{"minimumRingSize": pick[any](r, 1, 0, -1)})
		f["consistentHash"] = hash
	case 2:
		f["localityLbSetting"] = fields{}.
			maybe(r, 2, "enabled", pick[any](r, true, nil)).
			maybe(r, 2, "distribute", []any{fields{"from": pick(r, "eu/*", "eu", "*", "/"), "to": fields{"eu": pick(r, 100, 40), "us/*": pick(r, 60, 0)}}}).
			maybe(r, 3, "failoverPriority", []any{pick(r, "a", "a=b", "")})
	}
	return f.maybe(r, 3, "warmup", fields{}.often(r, 5, "duration", randomDuration(r)).
		maybe(r, 3, "minimumPercent", pick(r, 0, 100, 101)).maybe(r, 3, "aggression", pick(r, 0, 0.5, 2, -1))).
		maybe(r, 9, "zoneAwareLbSetting", fields{"minClusterSize": pick[any](r, 0, 1, nil)})
}

func randomPolicy(r *rand.Rand) fields {
	return fields{}.
		maybe(r, 3, "loadBalancer", randomBalancer(r)).
		maybe(r, 3, "connectionPool", fields{}.
			maybe(r, 2, "tcp", fields{}.maybe(r, 2, "connectTimeout", randomDuration(r)).maybe(r, 2, "idleTimeout", randomDuration(r)).
				maybe(r, 3, "tcpKeepalive", fields{"time": randomDuration(r), "probes": pick[any](r, 3, -1)})).
			maybe(r, 2, "http", fields{}.maybe(r, 2, "http2KeepAlive", fields{"interval": randomDuration(r)}).maybe(r, 2, "maxRetries", pick(r, 1, 0, -1)))).
		maybe(r, 3, "outlierDetection", fields{}.
			maybe(r, 3, "interval", randomDuration(r)).maybe(r, 3, "maxEjectionPercent", pick(r, 0, 100, 101)).
			maybe(r, 3, "consecutive5xxErrors", pick[any](r, 5, 0, -1, nil)).
			maybe(r, 3, "consecutiveLocalOriginFailures", pick(r, 0, 5)).
			maybe(r, 3, "outlierDetectionHttpErrorCodes", []any{pick(r, 100, 599, 99, 600)})).
		maybe(r, 3, "tls", fields{}.often(r, 5, "mode", pick(r, "SIMPLE", "MUTUAL", "DISABLE", "other")).maybe(r, 3, "credentialName", "a").
			maybe(r, 3, "insecureSkipVerify", pick[any](r, true, nil)).maybe(r, 3, "caCertificates", "/a"))
}

func randomDestinationRule(r *rand.Rand) fields {
	policy := func() fields {
		return randomPolicy(r).
			maybe(r, 6, "tunnel", fields{}.often(r, 5, "targetHost", "b.example").often(r, 5, "targetPort", pick(r, 443, 0)).maybe(r, 3, "protocol", pick(r, "POST", "other"))).
			maybe(r, 6, "proxyProtocol", fields{}.maybe(r, 2, "version", pick(r, "V2", "V3"))).
			maybe(r, 6, "retryBudget", fields{}.maybe(r, 2, "percent", pick(r, 0, 100, 101)).maybe(r, 2, "budgetInterval", randomDuration(r))).
			maybe(r, 6, "portLevelSettings", some(r, 2, func() any {
				return randomPolicy(r).often(r, 9, "port", fields{"number": pick(r, 80, 443, 65536)})
			}))
	}
	return fields{}.often(r, 20, "host", randomHost(r)).
		often(r, 3, "trafficPolicy", policy()).
		maybe(r, 3, "subsets", some(r, 2, func() any {
			return fields{}.often(r, 15, "name", pick(r, "v1", "v2", "v3", "V_1")).maybe(r, 2, "labels", randomLabels(r)).maybe(r, 3, "trafficPolicy", policy())
		})).
		maybe(r, 6, "exportTo", []any{pick(r, ".", "*", "~")}).
		maybe(r, 4, "workloadSelector", fields{}.often(r, 4, "matchLabels", randomLabels(r)))
}

func randomPeerAuthentication(r *rand.Rand) fields {
	mode := func() fields { return fields{}.often(r, 5, "mode", pick(r, "STRICT", "PERMISSIVE", "UNSET", "other")) }
	ports := fields{}
	for range r.IntN(3) {
		ports[pick(r, "80", "65535", "443", "0", "65536", strings.Repeat("9", 12), "a", "-1", "+80", "0x50")] = mode()
	}
	return fields{}.often(r, 3, "mtls", mode()).
		often(r, 3, "selector", fields{}.often(r, 5, "matchLabels", rarely(r, fields{"app": "a"}, randomLabels(r)))).
		maybe(r, 2, "portLevelMtls", ports)
}
