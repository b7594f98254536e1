package netns

import (
	"encoding/xml"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// h2specCases is how many cases the pinned h2spec has, strict ones included.
const h2specCases = 146

// TestH2SpecPassesStrictlyThroughTheProxy has h2spec as the workload, so that
// the proxy is what it meets, before a site of either version.
func TestH2SpecPassesStrictlyThroughTheProxy(t *testing.T) {
	asOrdinary(t, func(b *bed) {
		tool := filepath.Join(programs, "h2spec")
		build := exec.Command("go", "build", "-C", "../../tools", "-o", tool, "github.com/summerwind/h2spec/cmd/h2spec")
		if out, err := build.CombinedOutput(); err != nil {
			b.Fatalf("build h2spec: %v\n%s", err, out)
		}
		if err := os.Chmod(tool, 0o755); err != nil {
			b.Fatal(err)
		}
		for _, port := range []string{"http", "http2"} {
			f := b.file(port+".yaml", entry("web", "www.baidu.com", "80 "+port+" "+port, "resolution: DNS"))
			to := filepath.Join(b.Dir, port+".xml")
			before := b.baidu.Requests()
			r := b.run("--closed -f "+f, "h2spec --strict --timeout 5 --junit-report "+to+" -h www.baidu.com -p 80")
			text, err := os.ReadFile(to)
			if err != nil {
				b.Fatalf("h2spec, port %s: %v\n%s", port, err, r)
			}
			passed, failed, err := judge(text)
			if err != nil || passed != h2specCases || len(failed) > 0 {
				b.Errorf("port %s: %d of %d cases passed, %v\n%s", port, passed, h2specCases, err, strings.Join(failed, "\n"))
			}
			if b.baidu.Requests() == before {
				b.Errorf("port %s: nothing reached the site", port)
			}
		}
	})
}

// judge counts the cases of h2spec's report, in the form of JUnit, and says
// which did not pass. h2spec means to take a reset for the end of a connection,
// but compares with an error that Go's reads have long returned wrapped: where
// the end is what it expects, a reset passes here.
func judge(text []byte) (passed int, failed []string, err error) {
	var all struct {
		Suites []struct {
			Cases []struct {
				Section string    `xml:"package,attr"`
				What    string    `xml:"classname,attr"`
				Failure string    `xml:"failure"`
				Error   string    `xml:"error"`
				Skipped *struct{} `xml:"skipped"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(text, &all); err != nil {
		return 0, nil, fmt.Errorf("h2spec's report: %w", err)
	}
	for _, suite := range all.Suites {
		for _, c := range suite.Cases {
			problem := c.Failure + c.Error
			reset := strings.Contains(problem, "Connection closed") && strings.Contains(problem, "connection reset by peer")
			if c.Skipped == nil && (problem == "" || reset) {
				passed++
				continue
			}
			failed = append(failed, fmt.Sprintf("%s %s: %s", c.Section, c.What, problem))
		}
	}
	return passed, failed, nil
}

func TestAReportOfH2SpecIsJudged(t *testing.T) {
	const closed = "<error>Connection closed&#xA;Error: read tcp 1.2.3.4:5: read: connection reset by peer</error>"
	for inside, want := range map[string]bool{
		"":                                      true,
		"<skipped></skipped>":                   false,
		"<failure>GOAWAY&#xA;Timeout</failure>": false,
		"<error>Connection closed&#xA;Timeout</error>":                     false,
		"<error>SETTINGS Frame&#xA;read: connection reset by peer</error>": false,
		closed: true,
	} {
		passed, failed, err := judge([]byte(`<testsuites><testsuite><testcase package="a" classname="b">` + inside + `</testcase></testsuite></testsuites>`))
		if err != nil || passed == 1 != want || len(failed) == 0 != want {
			t.Errorf("%s: %d passed, %q failed, %v", inside, passed, failed, err)
		}
	}
	if _, _, err := judge([]byte("<testsuites>")); err == nil {
		t.Error("half a report was read")
	}
}
