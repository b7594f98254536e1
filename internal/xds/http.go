package xds

// HTTPOptions is the key, among the typed_extension_protocol_options of a
// cluster, of what its endpoints speak: envoy.extensions.upstreams.http.v3.HttpProtocolOptions.
const HTTPOptions = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
