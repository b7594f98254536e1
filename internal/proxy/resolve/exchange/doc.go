// Package exchange asks name servers one question and believes only what
// belongs to it. The proxy's own resolver and the name server that workloads
// see both ask through it.
//
// What guards an answer: a random id and a fresh socket, so a random source
// port, for every question; a connected socket, so that only the server's own
// address and port are heard; id, name, type and class of the question compared;
// and Follow, which takes only the records on the chain from the question.
//
// The letter case of a question is not randomised to guard it further. Some
// servers behind a forwarder know a name in lower case only; their NXDOMAIN
// looks like any other, so that nothing would tell when to ask again.
package exchange
