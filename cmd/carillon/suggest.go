package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"carillon.im/server/config"
)

// knownCommand is the argument check of a command that has only subcommands: whatever comes is one that is misspelled or in the wrong place.
func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var near []string
	add := func(of *cobra.Command) {
		of.SuggestionsMinimumDistance = 2 // letters
		for _, name := range of.SuggestionsFor(args[0]) {
			if path := of.CommandPath() + " " + name; !slices.Contains(near, path) {
				near = append(near, path)
			}
		}
	}
	add(cmd)
	for _, of := range cmd.Commands() {
		if len(near) == 0 && of.HasSubCommands() && of.Name() != "completion" {
			add(of)
		}
	}
	advice := fmt.Sprintf("\"%s --help\" lists all", cmd.CommandPath())
	if len(near) > 0 {
		advice = "did you mean \"" + strings.Join(near, "\" or \"") + "\"?"
	}
	return fmt.Errorf("unknown command %q: %s", args[0], advice)
}

// knownFlag is the error for a flag that a command hasn't, with the nearest one that it has.
func knownFlag(cmd *cobra.Command, err error) error {
	unknown, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok {
		return err
	}
	given, dashes := unknown.GetSpecifiedName(), "--"
	if letters := unknown.GetSpecifiedShortnames(); letters != "" { // "-config" is read as -c -o -n and so on
		given, dashes = letters, "-"
	}
	best, bestCost := "", 1+len(given)/3 // from there on, it is another word
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if cost := config.Distance(given, f.Name); cost < bestCost && !f.Hidden {
			best, bestCost = f.Name, cost
		}
	})
	if best == "" || len(given) < 2 {
		return fmt.Errorf("unknown flag %s%s: \"%s --help\" lists all", dashes, given, cmd.CommandPath())
	}
	return fmt.Errorf("unknown flag %s%s: did you mean --%s?", dashes, given, best)
}
