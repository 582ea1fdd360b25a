package server

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"time"

	"carillon.im/jid"
	"carillon.im/server/admin"
	"carillon.im/server/config"
	"carillon.im/server/upload"
	"carillon.im/server/web"
	"carillon.im/xep"
)

// newWeb makes what the web listeners serve.
func (s *Server) newWeb(ctx context.Context) error {
	private, err := admin.Handler(admin.Pages{
		Health: s.store.Check, Sources: s.sources(), Log: s.log,
		Profiling: s.log.Enabled(ctx, slog.LevelDebug),
	})
	if err != nil {
		return err
	}
	proxies, err := s.cfg.Web.Networks()
	if err != nil {
		return err
	}
	o := web.Options{Domains: s.cfg.Domains, URL: s.cfg.Web.URL, Proxies: proxies, WebSocket: s.c2s.ServeWebSocket, BOSH: s.c2s.ServeBOSH, Private: private, Now: time.Now}
	o.Addresses, o.ClientTLS, o.ServerTLS = s.cfg.Web.Addresses, s.port("c2s_tls"), s.port("s2s_tls")
	if s.files != nil {
		o.Upload = s.files
	}
	if s.invites != nil {
		o.Invite = s.invites
	}
	site := web.New(o)
	server := func(h http.Handler) *http.Server {
		hs := &http.Server{Handler: h, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
		site.Limit(hs, s.cfg.Limits.UnauthenticatedConnections, s.cfg.Limits.UnauthenticatedPerAddress)
		return hs
	}
	s.pages, s.public = server(site.Local()), server(site.Public())
	return nil
}

// port is the port of a listener, 0 if it is off.
func (s *Server) port(key string) int {
	a, err := netip.ParseAddrPort(s.Addrs()[key])
	if err != nil {
		return 0
	}
	return int(a.Port())
}

// newUpload makes the service for files, nil where there is none: if none is wanted,
// or where the web couldn't reach it.
func (s *Server) newUpload(ctx context.Context) (*upload.Service, error) {
	u := s.cfg.Upload
	folder := u.Folder
	if folder == "" && s.cfg.Data != ":memory:" {
		folder = filepath.Join(s.cfg.Data, "upload")
	}
	if !uploads(s.cfg) || folder == "" {
		return nil, nil
	}
	secret, err := s.store.Secret(ctx, "upload", upload.SecretSize)
	if err != nil {
		return nil, err
	}
	return upload.New(upload.Options{
		Store: s.store, Folder: folder, Secret: secret, Domains: s.cfg.Domains, Base: s.webBase, Receive: s.receive, Now: time.Now, Rand: rand.Reader, Log: s.log,
		Limits: upload.Limits{File: int64(u.FileBytes), Day: int64(u.DayBytes), Account: int64(u.AccountBytes),
			Keep: time.Duration(u.KeepDays) * 24 * time.Hour, Types: u.Types},
	})
}

// uploads reports whether files are taken.
func uploads(cfg config.Config) bool {
	return cfg.Upload.FileBytes > 0 && (cfg.HTTPS != config.Off || cfg.Web.URL != "") && (cfg.Data != ":memory:" || cfg.Upload.Folder != "")
}

// uploadItems are the services for files, as items of their domains.
func uploadItems(cfg config.Config) (items []xep.DiscoItem) {
	if !uploads(cfg) {
		return nil
	}
	for _, d := range cfg.Domains {
		if j, err := jid.New("", upload.Label+"."+d, ""); err == nil {
			items = append(items, xep.DiscoItem{JID: j})
		}
	}
	return items
}

// webBase is where the web finds the server.
func (s *Server) webBase(domain string) string {
	if s.cfg.Web.URL != "" {
		return s.cfg.Web.URL
	}
	_, port, err := net.SplitHostPort(s.Addrs()["https"])
	if err != nil || port == "443" {
		return "https://" + domain
	}
	return "https://" + domain + ":" + port
}

// cleanUploads deletes files whose time or account is gone.
func (s *Server) cleanUploads(ctx context.Context) {
	if s.files == nil {
		return
	}
	if err := s.files.Clean(ctx); err != nil && ctx.Err() == nil {
		s.log.Error("old uploads could not be deleted", "error", err)
	}
}
