package cli

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/fairlead/fairlead/internal/admin"
)

// sayDecision writes a decision for people.
func sayDecision(out io.Writer, d admin.Decision) error {
	if d.Remark != "" {
		fmt.Fprintln(out, d.Remark)
	}
	if d.Sidecar != "" && d.Port == 0 {
		fmt.Fprintf(out, "What the workload sees and what happens to the rest is narrowed by %s.\n", d.Sidecar)
	}
	if _, err := netip.ParseAddr(d.Host); err == nil {
		return sayAddress(out, d)
	}
	if d.Port == 0 {
		sayHost(out, d)
		return nil
	}
	for _, c := range d.Connections {
		fmt.Fprintln(out, sentence(d, c, len(d.Connections) > 1))
	}
	if d.Owner != nil {
		fmt.Fprintf(out, "%s belongs to %s in namespace %s: %s.\n", d.Host, d.Owner.Where(), d.Namespace, d.Owner.Reason)
	}
	sayOthers(out, d)
	return nil
}

// sayHost says whose a host is.
func sayHost(out io.Writer, d admin.Decision) {
	switch {
	case d.Owner != nil:
		fmt.Fprintf(out, "%s belongs to %s in namespace %s: %s.\n", d.Host, d.Owner.Where(), d.Namespace, d.Owner.Reason)
		sayDetails(out, *d.Owner, d.Run != "")
	case len(d.Wildcards) > 0:
		fmt.Fprintf(out, "No entry that namespace %s sees declares %s itself; it falls under a wildcard.\n", d.Namespace, d.Host)
	default:
		fmt.Fprintf(out, "No entry that namespace %s sees declares %s: by outbound policy %s it is %s.\n", d.Namespace, d.Host, d.Policy, d.Undeclared)
	}
	for _, said := range d.Lost {
		fmt.Fprintln(out, capital(said))
	}
	sayOthers(out, d)
	if d.Owner != nil || len(d.Wildcards) > 0 {
		fmt.Fprintf(out, "What goes to any other port is %s, by outbound policy %s.\n", d.Undeclared, d.Policy)
	}
}

// sayOthers says who else declares a host, and what becomes of that.
func sayOthers(out io.Writer, d admin.Decision) {
	owned := map[uint16]bool{}
	if d.Owner != nil {
		take(*d.Owner, owned)
	}
	for _, s := range d.Others {
		what := ""
		if s.Host != d.Host {
			what = "wildcard " + s.Host + " of "
		}
		fmt.Fprintf(out, "Not used: %s%s: %s.\n", what, s.Where(), s.Reason)
	}
	for _, s := range d.Wildcards {
		fmt.Fprintf(out, "Wildcard %s of %s, which the namespace sees because %s, %s.\n", s.Host, s.Where(), s.Reason, left(s, owned))
		take(s, owned)
	}
}

// capital begins a sentence with a capital letter.
func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

func sayDetails(out io.Writer, s admin.Standing, actual bool) {
	if len(s.Merged) > 0 {
		fmt.Fprintf(out, "  merged from %s\n", strings.Join(s.Merged, ", "))
	}
	fmt.Fprintf(out, "  ports %s; resolution %s\n", portList(s.Ports), s.Resolution)
	if len(s.Addresses) > 0 {
		fmt.Fprintf(out, "  addresses %s\n", strings.Join(s.Addresses, ", "))
	}
	switch {
	case len(s.Virtual) == 0:
	case actual:
		fmt.Fprintf(out, "  virtual addresses %s\n", strings.Join(s.Virtual, ", "))
	default:
		fmt.Fprintf(out, "  virtual addresses in a run: %s\n", strings.Join(s.Virtual, ", "))
	}
}

// take notes the ports of s as owned.
func take(s admin.Standing, owned map[uint16]bool) {
	for _, p := range s.Ports {
		owned[p.Number] = true
	}
}

// left says what a wildcard has that more specific hosts leave it.
func left(s admin.Standing, owned map[uint16]bool) string {
	rest := slices.DeleteFunc(slices.Clone(s.Ports), func(p admin.Port) bool { return owned[p.Number] })
	switch {
	case len(rest) == 0:
		return "has nothing of it: its ports are declared under the longer name"
	case len(rest) < len(s.Ports):
		return "has what goes to port " + portList(rest) + "; its others are declared under the longer name"
	}
	return "has what goes to port " + portList(rest)
}

func portList(ports []admin.Port) string {
	var all []string
	for _, p := range ports {
		all = append(all, p.String())
	}
	return strings.Join(all, ", ")
}

// sayAddress says what covers an address and where connections to it go.
func sayAddress(out io.Writer, d admin.Decision) error {
	if d.Port != 0 {
		for _, c := range d.Connections {
			fmt.Fprintln(out, sentence(d, c, len(d.Connections) > 1))
		}
		return nil
	}
	for _, c := range d.Covers {
		what := "lies in " + c.Address + ", an address"
		switch {
		case c.Virtual:
			what = "is a virtual address"
		case c.Address == d.Host:
			what = "is an address"
		}
		fmt.Fprintf(out, "%s %s of %s: %s, ports %s.\n", d.Host, what, c.Host, c.Where(), portList(c.Ports))
	}
	if d.Owner != nil {
		fmt.Fprintf(out, "%s is a host of %s in namespace %s: %s.\n", d.Host, d.Owner.Where(), d.Namespace, d.Owner.Reason)
	}
	if len(d.Covers) == 0 && d.Owner == nil {
		fmt.Fprintf(out, "No entry that namespace %s sees lists an address that covers %s.\n", d.Namespace, d.Host)
	}
	if len(d.Connections) > 0 {
		w := tabwriter.NewWriter(out, 0, 8, 3, ' ', 0)
		fmt.Fprintln(w, "PORT\tWHAT\tGOES TO\tENTRY")
		for _, c := range d.Connections {
			goes := c.Cluster
			if c.Object == "" {
				goes = d.Undeclared
			}
			fmt.Fprintf(w, "%d\t%s\t%s\t%s\n", c.Port, kinds(c.Kinds), dash(goes), dash(c.Where()))
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	rest := "What goes to any other port is %s, by outbound policy %s.\n"
	if len(d.Connections) == 0 {
		rest = "What goes to it is %s, by outbound policy %s.\n"
	}
	if isVirtual(d) && d.Undeclared != refused {
		rest = "What goes to any other port is %s, to the address that " + d.Covers[0].Host + " has in DNS, by outbound policy %s.\n"
	}
	fmt.Fprintf(out, rest, d.Undeclared, d.Policy)
	fmt.Fprintln(out, "Requests and TLS that name another host go by that name, whatever the address.")
	return nil
}

// kinds says in words what of a port a connection is.
func kinds(all []string) string {
	if len(all) == 3 {
		return "everything"
	}
	words := map[string]string{admin.Requests: "requests", admin.TLS: "TLS", admin.Bytes: "other bytes"}
	var said []string
	for _, k := range all {
		said = append(said, words[k])
	}
	return strings.Join(said, " and ")
}

// sentence is the decision for one port; kinds are named where they differ.
func sentence(d admin.Decision, c admin.Connection, differ bool) string {
	what := fmt.Sprintf("Port %d of %s", c.Port, d.Host)
	if differ {
		what += " (" + kinds(c.Kinds) + ")"
	}
	switch {
	case c.Refused != "" && c.Object != "":
		said := capital(c.Refused)
		if differ {
			said = what + ": " + c.Refused
		}
		if c.Reason != "" {
			said += fmt.Sprintf(" (%s %s.)", c.Host, c.Reason)
		}
		return said
	case c.Refused != "":
		return what + " is refused: " + c.Refused
	case c.Undeclared != "":
		return fmt.Sprintf("%s: %s; by outbound policy %s it is %s%s (%s).", what, c.Undeclared, d.Policy, d.Undeclared, onward(d), c.Cluster)
	case c.Cluster == "":
		return what + " is closed: nothing there matches it."
	}
	if c.Object == "" {
		through := ""
		if d.Sidecar != "" {
			through = " through " + d.Sidecar
		}
		return fmt.Sprintf("%s is declared by no entry that namespace %s sees%s: by outbound policy %s it is %s%s (%s).",
			what, d.Namespace, through, d.Policy, d.Undeclared, onward(d), c.Cluster)
	}
	var facts []string
	if c.Protocol != "" {
		facts = append(facts, "protocol "+c.Protocol)
	} else {
		facts = append(facts, "no protocol, so the first bytes decide")
	}
	facts = append(facts, "resolution "+c.Resolution, endpoints(c))
	text := fmt.Sprintf("%s goes to %s, cluster %s: %s", what, c.Where(), c.Cluster, strings.Join(facts, ", "))
	switch {
	case c.Host == d.Host || slices.ContainsFunc(d.Wildcards, func(s admin.Standing) bool { return s.Host == c.Host }) ||
		slices.ContainsFunc(d.Covers, func(x admin.Cover) bool { return x.Host == c.Host }):
	case c.Reason != "" && d.Owner != nil:
		text += fmt.Sprintf("; not to %s, which declares it: %s %s, and nothing tells the two apart", d.Owner.Where(), c.Host, c.Reason)
	default:
		text += fmt.Sprintf("; %s has no address of its own, so it takes this port of every address", c.Host)
	}
	return text + "."
}

// onward says where what passes through goes, if not to the address that was
// asked for.
func onward(d admin.Decision) string {
	if isVirtual(d) && d.Undeclared != refused {
		return " to the address that " + d.Covers[0].Host + " has in DNS"
	}
	return ""
}

// refused is what a Decision says under REGISTRY_ONLY.
const refused = "refused"

// isVirtual reports whether it was a virtual address that was asked for.
func isVirtual(d admin.Decision) bool { return len(d.Covers) > 0 && d.Covers[0].Virtual }

func endpoints(c admin.Connection) string {
	switch {
	case c.Missing:
		return "and there is nothing to send it to, so it fails"
	case c.Resolution == "NONE":
		return "to the address that the caller used"
	}
	return counted(c.Endpoints, "endpoint")
}
