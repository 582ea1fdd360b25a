package server

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"time"

	"carillon.im/server/config"
	"carillon.im/server/features/external"
	"carillon.im/xep"
)

// serviceSecrets reads the secrets that stand in files.
func serviceSecrets(list []config.Service) ([]config.Service, error) {
	list = slices.Clone(list)
	for i := range list {
		s := &list[i]
		if s.SecretFile == "" {
			continue
		}
		b, err := os.ReadFile(s.SecretFile)
		if err != nil {
			return nil, fmt.Errorf("services[%d].secret_file: %w", i, err)
		}
		if s.Secret = string(bytes.TrimSpace(b)); s.Secret == "" {
			return nil, fmt.Errorf("services[%d].secret_file: %s is empty", i, s.SecretFile)
		}
	}
	return list, nil
}

// externalServices are the configuration's in the feature's terms.
func externalServices(list []config.Service) []external.Service {
	var all []external.Service
	for _, s := range list {
		all = append(all, external.Service{
			ExternalService: xep.ExternalService{Type: s.Type, Host: s.Host, Port: s.Port, Transport: s.Transport, Username: s.Username, Password: s.Password},
			Secret:          []byte(s.Secret), Life: time.Duration(s.Hours) * time.Hour,
		})
	}
	return all
}
