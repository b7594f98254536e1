package api

import (
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Every field of MeshConfig, and of the ProxyConfig in its defaultConfig, is in
// one of three lists. A field stands for all that is below it, unless fields
// below it are listed themselves.

// actingFields lists what Mesh reads.
func actingFields() []string {
	return []string{
		"accessLogEncoding",
		"accessLogFile",
		"accessLogFormat",
		"connectTimeout",
		"defaultConfig.proxyHeaders.attemptCount",
		"defaultConfig.proxyHeaders.envoyDebugHeaders",
		"defaultConfig.proxyHeaders.preserveHttp1HeaderCase",
		"defaultConfig.proxyHeaders.requestId",
		"defaultConfig.proxyHeaders.server",
		"defaultConfig.proxyHeaders.xForwardedPort",
		"defaultConfig.proxyMetadata", // by key: see proxyMetadata
		"defaultServiceExportTo",
		"dnsRefreshRate",
		"outboundTrafficPolicy.mode",
		"protocolDetectionTimeout",
		"rootNamespace",
	}
}

// harmlessFields lists what a workload's traffic is the same without.
func harmlessFields() []string {
	return []string{
		// Headers that are never added: all that can be said is to leave them out.
		"defaultConfig.proxyHeaders.metadataExchangeHeaders",
		"defaultConfig.proxyHeaders.xForwardedHost", // when the host is rewritten, which nothing does
		// Requests that come in with the certificate of a caller.
		"defaultConfig.proxyHeaders.forwardedClientCert", "defaultConfig.proxyHeaders.setCurrentClientCertDetails",
		// Gateways, and traffic that comes in through them.
		"ingressClass", "ingressControllerMode", "ingressSelector", "ingressService",
		"defaultConfig.gatewayTopology",
		// Sockets, files and processes that Fairlead has otherwise or not at all.
		"proxyInboundListenPort", "proxyListenPort", "hboneIdleTimeout", "disableEnvoyListenerLog",
		"defaultConfig.binaryPath", "defaultConfig.configPath", "defaultConfig.discoveryAddress", "defaultConfig.discoveryRefreshDelay",
		"defaultConfig.image", "defaultConfig.proxyAdminPort", "defaultConfig.statusPort",
		"defaultConfig.fileFlushInterval", "defaultConfig.fileFlushMinSizeKb",
		"defaultConfig.holdApplicationUntilProxyStarts", // always so
		// Identities, which nothing shows or checks.
		"certificates", "trustDomain", "trustDomainAliases",
		"defaultConfig.controlPlaneAuthPolicy", "defaultConfig.meshId", "defaultConfig.sds",
		// Names of statistics, and how they are fetched.
		"enablePrometheusMerge", "inboundClusterStatName", "outboundClusterStatName",
		"defaultConfig.availabilityZone", "defaultConfig.serviceCluster", "defaultConfig.statNameLength",
		"defaultConfig.statsCompression", "defaultConfig.tracingServiceName",
		// Leave and definitions: what makes use of them is named where it does.
		"enableTracing", "extensionProviders",
	}
}

// An unsupportedField is one that Istio acts on and Fairlead does not.
type unsupportedField struct {
	path string
	why  string // the rest of the sentence "data.mesh.X: …"
	// quiet lists, as JSON, values that ask for nothing: Istio's default, and
	// what Fairlead does anyhow. A field's zero value needs no mention.
	quiet []string
}

// unsupportedFields lists what else there is.
func unsupportedFields() []unsupportedField {
	const (
		noMTLS     = "is not acted on yet: no connection is made with mutual TLS"
		noTracing  = "is not acted on yet: no spans are sent"
		noMetrics  = "is not acted on yet: no statistics are sent or named by it"
		noLocality = "is not acted on yet: endpoints are chosen whatever their locality"
		noLog      = "is not acted on yet: the access log goes to the run's own file, in its own form"
		noEnvoy    = "has no effect: the proxy is not Envoy"
		noInbound  = "is not acted on yet: no traffic to the workload is taken in"
	)
	return []unsupportedField{
		{"ca", "is not acted on yet: no certificate is asked for", nil},
		{"caCertificates", noMTLS, nil},
		{"configSources", "has no effect: objects come from where the command line says", nil},
		{"defaultDestinationRuleExportTo", "is not acted on yet: no DestinationRule is", []string{`["*"]`}},
		{"defaultHttpRetryPolicy", "is not acted on yet: requests are sent again by fixed rules (docs/differences.md)", []string{`{"attempts": 2}`}},
		{"defaultProviders.accessLogging", noLog, nil},
		{"defaultProviders.metrics", noMetrics, []string{`["prometheus"]`}},
		{"defaultProviders.tracing", noTracing, nil},
		{"defaultTrafficPolicy", "is not acted on yet: connections are neither bounded by it nor endpoints ejected", []string{`{}`}},
		{"defaultVirtualServiceExportTo", "is not acted on yet: no VirtualService is", []string{`["*"]`}},
		{"discoverySelectors", "is not acted on yet: objects of every namespace count", nil},
		{"enableAutoMtls", noMTLS, []string{"true", "false"}},
		{"enableEnvoyAccessLogService", noLog, nil},
		{"h2UpgradePolicy", "is not acted on yet: requests leave in the version of HTTP they came in", nil},
		{"inboundTrafficPolicy", noInbound, []string{`{}`}},
		{"localityLbSetting", noLocality, []string{`{}`, `{"enabled": true}`, `{"enabled": false}`}},
		{"meshMTLS", noMTLS, []string{`{}`}},
		{"outboundTrafficPolicy.tls", "is not acted on yet: connections to undeclared hosts leave as they came", nil},
		{"pathNormalization", "is not acted on yet: paths pass as the application wrote them", []string{`{}`, `{"normalization": "BASE"}`, `{"normalization": "NONE"}`}},
		{"proxyHttpPort", "is not acted on yet: no port takes requests as a forward proxy", nil},
		{"serviceEntryVisibility", "is not acted on yet: exportTo alone says who sees an entry", []string{`{}`}},
		{"serviceScopeConfigs", "is not acted on yet: there is one cluster only", nil},
		{"serviceSettings", "is not acted on yet: there is one cluster only", nil},
		{"tcpKeepalive", "is not acted on yet: connections are probed as Fairlead sees fit", []string{`{}`}},
		{"tlsDefaults", "is not acted on yet: no connection is made with TLS", []string{`{}`}},
		{"verifyCertificateAtClient", "is not acted on yet: no connection is made with TLS", nil},
		{"zoneAwareLbSetting", noLocality, []string{`{}`, `{"enabled": false}`}},

		{"defaultConfig.caCertificatesPem", noMTLS, nil},
		{"defaultConfig.concurrency", "has no effect: the proxy uses the processors that it is given", nil},
		{"defaultConfig.connectionSettings", "is not acted on yet: bounds of connections are Fairlead's own", []string{`{}`, `{"profile": "SIDECAR"}`}},
		{"defaultConfig.customConfigFile", noEnvoy, nil},
		{"defaultConfig.drainDuration", "is not acted on yet: connections end with the run", []string{`"45s"`}},
		{"defaultConfig.envoyAccessLogService", noLog, nil},
		{"defaultConfig.envoyMetricsService", noMetrics, nil},
		{"defaultConfig.envoyMetricsServiceAddress", noMetrics, nil},
		{"defaultConfig.extraStatTags", noMetrics, nil},
		{"defaultConfig.interceptionMode", "has no effect: every connection is captured, and its source address stays on this side of the proxy", nil},
		{"defaultConfig.privateKeyProvider", noMTLS, nil},
		{"defaultConfig.proxyBootstrapTemplatePath", noEnvoy, nil},
		{"defaultConfig.proxyStatsMatcher", noMetrics, []string{`{}`}},
		{"defaultConfig.readinessProbe", "is not acted on yet: no workload registers itself", nil},
		{"defaultConfig.runtimeValues", noEnvoy, nil},
		{"defaultConfig.statsdUdpAddress", noMetrics, nil},
		{"defaultConfig.terminationDrainDuration", "is not acted on yet: connections end with the run", []string{`"5s"`}},
		{"defaultConfig.tracing", noTracing, []string{`{}`}},
		{"defaultConfig.zipkinAddress", noTracing, nil},
	}
}

// asksNothing reports whether the field of m is set to what happens anyhow.
func (f unsupportedField) asksNothing(m protoreflect.Message, fd protoreflect.FieldDescriptor) bool {
	for _, value := range f.quiet {
		same := m.New()
		// The values are ours, and a test reads each: they fit.
		if protojson.Unmarshal([]byte(`{"`+fd.JSONName()+`": `+value+`}`), same.Interface()) == nil && same.Get(fd).Equal(m.Get(fd)) {
			return true
		}
	}
	return false
}

// unsupported names each field of the mesh-wide configuration that asks for what
// Fairlead does not do.
func (v *validator) unsupported(config proto.Message) {
	listed := map[string]unsupportedField{}
	for _, f := range unsupportedFields() {
		listed[f.path] = f
	}
	var walk func(path string, m protoreflect.Message)
	walk = func(path string, m protoreflect.Message) {
		m.Range(func(fd protoreflect.FieldDescriptor, value protoreflect.Value) bool {
			path := join(path, fd.JSONName())
			f, ok := listed[path]
			switch {
			case ok && !f.asksNothing(m, fd):
				v.warn(join(meshField, path), "%s", f.why)
			case !ok && fd.Message() != nil && !fd.IsList() && !fd.IsMap():
				walk(path, value.Message())
			}
			return true
		})
	}
	walk("", config.ProtoReflect())
}
