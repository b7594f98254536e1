package overload

import (
	"testing"
	"testing/fstest"
)

func TestTheLeastLimitCounts(t *testing.T) {
	const info = "MemTotal:       4194304 kB\nMemFree: 1 kB\n"
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  uint64
	}{
		{"nothing is known", nil, 0},
		{"the machine", map[string]string{"proc/meminfo": info}, 4 << 30},
		{"version 2", map[string]string{
			"proc/meminfo": info, "proc/self/cgroup": "0::/a/b\n",
			"sys/fs/cgroup/a/b/memory.max": "max\n", "sys/fs/cgroup/a/memory.max": "67108864\n",
		}, 64 << 20},
		{"version 2, in a container", map[string]string{
			"proc/meminfo": info, "proc/self/cgroup": "0::/../x\n", "sys/fs/cgroup/memory.max": "67108864\n",
		}, 64 << 20},
		{"version 1", map[string]string{
			"proc/meminfo": info, "proc/self/cgroup": "5:cpu,cpuacct:/\n4:memory:/a\n0::/\n",
			"sys/fs/cgroup/memory/a/memory.limit_in_bytes": "33554432\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
		}, 32 << 20},
		{"no limit but a large number", map[string]string{
			"proc/meminfo": info, "proc/self/cgroup": "4:memory:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
		}, 4 << 30},
		{"what makes no sense", map[string]string{
			"proc/meminfo": "MemTotal: x kB\n", "proc/self/cgroup": "4:memory\n0::/\n", "sys/fs/cgroup/memory.max": "-1\n",
		}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := fstest.MapFS{}
			for name, text := range tt.files {
				root[name] = &fstest.MapFile{Data: []byte(text)}
			}
			if got := Available(root); got != tt.want {
				t.Errorf("%d, want %d", got, tt.want)
			}
		})
	}
}
