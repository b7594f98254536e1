package sandbox

import (
	"fmt"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// What the namespaces do not hold, a system call filter does:
//
//   - Sockets. Not every kind belongs to a network namespace: with AF_VSOCK a
//     process in a virtual machine speaks to its host, whatever its namespaces.
//     Commands have the kinds that the namespaces hold; for the others the
//     answer is that of a kernel without them. As io_uring can open sockets past
//     such a filter, it is not there either; programs fall back.
//   - The caller's terminal. TIOCSTI types into it, and TIOCLINUX pastes on a
//     console: whoever reads next is the shell outside. These two are refused.
//   - Keys. request_key has the host's kernel start a helper, outside, to find a
//     key that it does not have. As in a kernel without them, there are none.
func allowedFamilies() []uint32 {
	return []uint32{unix.AF_UNIX, unix.AF_INET, unix.AF_INET6, unix.AF_NETLINK, unix.AF_PACKET, unix.AF_ALG}
}

// An abi is a way in which the kernel of this machine can be called.
type abi struct {
	arch       uint32   // AUDIT_ARCH_…
	socket     uint32   // number of the system call
	socketCall uint32   // the older call that hides which socket it opens, or 0
	ioctl      []uint32 // its numbers
	keys       []uint32 // the numbers of add_key, request_key and keyctl
}

// abis returns the ABIs of machines of a kind; the second is that of 32-bit
// programs.
func abis(goarch string) []abi {
	native := abi{
		socket: unix.SYS_SOCKET,
		ioctl:  []uint32{unix.SYS_IOCTL},
		keys:   []uint32{unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_KEYCTL},
	}
	switch goarch {
	case "amd64":
		native.arch = unix.AUDIT_ARCH_X86_64
		native.ioctl = append(native.ioctl, x32Ioctl) // the other x32 numbers are the same but for a bit
		return []abi{native, {unix.AUDIT_ARCH_I386, 359, 102, []uint32{54}, []uint32{286, 287, 288}}}
	case "arm64":
		native.arch = unix.AUDIT_ARCH_AARCH64
		return []abi{native, {unix.AUDIT_ARCH_ARM, 281, 102, []uint32{54}, []uint32{309, 310, 311}}}
	case "riscv64":
		native.arch = unix.AUDIT_ARCH_RISCV64
		return []abi{native}
	case "loong64":
		native.arch = unix.AUDIT_ARCH_LOONGARCH64
		return []abi{native}
	}
	return nil
}

// What a filter reads: struct seccomp_data of a little-endian machine.
const (
	offsetNumber   = 0
	offsetArch     = 4
	offsetArgument = 16 // the first, lower half
	offsetSecond   = 24 // the second, lower half
)

// A third ABI of amd64.
const (
	x32      = 0x4000_0000 // set in its numbers
	x32Ioctl = 514
)

// callFilter is the filter for a machine with these ABIs. A 32-bit program
// that uses socketcall cannot open sockets at all, as a filter cannot see which.
func callFilter(machine []abi) []bpf.Instruction {
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
	for _, number := range a.ioctl {
		filter = append(filter, ifEqual(number, decideIoctl())...)
	}
	for _, number := range a.keys {
		filter = append(filter, ifEqual(number, []bpf.Instruction{refuse(unix.ENOSYS)})...)
	}
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

// decideIoctl looks at the half of the request that the kernel looks at.
func decideIoctl() []bpf.Instruction {
	filter := []bpf.Instruction{bpf.LoadAbsolute{Off: offsetSecond, Size: 4}}
	for _, request := range []uint32{unix.TIOCSTI, unix.TIOCLINUX} {
		filter = append(filter, ifEqual(request, []bpf.Instruction{refuse(unix.EPERM)})...)
	}
	return append(filter, allow())
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

// restrictCalls installs the filter for all threads of the caller and all
// that they will ever start. It needs CAP_SYS_ADMIN.
func restrictCalls() error {
	machine := abis(runtime.GOARCH)
	if machine == nil {
		return fmt.Errorf("restrict the system calls of a sandbox: not known how on %s", runtime.GOARCH)
	}
	raw, err := bpf.Assemble(callFilter(machine))
	if err != nil {
		return fmt.Errorf("restrict the system calls of a sandbox: %w", err)
	}
	filter := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		filter[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
	runtime.KeepAlive(filter)
	if errno != 0 {
		return fmt.Errorf("restrict the system calls of a sandbox: seccomp: %w", errno)
	}
	return nil
}
