// Package sandbox runs a command in namespaces from which nothing leaves but
// what the proxy takes.
//
// # Processes
//
// The supervisor (whoever calls Start, in the host's namespaces) starts an
// init, which starts a starter, which starts the commands:
//
//	supervisor ── init ── starter ── the command, exec'ed commands
//	host          user A, net,       user B, mount (a copy with every
//	              pid (1), mount     mount of init's locked)
//
// Init owns the network and builds the mounts; it keeps the only capabilities
// over them. The commands run in a second user namespace below init's: root in
// there has every capability over what it makes itself and none over this
// network, these mounts or this pid namespace. So it cannot change a rule, add
// an interface, undo a mount or mount a /proc of its own, and the limits hold
// for root as they do for everybody. An ordinary user's commands have no
// capabilities at all. Nobody ever enters from outside: `exec` asks the
// starter, passing its standard streams.
//
// When the command ends, the starter ends, then init, and with init (pid 1)
// everything else in there. When the supervisor dies, init is killed by its
// parent-death signal and, should that fail, by the end of its socket.
//
// # Network
//
// There is no device but lo. A default route of type local sends every address
// to lo, with a source of its own (else the source would be the destination,
// and a connection could meet itself). The rules (rules.go) hand TCP to the
// capture sockets on port 15001 and refuse the rest at once.
//
// # The contract of the sockets
//
// TCP capture: IPv4 and IPv6 each have a listener. An accepted connection's
// local address is the destination that the command asked for.
//
// DNS: sockets bound to port 53 of every address, UDP and TCP, one of each per
// family. As every address is local, they receive what is sent to port 53 of
// any server, 127.0.0.53 included, without a rule, conntrack or NAT. (A
// redirect to another port was turned away: with NAT the server cannot see who
// was asked, and conntrack loses parallel questions from one socket; with
// tproxy the answer would come from the other port.) A UDP server asks for
// IP_PKTINFO or IPV6_RECVPKTINFO, finds there the address that was asked, and
// answers on the same socket with that address as the source in the same kind
// of control message; the source port is 53 as it must be. With miekg/dns
// nothing is to be done: its Server does exactly this with a *net.UDPConn. For
// TCP the accepted connection's local address is the address that was asked.
// No command can bind port 53, so none can take these questions away.
//
// The sockets live as long as the Sandbox, whoever else holds copies. While
// nobody accepts, connections wait in the backlog and are served by the next
// proxy.
//
// # Bounds
//
// The command keeps the caller's files, and with them what files can do. Known
// and listening path-name sockets are hidden when the sandbox starts, whatever
// network namespace they belong to; a socket that somebody opens later on is
// not, nor one whose namespace has no process that is seen, nor one under a path
// other than it was bound to. Root can write what root can write: a cron table,
// a disk's device node. An inherited file descriptor above 2 is not passed on.
//
// ReadOnly paths are mounts. The command can neither change, rename nor remove
// them, nor rename or remove a folder above them: those that it could are mounts
// too, if writable ones. (So to rename or link a file across such a folder's
// border fails with EXDEV, as between two file systems; mv copies then.) What
// somebody outside does there counts as ever, with one consequence:
//
//   - A ReadOnly folder is held against the command whatever is replaced in it.
//   - A ReadOnly file that is replaced from outside by a rename, as editors do,
//     or removed, is exposed from then on: the kernel takes the mount off, and
//     the command can change the new file as its user can. Prefer folders.
//   - A link is not followed: give the paths that links lead to.
//
// Sockets of kinds that belong to no network namespace (AF_VSOCK, Bluetooth, …)
// io_uring and the kernel's keys are not there, and nobody types into a terminal
// but who sits at it (filter.go); 32-bit programs that use socketcall cannot
// open sockets. Root can make no sandbox of its own in this one, for a
// new /proc would show what is protected here; ordinary users can. As with any
// command, what it sends to its process group (kill 0) reaches the supervisor.
//
// The main command is in the caller's process group, for pipelines, Ctrl-C and
// Ctrl-Z to work, and that group has no number inside: getpgrp is 0. An
// interactive shell cannot make it the terminal's foreground group when it ends.
// The supervisor does; but dash says "Cannot set tty process group (No such
// process)" and ends with exit code 2. bash takes no notice.
package sandbox
