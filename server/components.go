package server

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"

	"carillon.im/server/account"
	"carillon.im/server/component"
	"carillon.im/server/config"
	"carillon.im/stanza"
)

// componentQueue is how many bytes may wait for one component: traffic of many
// users, for a program that stops for a moment.
const componentQueue = 8 << 20

// newComponents makes the border to the components of the configuration.
func newComponents(cfg config.Config, log *slog.Logger, receive func(context.Context, *stanza.Stanza) error) (*component.Server, error) {
	secrets, rates := map[string][]byte{}, map[string]int{}
	for domain, c := range cfg.Components {
		secrets[domain], rates[domain] = []byte(c.Secret), c.BytesPerSecond
		if c.SecretFile == "" {
			continue
		}
		b, err := os.ReadFile(c.SecretFile)
		if err != nil {
			return nil, fmt.Errorf("components.%q.secret_file: %w", domain, err)
		}
		if secrets[domain] = bytes.TrimSpace(b); len(secrets[domain]) == 0 {
			return nil, fmt.Errorf("components.%q.secret_file: %s is empty", domain, c.SecretFile)
		}
	}
	l := clientLimits(cfg.Limits)
	return component.New(component.Config{
		Secrets: secrets, Receive: receive, Log: log,
		Limits: component.Limits{
			Stanza: l.Stanza, Early: l.Early,
			EarlyTime: l.EarlyTime, Unauthenticated: componentsEarly, BytesPerSecond: rates, QueueBytes: componentQueue,
			WriteTime: l.WriteTime, Linger: l.Linger,
		},
	})
}

// componentsEarly is how many connections of components may be before their
// handshake: few programs, on an address that others don't reach.
const componentsEarly = 100

// receive takes what a component sends to the accounts.
func (s *Server) receive(ctx context.Context, st *stanza.Stanza) error { return s.hub.Receive(ctx, st) }

// borderTo finds the way to another domain.
func (s *Server) borderTo(domain string) account.Border {
	if s.rooms != nil && s.rooms.Has(domain) {
		return s.rooms
	}
	if c := s.border.Component(domain); c != nil {
		return c
	}
	return nil
}
