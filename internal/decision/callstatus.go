package decision

import "strconv"

// A CallStatus is how a call of gRPC ended, as its answer says. The zero value is
// that of what is no call, or whose answer does not say.
type CallStatus uint8

var callStatuses = [...]string{
	"OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists", "PermissionDenied", "ResourceExhausted",
	"FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented", "Internal", "Unavailable", "DataLoss", "Unauthenticated",
}

// CallStatuses are the names of gRPC's status codes, from 0 on, as Envoy spells
// them. The slice is the caller's.
func CallStatuses() []string { return append([]string(nil), callStatuses[:]...) }

// ToCallStatus is the status of a code; of one that gRPC does not know, as of none,
// the zero value.
func ToCallStatus(code int) CallStatus {
	if code < 0 || code >= len(callStatuses) {
		return 0
	}
	return CallStatus(code + 1) //nolint:gosec // G115: below 18
}

// ParseCallStatus reads the value of a field grpc-status.
func ParseCallStatus(v []byte) CallStatus {
	code, err := strconv.Atoi(string(v))
	if err != nil {
		return 0
	}
	return ToCallStatus(code)
}

// String is Envoy's spelling, such as NotFound; empty for the zero value.
func (s CallStatus) String() string {
	if s == 0 || int(s) > len(callStatuses) {
		return ""
	}
	return callStatuses[s-1]
}
