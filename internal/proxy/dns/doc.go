// Package dns is the name server that a workload sees. It sits where the
// workload's questions arrive, whatever server they were sent to, and replies
// from the address that was asked.
//
// What becomes of a question, in this order:
//
//   - Malformed, or not one question: FORMERR, or silence where there is no
//     header to reply to. Other operations than a query: NOTIMP. Another class
//     than IN, zone transfers and other meta types: REFUSED.
//   - localhost and the addresses of loopback: answered here.
//   - No configuration has arrived yet: SERVFAIL.
//   - The name is declared with addresses: A and AAAA are answered with them for
//     30 s; the family that has none, CNAME, HTTPS, SVCB and ANY are empty
//     (NOERROR), so that no hint or key of the real zone leads past the proxy;
//     HTTPS and SVCB also at the names below the host for its other ports. Other
//     types are forwarded, and a zone that does not know the host at all makes
//     them empty. ANY for other names: REFUSED.
//   - The name is such a host with a domain of Options.Search behind it: it is
//     answered as an alias (CNAME) of the host.
//   - The name is declared without addresses, itself or by a wildcard, or the
//     outbound policy is ALLOW_ANY: forwarded. Only the question goes out, none
//     of the client's EDNS options; what comes back is cut to the chain of
//     aliases from the question.
//   - Else the policy is REGISTRY_ONLY and a name can carry data out: REFUSED
//     (extended error 15, Blocked), counted and logged. This holds for PTR too,
//     unless the address is one we have answered with: then the answer is the
//     name it was answered for.
//
// There is one exception to REFUSED. Resolvers in the workload append the
// domains of their search list to a name and ask for each result in turn. glibc
// stops going through the list at REFUSED and then asks for the bare name only;
// musl does not even hear REFUSED and waits for its timeout. Both go on after
// NXDOMAIN. So a name that is a declared name with something else appended, and a
// name in one of Options.Search, is answered NXDOMAIN. It is not forwarded
// either. The former is ordinary and neither counted nor logged. Without
// Options.Search a short name whose expansion is declared (db for db.corp) is
// found only if its own domain stands first in the list.
//
// A name whose labels are raw UTF-8 is taken for its punycode, the form in which
// hosts are declared, if that has the same labels.
//
// Forwarded answers are kept while they live, at most an hour, those that say
// there is nothing 30 s (and only if an SOA record says for how long), failures
// 1 s. What becomes of a question is decided anew each time: the cache stands in
// for the name servers only. A question under way is not asked a second time.
//
// Bounds: 4,096 answers in 4 MiB kept, 1,024 questions at one time (more:
// SERVFAIL at once), 2 s for a question, 256 TCP connections with 32 questions
// each, closed after 30 s without one, 65,536 addresses remembered.
package dns
