package sandbox

import (
	"encoding/binary"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

func TestTheFilterKnowsEveryWay(t *testing.T) {
	vm, err := bpf.NewVM(callFilter(abis("amd64")))
	if err != nil {
		t.Fatal(err)
	}
	const (
		allowed = unix.SECCOMP_RET_ALLOW
		unknown = unix.SECCOMP_RET_ERRNO | int(unix.EAFNOSUPPORT)
		denied  = unix.SECCOMP_RET_ERRNO | int(unix.EPERM)
		missing = unix.SECCOMP_RET_ERRNO | int(unix.ENOSYS)
		amd64   = unix.AUDIT_ARCH_X86_64
		i386    = unix.AUDIT_ARCH_I386
	)
	for _, tt := range []struct {
		name                           string
		arch, number, argument, second uint32
		want                           int
	}{
		{"an internet socket", amd64, 41, unix.AF_INET6, 0, allowed},
		{"a socket to the hypervisor", amd64, 41, unix.AF_VSOCK, 0, unknown},
		{"the same by x32", amd64, 41 | x32, unix.AF_VSOCK, 0, unknown},
		{"a read", amd64, 0, unix.AF_VSOCK, 0, allowed},
		{"io_uring", amd64, 425, 1, 0, missing},
		{"a 32-bit program's", i386, 359, unix.AF_INET, 0, allowed},
		{"a 32-bit program's to the hypervisor", i386, 359, unix.AF_VSOCK, 0, unknown},
		{"a 32-bit program's hidden one", i386, 102, 1, 0, missing},
		{"a 32-bit program's hidden connect", i386, 102, 3, 0, allowed},
		{"another number there", i386, 41, unix.AF_VSOCK, 0, allowed},
		{"another machine's", unix.AUDIT_ARCH_S390X, 1, 0, 0, missing},
		{"a terminal's size", amd64, 16, 0, unix.TIOCGWINSZ, allowed},
		{"typing", amd64, 16, 0, unix.TIOCSTI, denied},
		{"pasting", amd64, 16, 0, unix.TIOCLINUX, denied},
		{"typing by x32", amd64, 514 | x32, 0, unix.TIOCSTI, denied},
		{"typing by x32 with the other number", amd64, 16 | x32, 0, unix.TIOCSTI, denied},
		{"a 32-bit program's typing", i386, 54, 0, unix.TIOCSTI, denied},
		{"a 32-bit program's pasting", i386, 54, 0, unix.TIOCLINUX, denied},
		{"another number than ioctl there", i386, 16, 0, unix.TIOCSTI, allowed},
		{"add_key", amd64, 248, 0, 0, missing},
		{"request_key", amd64, 249, 0, 0, missing},
		{"keyctl by x32", amd64, 250 | x32, 0, 0, missing},
		{"a 32-bit program's request_key", i386, 287, 0, 0, missing},
		{"a 32-bit program's keyctl", i386, 288, 0, 0, missing},
	} {
		t.Run(tt.name, func(t *testing.T) {
			// The virtual machine reads big-endian, as packets are.
			data := make([]byte, 64)
			binary.BigEndian.PutUint32(data[offsetNumber:], tt.number)
			binary.BigEndian.PutUint32(data[offsetArch:], tt.arch)
			binary.BigEndian.PutUint32(data[offsetArgument:], tt.argument)
			binary.BigEndian.PutUint32(data[offsetSecond:], tt.second)
			got, err := vm.Run(data)
			if err != nil || got != tt.want {
				t.Errorf("got %#x, %v; want %#x", got, err, tt.want)
			}
		})
	}
}
