package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"carillon.im/jid"
	"carillon.im/server"
	"carillon.im/server/admin"
	"carillon.im/server/config"
	"carillon.im/server/portable"
)

func (p *program) exportCommand() *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use:   "export [JID...]",
		Short: "write accounts and rooms as XML, for another server or to keep",
		Long: "Writes accounts with everything that belongs to them (passwords as SCRAM keys, contacts, block lists, vCards, private XML, nodes, messages\n" +
			"that wait, archives) and rooms, in the format of XEP-0227, which other servers read and write. Without addresses: all that there are.\n" +
			"Keep the result to yourself: from the keys in it passwords can be guessed. Uploaded files and devices' tokens don't come along.",
		Example: "  carillon export --to accounts.xml\n  carillon export --to folder/ romeo@localhost",
	}
	o := addOptions(cmd, false)
	cmd.Flags().StringVar(&to, "to", "", "`FILE|DIR` to write: one file, or in a folder (a name that ends with / or is one) a file for each account")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := o.loadAccounts()
		if err != nil {
			return err
		}
		var only []jid.JID
		for _, a := range args {
			j, err := jid.Parse(a)
			if err != nil || j.Local() == "" || !j.IsBare() {
				return fmt.Errorf("%q is no account: wanted name@domain, as in romeo@localhost", a)
			}
			only = append(only, j)
		}
		if f, ok := p.stdout.(*os.File); to == "" && ok && term.IsTerminal(int(f.Fd())) {
			return errors.New("say where to, with --to FILE or --to DIR/: an export is nothing for a screen")
		}
		if err := haveData(cmd.Context(), c, admin.Call{}); err != nil {
			return err
		}
		return p.export(cmd.Context(), c, to, only)
	}
	return cmd
}

// export writes to a file, a folder, or standard output for "". A file that is there is replaced once the new one is whole.
func (p *program) export(ctx context.Context, c config.Config, to string, only []jid.JID) error {
	seen := p.progress("written")
	defer seen.end()
	if to == "" {
		return p.exportTo(ctx, c, seen.writer(p.stdout), only)
	}
	if info, err := os.Stat(to); strings.HasSuffix(to, "/") || err == nil && info.IsDir() {
		sink, err := portable.NewFolder(to)
		if err != nil {
			return err
		}
		out, in := io.Pipe()
		go func() { in.CloseWithError(p.exportTo(ctx, c, seen.writer(in), only)) }()
		err = portable.Copy(sink, portable.NewStreamReader(out))
		return errors.Join(err, out.CloseWithError(err))
	}
	f, err := os.CreateTemp(filepath.Dir(to), ".carillon-export-") // for its owner alone
	if err != nil {
		return err
	}
	err = p.exportTo(ctx, c, seen.writer(f), only)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), to)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	fmt.Fprintf(p.stderr, "written to %s\n", to)
	return nil
}

// exportTo has the running server export, or does it.
func (p *program) exportTo(ctx context.Context, c config.Config, to io.Writer, only []jid.JID) error {
	return p.reach(ctx, c, func(callee callee, _ bool) error {
		switch callee := callee.(type) {
		case *admin.Client:
			return callee.Export(ctx, to, only)
		case *admin.Host:
			return callee.Export(ctx, to, only)
		}
		return errors.New("nobody to ask")
	})
}

func (p *program) importCommand() *cobra.Command {
	var dry, merge, skip, lenient, asJSON bool
	cmd := &cobra.Command{
		Use:   "import FILE|DIR...",
		Short: "take over accounts and rooms from XML that this or another server wrote",
		Long: "Reads accounts in the format of XEP-0227, as \"carillon export\", ejabberd (export_piefxis) and Prosody (its storage xep0227) write it: a file\n" +
			"with what it includes, or a folder with such files. Everything is looked at before anything is changed; if something is wrong, nothing is.\n" +
			"Each account is then there as a whole or not at all, and the same import again changes nothing.\n\n" +
			"An account that exists and lacks something refuses the import, unless you say what to do: --merge gives it what it lacks, and leaves all that\n" +
			"it has as it is; --skip leaves it alone. A running server takes new accounts; stop it to merge, or to import rooms.",
		Example: "  carillon import accounts.xml --dry-run\n  carillon import /var/lib/prosody-export\n  carillon import accounts.xml --merge",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("import needs FILE or DIR, what to read (\"carillon import --help\" shows more)")
			}
			return nil
		},
	}
	o := addOptions(cmd, false)
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only look, and list what would change")
	cmd.Flags().BoolVar(&merge, "merge", false, "give accounts that exist what they lack")
	cmd.Flags().BoolVar(&skip, "skip", false, "leave accounts that exist as they are")
	cmd.Flags().BoolVar(&lenient, "lenient", false, "leave out what can't be taken, such as contacts with impossible addresses")
	cmd.Flags().BoolVar(&asJSON, "json", false, "tell of each account in JSON, one line each")
	cmd.MarkFlagsMutuallyExclusive("merge", "skip")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := o.loadAccounts()
		if err != nil {
			return err
		}
		docs, err := documents(args)
		if err != nil {
			return err
		}
		defer docs.close()
		t := admin.ImportOptions{Dry: true, Lenient: lenient}
		switch {
		case merge:
			t.Existing = string(portable.Merge)
		case skip:
			t.Existing = string(portable.Skip)
		}
		if _, err := os.Stat(c.Data); errors.Is(err, fs.ErrNotExist) && dry {
			return fmt.Errorf("there is no data folder %s to compare with: say where it is with --data or --config", absolute(c.Data))
		}
		r := importReport{to: p.stdout, json: asJSON, quiet: !dry}
		return p.imports(cmd.Context(), c, docs, t, &r, dry)
	}
	return cmd
}

// imports looks first and then, if nothing is wrong and that is wanted, imports.
func (p *program) imports(ctx context.Context, c config.Config, docs *importDocs, o admin.ImportOptions, r *importReport, dry bool) error {
	docs.seen = p.progress("read")
	defer docs.seen.end()
	return p.reach(ctx, c, func(callee callee, _ bool) error {
		err := r.run(ctx, c, callee, docs, o)
		if err != nil && !dry {
			err = fmt.Errorf("nothing was imported: %w", err)
		}
		if err != nil {
			return err
		}
		if dry {
			return r.end("dry run, nothing was changed: ")
		}
		o.Dry, r.quiet, r.did = false, false, nil
		if err := r.run(ctx, c, callee, docs, o); err != nil {
			return fmt.Errorf("the import stopped (each account is there as a whole or not at all; the same again goes on): %w", err)
		}
		return r.end("")
	})
}

// importReport prints what becomes of accounts.
type importReport struct {
	to    io.Writer
	json  bool
	quiet bool // only what is wrong
	told  int
	did   map[string]int
}

// run has the documents looked at or imported.
func (r *importReport) run(ctx context.Context, c config.Config, callee callee, docs *importDocs, o admin.ImportOptions) error {
	in := docs.reader()
	defer in.Close()
	switch callee := callee.(type) {
	case *admin.Host: // files and places as they are
		i := server.Import(c, callee)
		i.Existing, i.Lenient = portable.Existing(o.Existing), o.Lenient
		i.Tell = func(x portable.Outcome) { r.tell(x) }
		if o.Dry {
			return i.Check(ctx, in)
		}
		return i.Apply(ctx, in)
	case *admin.Client:
		body, w := io.Pipe()
		read := make(chan error, 1)
		go func() {
			err := portable.Copy(portable.NewSink(w), in)
			read <- err
			w.CloseWithError(err)
		}()
		err := callee.Import(ctx, body, o, func(b json.RawMessage) error {
			var x portable.Outcome
			err := json.Unmarshal(b, &x)
			r.tell(x)
			return err
		})
		body.CloseWithError(errBodyDone)
		if e := <-read; e != nil && !errors.Is(e, errBodyDone) {
			return e // it says where; the server only that no more came
		}
		return err
	}
	return errors.New("nobody to ask")
}

var errBodyDone = errors.New("the server has answered")

func (r *importReport) tell(x portable.Outcome) {
	r.told++
	if r.did == nil {
		r.did = map[string]int{}
	}
	if x.Did != "unchanged" || len(x.Left) == 0 || strings.Contains(x.JID, "@") {
		r.did[x.Did]++
	}
	if r.quiet && x.Did != "refused" {
		return
	}
	var b bytes.Buffer
	if r.json {
		if line, err := json.Marshal(x); err == nil {
			b.Write(append(line, '\n'))
		}
	} else {
		if x.Did != "unchanged" {
			fmt.Fprintf(&b, "%s %s", x.Did, x.JID)
			if x.Did == "new" || x.Did == "merged" {
				fmt.Fprintf(&b, ": %s", portable.Describe(x.Counts))
			}
			b.WriteByte('\n')
		}
		for _, l := range x.Left {
			fmt.Fprintf(&b, "  %s: left out: %s\n", x.JID, l)
		}
		for _, l := range x.Problems {
			fmt.Fprintf(&b, "  %s: %s\n", x.JID, l)
		}
	}
	_, _ = r.to.Write(b.Bytes())
}

func (r *importReport) end(before string) error {
	if r.json {
		return nil
	}
	var parts []string
	for _, did := range []string{"new", "merged", "unchanged", "skipped"} {
		if n := r.did[did]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, did))
		}
	}
	if len(parts) == 0 {
		parts = []string{"no accounts"}
	}
	_, err := fmt.Fprintf(r.to, "%s%s\n", before, strings.Join(parts, ", "))
	return err
}

// importDocs are files to be read, each with what it includes from its folder.
type importDocs struct {
	folders []importFolder
	files   []string
	seen    *progress
}

type importFolder struct {
	path string // ends with a slash, or is empty for the one that the command was started in
	root *os.Root
}

// documents finds what to read: files, and in folders what "carillon export" writes, or every file that is a document.
func documents(args []string) (_ *importDocs, err error) {
	d := &importDocs{}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	for _, arg := range args {
		info, err := os.Stat(arg)
		if err != nil {
			return nil, err
		}
		dir, names := arg, []string{filepath.Base(arg)}
		if !info.IsDir() {
			dir = filepath.Dir(arg)
		}
		f := importFolder{path: filepath.ToSlash(filepath.Clean(dir)) + "/"}
		if f.path == "./" {
			f.path = ""
		}
		if f.root, err = os.OpenRoot(dir); err != nil {
			return nil, err
		}
		d.folders = append(d.folders, f)
		if info.IsDir() {
			if names, err = mainFiles(f.root); err != nil {
				return nil, err
			}
			if len(names) == 0 {
				return nil, fmt.Errorf("no file in %s (*.xml) is a document of XEP-0227", arg)
			}
		}
		for _, name := range names {
			d.files = append(d.files, f.path+name)
		}
	}
	return d, nil
}

// mainFiles are the documents in a folder that aren't only parts of others.
func mainFiles(root *os.Root) (names []string, err error) {
	if _, err := root.Stat(portable.MainFile); err == nil {
		return []string{portable.MainFile}, nil
	}
	list, err := fs.Glob(root.FS(), "*.xml")
	if err != nil {
		return nil, err
	}
	for _, name := range list {
		r := portable.NewReader(func(file string) (io.ReadCloser, error) { return root.Open(file) }, name)
		if _, err := r.Next(); !errors.Is(err, portable.ErrOther) { // what is no XML at all is told later
			names = append(names, name)
		}
		if err := r.Close(); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// reader reads them all. What they include lies in or below their own folders.
func (d *importDocs) reader() *portable.Reader {
	return portable.NewReader(func(file string) (io.ReadCloser, error) {
		err := error(&fs.PathError{Op: "open", Path: file, Err: fs.ErrNotExist})
		for _, f := range d.folders {
			if name, within := strings.CutPrefix(file, f.path); within {
				in, failed := f.root.Open(filepath.FromSlash(name))
				if failed == nil {
					return d.seen.file(in), nil
				}
				err = failed
			}
		}
		return nil, err
	}, d.files...)
}

func (d *importDocs) close() {
	for _, f := range d.folders {
		_ = f.root.Close() // it was only read from
	}
}
