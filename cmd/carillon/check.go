package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/net/idna"

	"carillon.im/server"
	"carillon.im/server/admin"
	"carillon.im/server/cert"
	"carillon.im/server/config"
	"carillon.im/server/s2s"
	"carillon.im/server/s2s/lookup"
	"carillon.im/server/store"
)

const (
	// dnsTimeout bounds all look-ups for one domain.
	dnsTimeout = 5 * time.Second
	// Free space on the data folder's disk: below the first the operator should act, below the second messages are about to be refused.
	spaceLow  = 1 << 30
	spaceFull = 64 << 20
	// filesLow is how many open files are few for a server: each client needs one.
	filesLow = 4096
)

// level says how bad a finding is.
type level int

const (
	fine level = iota
	warning
	failure
)

// finding is one line of what "check" found.
type finding struct {
	level level
	about string
	what  string
	todo  string // what to do about it; empty for what is fine
}

// checker collects findings.
type checker struct {
	ctx      context.Context
	c        config.Config
	server   *admin.Client // nil while none runs
	status   admin.Status  // of the running server
	findings []finding
}

func (p *program) checkCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:        "check",
		SuggestFor: []string{"doctor", "test", "status"},
		Short:      "look for what is wrong with configuration, certificate, ports, data folder and DNS",
		Long: "Looks at configuration, certificate, data folder, ports, limits and DNS, and says of each finding what to do.\n" +
			"Changes nothing; may be used while the server runs. Fails if a finding is an error; warnings are no failure.",
		Example: "  carillon check --config /etc/carillon.toml\n  carillon check --domain example.org --cert chain.pem --key key.pem",
		Args:    cobra.NoArgs,
	}
	o := addOptions(cmd, true)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		k := &checker{ctx: cmd.Context()}
		var err error
		if k.c, err = o.loadAccounts(); err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				k.add(failure, "configuration", line, "correct it; \"carillon config\" prints every key with what it means")
			}
			return p.report(k.findings)
		}
		source := "no file, the defaults and flags"
		if o.file != "" {
			source = o.file + " and flags"
		}
		k.add(fine, "configuration", source+"; for "+strings.Join(k.c.Domains, ", "), "")
		k.connect()
		k.checkData()
		k.checkAccounts()
		k.checkCertificates()
		k.checkComponents()
		k.checkPorts()
		k.checkFiles()
		k.checkDNS()
		k.checkServers()
		return p.report(k.findings)
	}
	return cmd
}

// report prints findings; the error is reported{} if one of them is a failure.
func (p *program) report(findings []finding) error {
	var err error
	for _, f := range findings {
		fmt.Fprintf(p.stdout, "%-8s %-14s %s\n", [...]string{"ok", "warning", "ERROR"}[f.level], f.about, f.what)
		if f.todo != "" {
			fmt.Fprintf(p.stdout, "%-8s %-14s -> %s\n", "", "", f.todo)
		}
		if f.level == failure {
			err = reported{}
		}
	}
	return err
}

func (k *checker) add(l level, about, what, todo string) {
	k.findings = append(k.findings, finding{l, about, what, todo})
}

// connect looks for a running server.
func (k *checker) connect() {
	const about = "server"
	found, status, err := admin.Connect(k.ctx, k.c.Data)
	dir := absolute(k.c.Data)
	switch {
	case errors.Is(err, admin.ErrNotRunning):
		k.add(fine, about, "none runs on "+dir, "")
		return
	case err != nil:
		k.add(warning, about, err.Error(), "its ports will look taken as long as it can't be asked")
		return
	}
	k.server, k.status = found, status
	k.add(fine, about, fmt.Sprintf("carillon %s runs on %s as process %d", status.Version, dir, status.PID), "")
	if own := server.Release(); own != status.Version {
		k.add(warning, about, fmt.Sprintf("this command is carillon %s, the server that runs is not", own), "start the server again to use this version")
	}
}

// checkData looks at the data folder: who may read it, whether it can be written, how much room is left.
func (k *checker) checkData() {
	const about = "data folder"
	dir := absolute(k.c.Data)
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		k.checkNewFolder(dir)
		return
	case err != nil:
		k.add(failure, about, err.Error(), "run this as the user that the server runs as")
		return
	case !info.IsDir():
		k.add(failure, about, dir+" is no folder", "choose another with --data")
		return
	case info.Mode().Perm()&0o077 != 0:
		k.add(warning, about, fmt.Sprintf("others may enter %s (mode %04o)", dir, info.Mode().Perm()), "chmod 700 "+shellQuote(dir))
	}
	if err := tryWrite(dir); err != nil {
		k.add(failure, about, err.Error(), "give it to the user that the server runs as (chown), or run this as that user")
		return
	}
	k.add(fine, about, dir+" can be written", "")
	k.checkSpace(dir)
}

// checkNewFolder judges whether a folder that doesn't exist can be made.
func (k *checker) checkNewFolder(dir string) {
	parent := filepath.Dir(dir)
	for {
		if _, err := os.Stat(parent); err == nil || parent == filepath.Dir(parent) {
			break
		}
		parent = filepath.Dir(parent)
	}
	if err := tryWrite(parent); err != nil {
		k.add(failure, "data folder", fmt.Sprintf("%s doesn't exist and can't be made: %v", dir, err), "make it for the user that the server runs as, or choose another with --data")
		return
	}
	k.add(fine, "data folder", dir+" will be made at the first start", "")
	k.checkSpace(parent)
}

// tryWrite finds out whether files can be made in a folder, by making one.
func tryWrite(dir string) error {
	f, err := os.CreateTemp(dir, ".check")
	if err != nil {
		return err
	}
	_, err = f.WriteString("carillon check\n")
	return errors.Join(err, f.Close(), os.Remove(f.Name()))
}

func (k *checker) checkSpace(dir string) {
	free, ok := freeSpace(dir)
	what := fmt.Sprintf("%.1f GiB free for %s", float64(free)/(1<<30), dir)
	switch {
	case !ok:
	case free < spaceFull:
		k.add(failure, "disk", what, "make room: without it the server refuses messages")
	case free < spaceLow:
		k.add(warning, "disk", what, "make room before the archive fills it")
	default:
		k.add(fine, "disk", what, "")
	}
}

// checkAccounts looks for accounts that nobody can log in to, because their domain isn't served any more.
func (k *checker) checkAccounts() {
	const about = "accounts"
	counts, err := k.countAccounts()
	switch {
	case errors.Is(err, store.ErrLocked):
		k.add(warning, about, "can't be counted: the data folder is in use by another process", "try again when it has ended")
		return
	case err != nil:
		k.add(warning, about, "can't be counted: "+err.Error(), "run this as the user that the server runs as")
		return
	}
	for _, domain := range slices.Sorted(maps.Keys(counts)) {
		if slices.Contains(k.c.Domains, domain) {
			k.add(fine, about, fmt.Sprintf("%s under %s", admin.CountAccounts(counts[domain]), domain), "")
			continue
		}
		k.add(warning, about, fmt.Sprintf("%s under %s, which is not among domains: nobody can log in there", admin.CountAccounts(counts[domain]), domain),
			"serve it too, or remove them (\"carillon user list "+domain+"\" shows them)")
	}
}

// countAccounts returns how many accounts each domain has.
func (k *checker) countAccounts() (map[string]int, error) {
	if k.server == nil {
		return store.LookDomains(k.c.Data)
	}
	result, err := k.server.Call(k.ctx, "user domains", nil)
	if err != nil {
		return nil, err
	}
	var list []admin.Domain
	if err := result.Decode(&list); err != nil {
		return nil, err
	}
	counts := make(map[string]int, len(list))
	for _, d := range list {
		if d.Accounts > 0 {
			counts[d.Name] = d.Accounts
		}
	}
	return counts, nil
}

func (k *checker) checkCertificates() {
	const about = "certificate"
	now := time.Now()
	for _, i := range cert.Inspect(certOptions(k.c)) {
		until := i.NotAfter.Format("2006-01-02")
		named := slices.DeleteFunc(slices.Clone(i.Domains), func(d string) bool { return slices.Contains(i.Missing, d) })
		domains := strings.Join(named, ", ")
		switch {
		case i.Err != nil:
			k.add(failure, about, i.Err.Error(), "correct cert and key, which must belong together")
			continue
		case i.SHA256 == "":
			k.add(fine, about, "a self-signed one for "+strings.Join(i.Domains, ", ")+" will be made at the first start", "")
			continue
		case i.Made:
			why := "which ends on " + until
			if len(i.Missing) > 0 {
				why = "which does not name " + strings.Join(i.Missing, ", ")
			}
			k.add(warning, about, "the next start makes another self-signed one in place of "+i.Pair.Cert+", "+why,
				"nothing to do, but its fingerprint will be another: clients ask again whether to trust it")
			continue
		case len(i.Missing) > 0:
			k.add(failure, about, i.Pair.Cert+" does not name "+strings.Join(i.Missing, ", "), "get one that names every domain, or one for each (table certificates)")
		}
		switch {
		case now.After(i.NotAfter):
			k.add(failure, about, i.Pair.Cert+" ended on "+until, "renew it; the server takes the new one by itself")
		case now.Before(i.NotBefore):
			k.add(failure, about, i.Pair.Cert+" is not valid before "+i.NotBefore.Format("2006-01-02"), "look at this machine's clock")
		case now.After(i.NotAfter.Add(-cert.WarnBefore)):
			k.add(warning, about, i.Pair.Cert+" ends on "+until, "renew it; the server takes the new one by itself")
		case domains != "":
			k.add(fine, about, fmt.Sprintf("%s for %s, until %s", i.Pair.Cert, domains, until), "")
		}
		switch {
		case i.SelfSigned && config.Public(i.Domains[0]):
			k.add(warning, about, "self-signed: clients will ask whether to trust SHA-256 "+i.SHA256, "get one from a certificate authority and set cert and key")
		case i.SelfSigned:
			k.add(fine, about, "self-signed: clients will ask whether to trust SHA-256 "+i.SHA256, "")
		case i.Trust != nil && len(i.Missing) == 0:
			k.add(warning, about, i.Pair.Cert+": "+i.Trust.Error(), "put the intermediate certificates into the file, after the domain's own")
		}
		if info, err := os.Stat(i.Pair.Key); err == nil && info.Mode().Perm()&0o044 != 0 {
			k.add(warning, about, fmt.Sprintf("others may read the private key %s (mode %04o)", i.Pair.Key, info.Mode().Perm()), "chmod o-r,g-r "+shellQuote(i.Pair.Key))
		}
	}
}

// certOptions are the certificates that the configuration asks for.
func certOptions(c config.Config) cert.Options {
	o := cert.Options{
		Dir: c.Data, Domains: c.Domains, Default: cert.Pair{Cert: c.Cert, Key: c.Key},
		Pairs: make(map[string]cert.Pair, len(c.Certificates)),
	}
	for domain, pair := range c.Certificates {
		o.Pairs[domain] = cert.Pair(pair)
	}
	return o
}

// checkComponents looks at the files with the components' secrets.
func (k *checker) checkComponents() {
	const about = "component"
	for _, domain := range slices.Sorted(maps.Keys(k.c.Components)) {
		file := k.c.Components[domain].SecretFile
		if file == "" {
			continue
		}
		info, err := os.Stat(file)
		secret, unreadable := os.ReadFile(file)
		switch {
		case err != nil || unreadable != nil:
			k.add(failure, about, domain+": "+errors.Join(err, unreadable).Error(), "make it readable for the user that the server runs as")
		case len(bytes.TrimSpace(secret)) == 0:
			k.add(failure, about, domain+": "+file+" is empty", "write the secret into it that the component has")
		case info.Mode().Perm()&0o004 != 0:
			k.add(warning, about, fmt.Sprintf("others may read the secret %s (mode %04o)", file, info.Mode().Perm()), "chmod o-r "+shellQuote(file))
		default:
			k.add(fine, about, domain+": secret in "+file, "")
		}
	}
}

func (k *checker) checkPorts() {
	const restart = "start it again with this configuration, or give this command the flags and the file that the server has"
	for _, l := range k.c.Listeners() {
		if l.Address == config.Off {
			k.add(fine, l.Key, "off", "")
			continue
		}
		held := k.status.Listening[l.Key]
		if held != "" && portOf(held) == portOf(l.Address) {
			k.add(fine, l.Key, held+" is the running server's", "")
			continue
		}
		listener, err := (&net.ListenConfig{}).Listen(k.ctx, "tcp", l.Address)
		if err == nil {
			listener.Close()
		}
		other := k.ownListener(l.Address)
		switch {
		case err != nil && other == "":
			k.add(failure, l.Key, err.Error(), "stop what listens there (\"ss -ltnp\" shows it), or choose another address")
		case err != nil:
			k.add(warning, l.Key, fmt.Sprintf("the running server has %s for %s", l.Address, other), restart)
		case k.server == nil || held != "" && portOf(l.Address) == "0":
			k.add(fine, l.Key, l.Address+" is free", "")
		case held == "":
			k.add(warning, l.Key, "the running server does not listen on "+l.Address, restart)
		default:
			k.add(warning, l.Key, fmt.Sprintf("the running server listens on %s, not on %s", held, l.Address), restart)
		}
	}
}

// ownListener returns the key of the listener for which the running server has an address' port, "" if it has it for none.
func (k *checker) ownListener(address string) string {
	for _, key := range slices.Sorted(maps.Keys(k.status.Listening)) {
		if portOf(k.status.Listening[key]) == portOf(address) {
			return key
		}
	}
	return ""
}

// checkFiles looks at how many files, and so connections, a process may have open. Go raises the soft limit to the hard one by itself.
func (k *checker) checkFiles() {
	limit, ok := fileLimit()
	what := fmt.Sprintf("%d open files, so about so many connections", limit)
	switch {
	case !ok:
	case limit < filesLow:
		k.add(warning, "open files", what, "raise the hard limit (ulimit -Hn, LimitNOFILE= of systemd)")
	default:
		k.add(fine, "open files", what, "")
	}
}

// checkDNS looks for the records by which clients find the server (RFC 6120 3.2.1, XEP-0368).
func (k *checker) checkDNS() {
	for _, domain := range k.c.Domains {
		if !config.Public(domain) {
			k.add(fine, "dns", domain+" is not looked up in the public DNS", "")
			continue
		}
		name, err := idna.Lookup.ToASCII(domain)
		if err != nil {
			k.add(failure, "dns", domain+": "+err.Error(), "use a domain that DNS can hold")
			continue
		}
		ctx, cancel := context.WithTimeout(k.ctx, dnsTimeout)
		found := k.checkSRV(ctx, name, "xmpp-client", k.c.C2S) + k.checkSRV(ctx, name, "xmpps-client", k.c.C2STLS)
		if found == 0 {
			k.checkAddress(ctx, name)
		}
		cancel()
	}
}

// checkServers looks at the domains as another server would: it asks DNS and connects to what that names (RFC 6120 3.2, XEP-0368).
func (k *checker) checkServers() {
	const about = "other servers"
	if k.c.S2S == config.Off {
		k.add(fine, about, "nothing is exchanged with them", "")
		return
	}
	for _, domain := range k.c.Domains {
		seen, err := server.LookAt(k.ctx, k.c, domain)
		switch {
		case errors.Is(err, lookup.ErrNoService):
			k.add(failure, about, domain+": "+err.Error(), fmt.Sprintf("add the record \"_xmpp-server._tcp.%s. SRV 0 0 %s HOST.\"", domain, portOf(k.c.S2S)))
		case err != nil:
			k.add(warning, about, domain+": "+err.Error(), "try again where DNS can be reached")
		}
		for _, s := range seen {
			switch {
			case errors.Is(s.Error, lookup.ErrNoService):
				k.add(failure, about, domain+": "+s.String(), "add an A or AAAA record for "+s.Target.Host)
			case s.Error != nil && k.server == nil:
				k.add(fine, about, domain+": no server answers now at "+s.Target.Address(), "")
			case s.Error != nil:
				k.add(failure, about, domain+": "+s.String(), "open the port in firewalls, and let it lead to "+k.c.S2S)
			case s.Proof == s2s.NoProof:
				k.add(failure, about, domain+": "+s.String(), "get a certificate for "+domain+" from an authority; until then only servers that are content with dialback talk to it")
			default:
				k.add(fine, about, domain+": "+s.String(), "")
			}
		}
	}
}

// checkSRV looks at one SRV record set and returns how many usable records it has.
func (k *checker) checkSRV(ctx context.Context, domain, service, listener string) int {
	record := "_" + service + "._tcp." + domain
	port := portOf(listener)
	_, records, err := net.DefaultResolver.LookupSRV(ctx, service, "tcp", domain)
	switch dnsErr, ok := errors.AsType[*net.DNSError](err); {
	case ok && dnsErr.IsNotFound:
		if port != "" {
			k.add(fine, "dns", "no record "+record, "")
		}
		return 0
	case err != nil:
		k.add(warning, "dns", record+": "+err.Error(), "try again where DNS can be reached")
		return 0
	}
	usable := 0
	for _, r := range records {
		target := net.JoinHostPort(strings.TrimSuffix(r.Target, "."), strconv.Itoa(int(r.Port)))
		switch _, err := net.DefaultResolver.LookupHost(ctx, r.Target); {
		case r.Target == ".":
			if port != "" {
				k.add(failure, "dns", record+" says that there is no such service", "remove the record, or set the listener to off")
			}
		case err != nil:
			k.add(failure, "dns", fmt.Sprintf("%s names %s, which has no address: %v", record, target, err), "add an A or AAAA record for it")
		case port == "":
			k.add(warning, "dns", fmt.Sprintf("%s names %s, but the listener is off", record, target), "remove the record")
		case strconv.Itoa(int(r.Port)) != port:
			k.add(warning, "dns", fmt.Sprintf("%s names %s, but the server listens on port %s", record, target, port), "change one of them, unless the port is forwarded")
			usable++
		default:
			k.add(fine, "dns", record+" names "+target, "")
			usable++
		}
	}
	return usable
}

// checkAddress looks at what clients do when there is no SRV record: they take the domain's own address and port 5222 (RFC 6120 3.2.2).
func (k *checker) checkAddress(ctx context.Context, domain string) {
	service, port := "xmpp-client", portOf(k.c.C2S)
	if port == "" {
		service, port = "xmpps-client", portOf(k.c.C2STLS)
	}
	if port == "" {
		k.add(warning, "dns", domain+" has no SRV records, and both listeners for clients are off", "turn one on, or nobody can connect")
		return
	}
	srv := fmt.Sprintf("add the record \"_%s._tcp.%s. SRV 0 0 %s HOST.\"", service, domain, port)
	addrs, err := net.DefaultResolver.LookupHost(ctx, domain)
	switch dnsErr, ok := errors.AsType[*net.DNSError](err); {
	case ok && dnsErr.IsNotFound:
		k.add(failure, "dns", domain+" has neither SRV records nor an address: clients can't find the server", srv)
	case err != nil:
		k.add(warning, "dns", domain+": "+err.Error(), "try again where DNS can be reached")
	case portOf(k.c.C2S) != "5222":
		k.add(failure, "dns", "without SRV records clients try port 5222, where the server does not listen", srv)
	default:
		k.add(fine, "dns", fmt.Sprintf("without SRV records clients try %s, port 5222", strings.Join(addrs, ", ")), "")
	}
}
