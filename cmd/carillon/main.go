// Command carillon is an XMPP server and the tool to look after it. "serve" runs the server of package server; the user commands are made from
// admin.Calls and go to the running server's control socket, or to the database itself while no server runs; "check" looks at everything around the
// server that may be wrong. Configuration comes from package config: defaults, then the file, then flags.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
)

func main() {
	p := &program{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, name: commandName()}
	os.Exit(p.run(context.Background(), os.Args[1:]))
}

// program is what commands have of the outside.
type program struct {
	stdin          *os.File // a file, for only a terminal can be asked for a password
	stdout, stderr io.Writer
	name           string // what to type for this program
}

// reported is an error whose text has been printed already.
type reported struct{}

func (reported) Error() string { return "reported" }

// run carries out a command line and returns the exit code: 0 done, 1 failed, as said on stderr; codeInterrupted if a signal ended it,
// codeTemporary if the account's server couldn't be reached.
func (p *program) run(ctx context.Context, args []string) int {
	root := &cobra.Command{
		Use:   "carillon",
		Short: "XMPP server that keeps all devices of its users in step",
		Long: "carillon is an XMPP server that keeps all devices of its users in step, and a client that shows it.\n\n" +
			"\"carillon serve\" needs nothing else: it serves the domain localhost from ./carillon-data, with a certificate that it makes itself.",
		Example: "  carillon serve\n  carillon user add romeo@localhost\n  carillon chat --demo\n  carillon check --config carillon.toml",
		Version: version(),
		// Errors are printed here, once; the usage would hide them.
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          knownCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetVersionTemplate("carillon {{.Version}}\n")
	root.SetFlagErrorFunc(knownFlag)
	root.SetArgs(args)
	root.SetIn(p.stdin)
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	root.AddCommand(p.serveCommand(), p.chatCommand(), p.sendCommand(), p.listenCommand(), p.userCommand(), p.roomCommand(), p.explainCommand(),
		p.traceCommand(), p.callCommand(callOf("s2s")), p.callCommand(callOf("reports")), p.exportCommand(), p.importCommand(), p.checkCommand(), p.configCommand(), p.versionCommand())
	if err := root.ExecuteContext(ctx); err != nil {
		if _, said := err.(reported); !said {
			fmt.Fprintf(p.stderr, "carillon: %v\n", err)
		}
		switch _, later := errors.AsType[unreachable](err); {
		case errors.Is(err, errInterrupted):
			return codeInterrupted
		case later:
			return codeTemporary
		}
		return 1
	}
	return 0
}
