package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"carillon.im/server"
	"carillon.im/server/config"
)

func (p *program) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "print the version, the revision it was built from and the Go version",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(p.stdout, "carillon "+version())
			return err
		},
	}
}

// version describes the build, as far as the build knows it: first the release, as "check" and XEP-0092 tell it too.
func version() string {
	revision, modified := "", ""
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				revision = " " + s.Value[:min(12, len(s.Value))]
			case s.Key == "vcs.modified" && s.Value == "true":
				modified = " (modified)"
			}
		}
	}
	return server.Release() + revision + modified + " " + runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH
}

func (p *program) configCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "config",
		Short:   "print the configuration file with every key at its default, and what it means",
		Example: "  carillon config > carillon.toml\n  carillon serve --config carillon.toml",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprint(p.stdout, config.DefaultFile())
			return err
		},
	}
}
