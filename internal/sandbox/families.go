package sandbox

import (
	"fmt"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Not every kind of socket belongs to a network namespace: with AF_VSOCK a
// process in a virtual machine speaks to its host, whatever its namespaces.
// So a system call filter leaves commands the kinds that the namespaces hold;
// for the others the answer is that of a kernel without them. As io_uring can
// open sockets past such a filter, it is not there either; programs fall back.
func allowedFamilies() []uint32 {
	return []uint32{unix.AF_UNIX, unix.AF_INET, unix.AF_INET6, unix.AF_NETLINK, unix.AF_PACKET, unix.AF_ALG}
}

// An abi is a way in which the kernel of this machine can be called.
type abi struct {
	arch       uint32 // AUDIT_ARCH_…
	socket     uint32 // number of the system call
	socketCall uint32 // the older call that hides which socket it opens, or 0
}

// abis returns the ABIs of machines of a kind; the second is that of 32-bit
// programs.
func abis(goarch string) []abi {
	switch goarch {
	case "amd64": // x32 numbers are the same but for a bit
		return []abi{{unix.AUDIT_ARCH_X86_64, unix.SYS_SOCKET, 0}, {unix.AUDIT_ARCH_I386, 359, 102}}
	case "arm64":
		return []abi{{unix.AUDIT_ARCH_AARCH64, unix.SYS_SOCKET, 0}, {unix.AUDIT_ARCH_ARM, 281, 102}}
	case "riscv64":
		return []abi{{unix.AUDIT_ARCH_RISCV64, unix.SYS_SOCKET, 0}}
	case "loong64":
		return []abi{{unix.AUDIT_ARCH_LOONGARCH64, unix.SYS_SOCKET, 0}}
	}
	return nil
}

// What a filter reads: struct seccomp_data of a little-endian machine.
const (
	offsetNumber   = 0
	offsetArch     = 4
	offsetArgument = 16 // the first, lower half
)

const x32 = 0x4000_0000 // set in the numbers of a third ABI of amd64

// familyFilter is the filter for a machine with these ABIs. A 32-bit program
// that uses socketcall cannot open sockets at all, as a filter cannot see which.
func familyFilter(machine []abi) []bpf.Instruction {
	filter := []bpf.Instruction{bpf.LoadAbsolute{Off: offsetArch, Size: 4}}
	for _, a := range machine {
		filter = append(filter, ifEqual(a.arch, a.filter())...)
	}
	return append(filter, refuse(unix.ENOSYS))
}

// filter decides about a call in one ABI.
func (a abi) filter() []bpf.Instruction {
	filter := []bpf.Instruction{
		bpf.LoadAbsolute{Off: offsetNumber, Size: 4},
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: ^uint32(x32)},
	}
	filter = append(filter, ifEqual(a.socket, decideFamily())...)
	filter = append(filter, ifEqual(unix.SYS_IO_URING_SETUP, []bpf.Instruction{refuse(unix.ENOSYS)})...)
	if a.socketCall != 0 {
		const socket = 1 // the first argument says which call it is
		hidden := []bpf.Instruction{bpf.LoadAbsolute{Off: offsetArgument, Size: 4}}
		hidden = append(hidden, ifEqual(socket, []bpf.Instruction{refuse(unix.ENOSYS)})...)
		filter = append(filter, ifEqual(a.socketCall, append(hidden, allow()))...)
	}
	return append(filter, allow())
}

func decideFamily() []bpf.Instruction {
	filter := []bpf.Instruction{bpf.LoadAbsolute{Off: offsetArgument, Size: 4}}
	for _, f := range allowedFamilies() {
		filter = append(filter, ifEqual(f, []bpf.Instruction{allow()})...)
	}
	return append(filter, refuse(unix.EAFNOSUPPORT))
}

// ifEqual does then, which must return, if the value loaded is want.
func ifEqual(want uint32, then []bpf.Instruction) []bpf.Instruction {
	jump := bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: want, SkipTrue: uint8(len(then))}
	return append([]bpf.Instruction{jump}, then...)
}

func allow() bpf.Instruction { return bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW} }

func refuse(errno syscall.Errno) bpf.Instruction {
	return bpf.RetConstant{Val: unix.SECCOMP_RET_ERRNO | uint32(errno)}
}

// restrictFamilies installs the filter for all threads of the caller and all
// that they will ever start. It needs CAP_SYS_ADMIN.
func restrictFamilies() error {
	machine := abis(runtime.GOARCH)
	if machine == nil {
		return fmt.Errorf("restrict sockets to those that a sandbox holds: not known how on %s", runtime.GOARCH)
	}
	raw, err := bpf.Assemble(familyFilter(machine))
	if err != nil {
		return fmt.Errorf("restrict sockets to those that a sandbox holds: %w", err)
	}
	filter := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		filter[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
	runtime.KeepAlive(filter)
	if errno != 0 {
		return fmt.Errorf("restrict sockets to those that a sandbox holds: seccomp: %w", errno)
	}
	return nil
}
