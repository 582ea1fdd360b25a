package client

import (
	"fmt"
	"slices"
	"strings"

	"carillon.im/sasl"
	"carillon.im/stream"
	"carillon.im/xep"
)

// scramHashes are the hashes of SCRAM, strongest first, with the tasks of
// XEP-0480 that give a server keys of them.
var scramHashes = [...]struct {
	mechanism, task string
	hash            sasl.Hash
}{
	{sasl.ScramSHA512, "UPGR-SCRAM-SHA-512", sasl.SHA512},
	{sasl.ScramSHA256, "UPGR-SCRAM-SHA-256", sasl.SHA256},
	{sasl.ScramSHA1, "", sasl.SHA1},
}

// hashOf is the place of a mechanism in scramHashes; -1 for what is not SCRAM.
func hashOf(mechanism string) int {
	name := strings.TrimSuffix(mechanism, "-PLUS")
	for i, s := range scramHashes {
		if s.mechanism == name {
			return i
		}
	}
	return -1
}

// upgrades are the tasks to do with a login by SCRAM: those for stronger hashes
// that the server has on offer (XEP-0480 2.1).
func (g *login) upgrades(mechanism string) []string {
	var tasks []string
	for _, s := range scramHashes[:max(hashOf(mechanism), 0)] {
		if slices.Contains(g.offer.Upgrades, s.task) {
			tasks = append(tasks, s.task)
		}
	}
	return tasks
}

// weaker reports whether a refused login with SCRAM is to be tried again with a
// weaker hash, and remembers it. A server that has upgrades on offer has accounts
// without keys of the stronger hashes, and can't say of which, or names could be
// guessed by it (XEP-0480 5). An account that has logged in with a hash once has its
// keys for good.
func (g *login) weaker(ev stream.Event) bool {
	i := hashOf(g.result.Mechanism)
	if g.token || i < 0 || sasl.Condition(ev.Name) != sasl.NotAuthorized || !slices.Contains(g.offer.Upgrades, scramHashes[i].task) {
		return false
	}
	if known := hashOf(g.state.Scram); known >= 0 && known <= i {
		return false
	}
	for j, s := range scramHashes[i+1:] {
		if slices.Contains(g.offer.Mechanisms, s.mechanism+strings.TrimPrefix(g.result.Mechanism, scramHashes[i].mechanism)) {
			g.refusedHashes = i + 1 + j
			return true
		}
	}
	return false
}

// left are the mechanisms without those of hashes that were refused already.
func (g *login) left(mechanisms []string) []string {
	return slices.DeleteFunc(slices.Clone(mechanisms), func(m string) bool {
		i := hashOf(m)
		return i >= 0 && i < g.refusedHashes
	})
}

// task does the next of what was asked to be done behind an exchange (XEP-0388
// 2.6.3).
func (g *login) task(ev stream.Event) error {
	if err := g.succeed(ev.Data); err != nil {
		return err // what follows is as good as the password: for a server that has proved to know it
	}
	offered := stream.ParseTasks(ev.Element)
	i := slices.IndexFunc(g.asked.upgrades, func(task string) bool { return slices.Contains(offered, task) })
	if i < 0 {
		return ErrTasks
	}
	task := g.asked.upgrades[i]
	g.asked.upgrades = slices.Delete(g.asked.upgrades, i, i+1) // each once
	return g.upgrade(task)
}

// upgrade gives the server what it makes keys of another hash of (XEP-0480 3).
func (g *login) upgrade(task string) error {
	if err := g.write(g.link.mach.BeginTask(nil, task)); err != nil {
		return err
	}
	ev, err := g.expect(stream.TaskData)
	if err != nil {
		return err
	}
	salt, iterations, ok := xep.ParseSCRAMSalt(ev.Element)
	if !ok || iterations < sasl.MinIterations {
		return violation("not a salt")
	}
	for _, s := range scramHashes {
		if s.task != task {
			continue
		}
		salted, err := sasl.SaltPassword(s.hash, g.c.secret(), salt, iterations)
		if err != nil {
			return fmt.Errorf("client: keys for %s: %w", task, err)
		}
		return g.write(g.link.mach.TaskData(nil, xep.AppendSCRAMHash(nil, salted)))
	}
	return ErrTasks
}
