// Package supervisor runs one workload on this host: it is what `fairlead run`
// does. It assembles the control plane in its own process, starts the sandbox
// with its init and, outside of it, the proxy as a process of its own, keeps a
// proxy running as long as the command runs, and passes signals and the exit
// status on. It never imports the proxy: they meet at the bootstrap and at xDS.
//
// Sockets of a run, all abstract and so out of the sandbox's reach, and all taken
// at once when it claims its name:
//
//	@fairlead/<uid>/<name>/run    status, for `fairlead proxy-status`; claims the name
//	@fairlead/<uid>/<name>/exec   `fairlead exec`
//	@fairlead/<uid>/<name>/xds    the control plane, for the proxy
//	@fairlead/<uid>/<name>/admin  the proxy's configuration, for `fairlead proxy-config`
package supervisor
