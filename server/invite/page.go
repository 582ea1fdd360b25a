package invite

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"html/template"
	"net/http"
	"strings"

	"carillon.im/server/store"
)

// style is all the looks that the page has. It can be read without.
const style = "body{font:1.1em/1.5 system-ui,sans-serif;max-width:34em;margin:3em auto;padding:0 1em}" +
	".go{display:inline-block;padding:.6em 1.2em;border:2px solid;border-radius:.4em;font-weight:bold;text-decoration:none}code{word-break:break-all}"

// policy allows that style and nothing else: no script, no picture, no form, no frame.
func policy() string {
	sum := sha256.Sum256([]byte(style))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}

type page struct {
	Style   template.CSS
	Found   bool
	Who     string // who invites, "" for the server
	Name    string
	Domain  string
	Account bool
	URI     template.URL
	Ends    string
}

const text = `<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1"><meta name="robots" content="noindex">
<title>Invitation to {{.Domain}}</title><style>{{.Style}}</style></head><body>
{{if .Found}}<h1>{{if .Who}}{{.Who}} invites you to chat{{else}}You are invited to {{.Domain}}{{end}}</h1>
<p><a class="go" href="{{.URI}}">{{if and .Account (not .Who)}}Make your account{{else}}Accept{{end}}</a></p>
<p>If nothing happens, you have no program for XMPP yet. Install one, then come back to this page:</p>
<ul><li>Android: <a href="https://conversations.im" rel="noreferrer">Conversations</a></li>
<li>iPhone, iPad and Mac: <a href="https://monal-im.org" rel="noreferrer">Monal</a></li>
<li>Linux and Windows: <a href="https://gajim.org" rel="noreferrer">Gajim</a> or <a href="https://dino.im" rel="noreferrer">Dino</a></li>
<li><a href="https://xmpp.org/software/" rel="noreferrer">all others</a></li></ul>
{{if .Account}}<p>With this invitation you can make an account at {{.Domain}}{{if .Name}}, named {{.Name}}{{end}}.{{if .Who}} If you have an account elsewhere already, use that.{{end}}</p>{{end}}
<p>For programs that ask for it, this is the invitation: <code>{{.URI}}</code></p>
<p>It can be used once, until {{.Ends}}.</p>
{{else}}<h1>This invitation can't be used</h1><p>It was used already, its time is over, or the link is not complete. Ask for another one.</p>{{end}}</body></html>
`

// ServeHTTP shows an invitation to who has its link. It ends nothing: previews of
// links ask for pages, too.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy())
	h.Set("Referrer-Policy", "no-referrer") // the address is the invitation
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Robots-Tag", "noindex")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "", http.StatusMethodNotAllowed)
		return
	}
	token := strings.TrimPrefix(r.URL.Path, Path)
	i, err := store.Invite{}, error(store.ErrNotFound)
	if len(token) <= 128 {
		i, err = s.opt.Store.Invite(r.Context(), token, s.opt.Now())
	}
	p := page{Style: template.CSS(style), Found: err == nil, Domain: i.Domain}
	status := http.StatusOK
	switch {
	case errors.Is(err, store.ErrNotFound):
		status = http.StatusNotFound
	case err != nil:
		s.opt.Log.Error("an invitation can't be read", "error", err)
		http.Error(w, "", http.StatusInternalServerError)
		return
	default:
		p.Who, p.Name, p.Account, p.Ends = i.Inviter.String(), i.Name, i.Account, i.Ends.UTC().Format("2006-01-02 15:04 MST")
		p.URI = template.URL(uri(i, token)) // a scheme that the template doesn't know
	}
	h.Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_ = s.view.Execute(w, p) // who is gone doesn't need it
}
