package decision

import "testing"

func TestCallStatus(t *testing.T) {
	for v, want := range map[string]string{"": "", "0": "OK", "5": "NotFound", "05": "NotFound", "16": "Unauthenticated", "17": "", "-1": "", "x": "", "99999999999999999999": ""} {
		if got := ParseCallStatus([]byte(v)).String(); got != want {
			t.Errorf("grpc-status %q is %q; want %q", v, got, want)
		}
	}
	if CallStatus(200).String() != "" {
		t.Error("a status that there is not has a name")
	}
	for code, name := range CallStatuses() {
		if got := ToCallStatus(code).String(); got != name {
			t.Errorf("%d is %s; want %s", code, got, name)
		}
	}
}
