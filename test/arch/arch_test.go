package arch

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	module = "carillon.im"

	// Sizes to feel bad about, in lines.
	longFunction, longFile, longPackage = 100, 600, 6000
)

// folder is one folder of the module with its source, tests left out.
type folder struct {
	path  string // below the module, "" for its root
	fset  *token.FileSet
	files map[string]*ast.File // by path below the module
	lines map[string]int
}

// load parses the module. Build constraints are ignored: every file counts.
func load(t *testing.T) []folder {
	t.Helper()
	root := filepath.Join("..", "..")
	byPath := map[string]*folder{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			name := d.Name()
			_, statErr := os.Stat(filepath.Join(path, "go.mod"))
			other := path != root && statErr == nil // a module of its own
			if other || name == "testdata" || name == "node_modules" || (path != root && strings.HasPrefix(name, ".")) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		dir := filepath.ToSlash(filepath.Dir(rel))
		if dir == "." {
			dir = ""
		}
		f := byPath[dir]
		if f == nil {
			f = &folder{dir, token.NewFileSet(), map[string]*ast.File{}, map[string]int{}}
			byPath[dir] = f
		}
		file, err := parser.ParseFile(f.fset, path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		f.files[rel] = file
		f.lines[rel] = f.fset.File(file.Pos()).LineCount()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var folders []folder
	for _, f := range byPath {
		folders = append(folders, *f)
	}
	slices.SortFunc(folders, func(a, b folder) int { return strings.Compare(a.path, b.path) })
	return folders
}

// where names a place as path:line.
func (f folder) where(n ast.Node) string {
	p := f.fset.Position(n.Pos())
	return strings.TrimPrefix(filepath.ToSlash(p.Filename), "../../") + ":" + strconv.Itoa(p.Line)
}

func TestImports(t *testing.T) {
	for _, f := range load(t) {
		if _, ok := roomOf(f.path); !ok {
			t.Errorf("%q has no row in the table of rooms", f.path)
			continue
		}
		for _, file := range f.files {
			for _, spec := range file.Imports {
				path, _ := strconv.Unquote(spec.Path.Value)
				to, ours := strings.CutPrefix(path, module+"/")
				if ours && !allowed(f.path, to) {
					t.Errorf("%s: %s must not import %s", f.where(spec), f.path, to)
				}
			}
		}
	}
}

// TestTable checks the judgement itself.
func TestTable(t *testing.T) {
	for _, c := range []struct {
		from, to string
		want     bool
	}{
		{"stanza", "jid", true},
		{"jid", "stanza", false},
		{"xmltree", "xmltree/internal/expat", true},
		{"stream", "server/route", false},
		{"client", "stream", true},
		{"client", "server/store", false},
		{"client/convo", "stream", false},
		{"server/route", "xep", true},
		{"server/route", "server/store", false},
		{"server/features/mam", "server/feature", true},
		{"server/features/mam", "server/features/ping", false},
		{"server/features/mam", "server/features/mam/form", true},
		{"server/features/mam", "server/account", false},
		{"server/c2s", "server/account", true},
		{"server/account", "server/c2s", false},
		{"server", "server/features/mam", true},
		{"server", "client", false},
		{"cmd/carillon", "server", true},
		{"cmd/carillon", "server/config", true},
		{"test/interop", "client", true},
	} {
		if got := allowed(c.from, c.to); got != c.want {
			t.Errorf("%s importing %s: %t, want %t", c.from, c.to, got, c.want)
		}
	}
}

func TestPure(t *testing.T) {
	for _, f := range load(t) {
		if r, ok := roomOf(f.path); !ok || !r.pure || strings.Contains(f.path, "/internal/") {
			continue
		}
		for _, file := range f.files {
			for _, spec := range file.Imports {
				path, _ := strconv.Unquote(spec.Path.Value)
				if slices.Contains(impure(), path) {
					t.Errorf("%s: %s is pure, it must not import %s", f.where(spec), f.path, path)
				}
			}
			ast.Inspect(file, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.GoStmt:
					t.Errorf("%s: %s is pure, it must not start a goroutine", f.where(n), f.path)
				case *ast.SelectorExpr:
					if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains(clock(), n.Sel.Name) {
						t.Errorf("%s: %s is pure, it must not use time.%s: take the time as a parameter", f.where(n), f.path, n.Sel.Name)
					}
				}
				return true
			})
		}
	}
}

// TestSimAlone: the simulation has nothing of the world outside: no network, no files,
// no processes. Its clock is its bubble's, which it checks itself.
func TestSimAlone(t *testing.T) {
	for _, f := range load(t) {
		if f.path != "sim" {
			continue
		}
		for _, file := range f.files {
			for _, spec := range file.Imports {
				switch path, _ := strconv.Unquote(spec.Path.Value); path {
				case "net", "net/http", "os", "os/exec", "syscall", "crypto/rand":
					t.Errorf("%s: the simulation must not import %s", f.where(spec), path)
				}
			}
		}
	}
}

func TestHabits(t *testing.T) {
	for _, f := range load(t) {
		for _, file := range f.files {
			if name := file.Name.Name; slices.Contains(vague(), name) || slices.Contains(vague(), filepath.Base(f.path)) {
				t.Errorf("%s: a package called %s says nothing", f.where(file), name)
			}
			for _, decl := range file.Decls {
				if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
					t.Errorf("%s: no init(): pass what is needed", f.where(fn))
				}
			}
		}
	}
}

// TestDocumented: what is exported says what it is for.
func TestDocumented(t *testing.T) {
	for _, f := range load(t) {
		for _, file := range f.files {
			if file.Name.Name == "main" {
				continue
			}
			for _, decl := range file.Decls {
				for _, name := range undocumented(decl) {
					t.Errorf("%s: exported %s has no comment", f.where(name), name.Name)
				}
			}
		}
	}
}

// undocumented returns the exported names of a declaration that no comment explains. In a group of constants or
// variables, the group's comment or a comment behind the line will do.
func undocumented(decl ast.Decl) []*ast.Ident {
	var found []*ast.Ident
	switch d := decl.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && d.Doc == nil && (d.Recv == nil || exportedReceiver(d.Recv)) && !interfaceMethod(d) {
			found = append(found, d.Name)
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() && s.Doc == nil && d.Doc == nil && s.Comment == nil {
					found = append(found, s.Name)
				}
			case *ast.ValueSpec:
				for _, name := range s.Names {
					if name.IsExported() && s.Doc == nil && d.Doc == nil && s.Comment == nil {
						found = append(found, name)
					}
				}
			}
		}
	}
	return found
}

func exportedReceiver(recv *ast.FieldList) bool {
	typ := recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	switch t := typ.(type) {
	case *ast.IndexExpr:
		typ = t.X
	case *ast.IndexListExpr:
		typ = t.X
	}
	name, ok := typ.(*ast.Ident)
	return ok && name.IsExported()
}

// interfaceMethod finds methods that mean what the standard library says they mean.
func interfaceMethod(d *ast.FuncDecl) bool {
	return d.Recv != nil && slices.Contains([]string{"String", "Error", "Unwrap", "Is", "Len", "Less", "Swap"}, d.Name.Name)
}

// TestVariables: no package variable that changes. Errors, embedded files and checks of the form var _ are constants in
// all but name, and a sync.Pool holds nothing that anybody could observe; any other variable must be unexported and
// nowhere be assigned to, be written through, or have its own address taken.
func TestVariables(t *testing.T) {
	for _, f := range load(t) {
		pkg, uses := resolve(f)
		checked := map[types.Object]bool{}
		for _, file := range f.files {
			for _, decl := range file.Decls {
				gen, ok := decl.(*ast.GenDecl)
				if !ok || gen.Tok != token.VAR {
					continue
				}
				for _, spec := range gen.Specs {
					v := spec.(*ast.ValueSpec)
					if embedded(gen, v) || isPool(v) {
						continue
					}
					for i, name := range v.Names {
						switch {
						case name.Name == "_" || isError(name.Name, v, i):
						case name.IsExported():
							t.Errorf("%s: exported variable %s: anybody may change it", f.where(name), name.Name)
						default:
							checked[pkg.Scope().Lookup(name.Name)] = true
						}
					}
				}
			}
		}
		for _, file := range f.files {
			for _, name := range written(file) {
				if obj := uses[name]; obj != nil && checked[obj] {
					t.Errorf("%s: package variable %s is changed", f.where(name), name.Name)
				}
			}
		}
	}
}

// resolve tells which identifier means which object of the package. What is imported stays unknown; it is not needed.
func resolve(f folder) (*types.Package, map[*ast.Ident]types.Object) {
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}}
	config := types.Config{Importer: unknown{}, Error: func(error) {}}
	var files []*ast.File
	for _, file := range f.files {
		files = append(files, file)
	}
	pkg, _ := config.Check(f.path, f.fset, files, info)
	return pkg, info.Uses
}

type unknown struct{}

func (unknown) Import(path string) (*types.Package, error) {
	return nil, errors.New("not needed: " + path)
}

func embedded(gen *ast.GenDecl, v *ast.ValueSpec) bool {
	for _, doc := range []*ast.CommentGroup{gen.Doc, v.Doc} {
		if doc == nil {
			continue
		}
		for _, c := range doc.List {
			if strings.HasPrefix(c.Text, "//go:embed ") {
				return true
			}
		}
	}
	return false
}

func isPool(v *ast.ValueSpec) bool {
	typ := v.Type
	if len(v.Values) == 1 {
		if lit, ok := v.Values[0].(*ast.CompositeLit); ok {
			typ = lit.Type
		}
	}
	sel, ok := typ.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	x, ok := sel.X.(*ast.Ident)
	return ok && x.Name == "sync" && sel.Sel.Name == "Pool"
}

// isError recognises var ErrX = errors.New(…), or any other value that is named as an error.
func isError(name string, v *ast.ValueSpec, i int) bool {
	return (strings.HasPrefix(name, "Err") || strings.HasPrefix(name, "err")) && i < len(v.Values)
}

// written returns the identifiers that a file assigns to, writes through by index, field or pointer, or takes the
// address of.
func written(file *ast.File) []*ast.Ident {
	var found []*ast.Ident
	add := func(e ast.Expr) {
		if name := root(e); name != nil {
			found = append(found, name)
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			if n.Tok != token.DEFINE {
				for _, e := range n.Lhs {
					add(e)
				}
			}
		case *ast.IncDecStmt:
			add(n.X)
		case *ast.RangeStmt:
			if n.Tok == token.ASSIGN {
				add(n.Key)
				add(n.Value)
			}
		case *ast.UnaryExpr:
			// Of an element of a table it is the way to read without a copy.
			if name, ok := n.X.(*ast.Ident); ok && n.Op == token.AND {
				add(name)
			}
		case *ast.CallExpr:
			if fn, ok := n.Fun.(*ast.Ident); ok && len(n.Args) > 0 && (fn.Name == "delete" || fn.Name == "clear" || fn.Name == "copy") {
				add(n.Args[0])
			}
		}
		return true
	})
	return found
}

// root returns the variable that an expression is a part of.
func root(e ast.Expr) *ast.Ident {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x
		case *ast.IndexExpr:
			e = x.X
		case *ast.SliceExpr:
			e = x.X
		case *ast.SelectorExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		default:
			return nil
		}
	}
}

// TestSizes fails for nothing: it lists what to feel bad about.
func TestSizes(t *testing.T) {
	for _, f := range load(t) {
		total := 0
		for path, file := range f.files {
			total += f.lines[path]
			if f.lines[path] > longFile {
				t.Logf("%s: %d lines", path, f.lines[path])
			}
			for _, decl := range file.Decls {
				fn, ok := decl.(*ast.FuncDecl)
				if !ok {
					continue
				}
				if n := f.fset.Position(fn.End()).Line - f.fset.Position(fn.Pos()).Line + 1; n > longFunction {
					t.Logf("%s: %s has %d lines", f.where(fn), fn.Name.Name, n)
				}
			}
		}
		if total > longPackage {
			t.Logf("%s: %d lines", f.path, total)
		}
	}
}
