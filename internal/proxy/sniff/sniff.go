// Package sniff tells from the first bytes of a connection what it is. It is
// pure and bounded: nothing here reads, and nothing grows with its input.
package sniff

// A Verdict is what the bytes so far allow to say.
type Verdict uint8

// The verdicts.
const (
	More     Verdict = iota // more bytes may change the answer
	No                      // it is something else
	Yes                     // it is
	Unlikely                // as More, but it is not expected to become what is asked for
)
