package file

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/fairlead/fairlead/internal/api"
)

func TestAPipeIsReadOnce(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.WriteString(w, entry("p", "p.example")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	d := newFolder(t, "a.yaml", entry("a", "a.example"))
	f := follow(t, fmt.Sprintf("/dev/fd/%d", r.Fd()), d.path)
	d.write("b.yaml", entry("b", "b.example"))
	f.await("a=a.example b=b.example p=p.example")
}

func TestPipesAreReadAndNotWaitedFor(t *testing.T) {
	d := newFolder(t, "folder/a.yaml", entry("a", "a.example"))
	for _, name := range []string{"fifo", "folder/fifo.yaml"} {
		d.must(syscall.Mkfifo(d.at(name), 0o600))
	}
	socket, err := net.Listen("unix", d.at("socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	for path, want := range map[string]string{
		"fifo":      "is a pipe out of which nothing came",
		"socket":    "is a socket; objects are read from files, folders, pipes and -",
		"/dev/zero": "is a device; objects are read from files",
		"folder":    "", // the pipe in it is none of its files
	} {
		if !strings.HasPrefix(path, "/") {
			path = d.at(path)
		}
		options := Options{Paths: []string{path}, Namespace: "default"}
		_, checked := Check(options)
		_, _, loaded, _ := Load(options)
		for who, problems := range map[string][]api.Problem{"Check": checked, "Load": loaded} {
			if want == "" && len(problems) > 0 || want != "" && (len(problems) != 1 || !strings.Contains(problems[0].String(), want)) {
				t.Errorf("%s of %s says %v, want %q", who, path, problems, want)
			}
		}
	}
}

func TestAPipeWithAWriterIsReadToItsEnd(t *testing.T) {
	d := newFolder(t)
	d.must(syscall.Mkfifo(d.at("fifo"), 0o600))
	reader, err := os.OpenFile(d.at("fifo"), os.O_RDONLY|syscall.O_NONBLOCK, 0) // or the writer would wait
	if err != nil {
		t.Fatal(err)
	}
	writer, err := os.OpenFile(d.at("fifo"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	written := make(chan error, 1)
	go func() {
		for i := range 2000 { // more than a pipe holds
			if _, err := io.WriteString(writer, entry(fmt.Sprintf("e-%d", i), "a.example")); err != nil {
				break
			}
		}
		written <- writer.Close()
	}()
	objects, problems := Check(Options{Paths: []string{d.at("fifo")}, Namespace: "default"})
	if err := <-written; err != nil || objects != 2000 || len(problems) > 0 {
		t.Errorf("%d objects, problems %v, %v", objects, problems, err)
	}
}

func TestAFileThatBecomesAPipeStaysInForce(t *testing.T) {
	d := newFolder(t, "a.yaml", entry("a", "a.example"))
	f := follow(t, d.at("a.yaml"))
	d.must(syscall.Mkfifo(d.at("fifo"), 0o600))
	d.must(os.Rename(d.at("fifo"), d.at("a.yaml")))
	f.awaitLog("is a pipe now")
	d.replace("a.yaml", entry("a", "new.example"))
	f.await("a=new.example")
}
