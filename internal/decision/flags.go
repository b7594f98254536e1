package decision

// Flags are Envoy's response flags as a set.
type Flags uint32

// The response flags, in the order Envoy prints them.
const (
	LH Flags = 1 << iota
	UH
	UT
	LR
	UR
	UF
	UC
	UO
	NR
	DI
	FI
	RL
	UAEX
	RLSE
	DC
	URX
	SI
	IH
	DPE
	UMSDR
	RFCF
	NFCF
	DT
	UPE
	NC
	OM
	DF
	DO
	DR
)

var flagNames = [...]string{
	"LH", "UH", "UT", "LR", "UR", "UF", "UC", "UO", "NR", "DI", "FI", "RL", "UAEX", "RLSE", "DC", "URX",
	"SI", "IH", "DPE", "UMSDR", "RFCF", "NFCF", "DT", "UPE", "NC", "OM", "DF", "DO", "DR",
}

// Append appends the letters joined by commas, or "-" for the empty set.
func (f Flags) Append(dst []byte) []byte {
	if f == 0 {
		return append(dst, '-')
	}
	first := true
	for i, name := range flagNames {
		if f&(1<<i) == 0 {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(dst, name...)
	}
	return dst
}

// String is Append as a string: "UF,URX", or "-".
func (f Flags) String() string { return string(f.Append(nil)) }
