// Package resolve is the proxy's own resolver: it asks for the addresses of
// names and follows names over time.
//
// One name is asked about once, whoever waits for it. A and AAAA are asked in
// parallel; where one has come and the other has not for half a second, what
// came is used and the other asked again soon. Everything is bounded: 5 s for a
// question, 256 addresses for a name, 8 aliases in a chain, a time to live
// between 1 s and a day. A failure is followed by another try after 1 s, 2 s,
// 4 s and so on up to Options.Refresh, so that a name server which comes late is
// noticed soon.
//
// What a name once had is not given up lightly:
//
//   - SERVFAIL, REFUSED, silence: the last good answer is kept, marked Stale,
//     for StaleCap.
//   - NXDOMAIN or no address: the last good answer is kept, marked Stale, for
//     Grace; then the name is Negative and has no address. (Envoy empties its
//     cluster at once.)
//   - One family fails and the other is answered: the addresses of the family
//     that failed are kept in the same way and the answer is Fresh, with Err.
//
// A name with a dot in it, or a final dot, is absolute. A single label goes
// through the search list first, as in every libc, and is asked as it is last.
// Names in Options.Hosts, localhost and IP addresses written as names never
// expire and cause no question.
package resolve
