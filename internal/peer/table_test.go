package peer

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTableHasWhatIsNamed(t *testing.T) {
	const table = `Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 11 @fairlead/0/a/admin
0000000000000000: 00000003 00000000 00000000 0001 03 1234567 @fairlead/0/connected/admin
0000000000000000: 00000002 00000000 00010000 0001 01    15 /run/two  blanks 
        (ptrval): 00000002 00000000 00000000 0002 01    15 /dev/log
0000000000000000: 00000002 00000000 00010000 0001 01    17 relative
0000000000000000: 00000003 00000000 00000000 0001 03    16
short
`
	got, err := Table(strings.NewReader(table))
	want := []Bound{
		{Name: "@fairlead/0/a/admin", Listening: true},
		{Name: "@fairlead/0/connected/admin"},
		{Name: "/run/two  blanks ", Listening: true},
		{Name: "/dev/log"},
		{Name: "relative", Listening: true},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("Table (-want +got):\n%s%v", diff, err)
	}
}

func FuzzTable(f *testing.F) {
	f.Add("0: 2 0 00010000 0001 01 11 @fairlead/0/b/admin\n")
	f.Add("\n\n \t0: : : ffffffffffffffffff : : : @\n")
	f.Fuzz(func(t *testing.T, table string) {
		all, _ := Table(strings.NewReader(table))
		for _, b := range all {
			if b.Name == "" || !strings.Contains(table, b.Name) {
				t.Errorf("%q is no name in the table", b.Name)
			}
		}
	})
}
