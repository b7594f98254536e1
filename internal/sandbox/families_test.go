package sandbox

import (
	"encoding/binary"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

func TestTheFilterKnowsEveryWayToOpenASocket(t *testing.T) {
	vm, err := bpf.NewVM(familyFilter(abis("amd64")))
	if err != nil {
		t.Fatal(err)
	}
	const (
		allowed = unix.SECCOMP_RET_ALLOW
		unknown = unix.SECCOMP_RET_ERRNO | int(unix.EAFNOSUPPORT)
		missing = unix.SECCOMP_RET_ERRNO | int(unix.ENOSYS)
		amd64   = unix.AUDIT_ARCH_X86_64
		i386    = unix.AUDIT_ARCH_I386
	)
	for _, tt := range []struct {
		name                   string
		arch, number, argument uint32
		want                   int
	}{
		{"an internet socket", amd64, 41, unix.AF_INET6, allowed},
		{"a socket to the hypervisor", amd64, 41, unix.AF_VSOCK, unknown},
		{"the same by x32", amd64, 41 | x32, unix.AF_VSOCK, unknown},
		{"a read", amd64, 0, unix.AF_VSOCK, allowed},
		{"io_uring", amd64, 425, 1, missing},
		{"a 32-bit program's", i386, 359, unix.AF_INET, allowed},
		{"a 32-bit program's to the hypervisor", i386, 359, unix.AF_VSOCK, unknown},
		{"a 32-bit program's hidden one", i386, 102, 1, missing},
		{"a 32-bit program's hidden connect", i386, 102, 3, allowed},
		{"another number there", i386, 41, unix.AF_VSOCK, allowed},
		{"another machine's", unix.AUDIT_ARCH_S390X, 1, 0, missing},
	} {
		t.Run(tt.name, func(t *testing.T) {
			// The virtual machine reads big-endian, as packets are.
			data := make([]byte, 64)
			binary.BigEndian.PutUint32(data[offsetNumber:], tt.number)
			binary.BigEndian.PutUint32(data[offsetArch:], tt.arch)
			binary.BigEndian.PutUint32(data[offsetArgument:], tt.argument)
			got, err := vm.Run(data)
			if err != nil || got != tt.want {
				t.Errorf("got %#x, %v; want %#x", got, err, tt.want)
			}
		})
	}
}
