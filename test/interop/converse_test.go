package interop

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"carillon.im/jid"
)

// conversePage is what a person who hosts Converse.js writes; nothing in it names the server. Converse finds the
// WebSocket by host-meta (XEP-0156).
const conversePage = `<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Converse</title>
<link rel="stylesheet" href="/dist/converse.min.css"></head><body class="converse-fullscreen"><script type="module" src="/dist/converse.min.js"></script>
<script type="module">converse.initialize({
	view_mode: "fullscreen", assets_path: "/dist", i18n: "en", loglevel: "debug", auto_reconnect: false, enable_smacks: true, theme: "classic",
	muc_show_logs_before_join: false, play_sounds: false, allow_non_roster_messaging: true, show_background: false,
});</script></body></html>`

// converseSite serves Converse.js from npm and returns the address of a page with it.
func converseSite(t *testing.T) string {
	t.Helper()
	const dist = "js/node_modules/converse.js/dist"
	if _, err := os.Stat(dist); err != nil {
		lacking(t, "Converse.js: npm ci in test/interop/js")
	}
	mux := http.NewServeMux()
	mux.Handle("/dist/", http.StripPrefix("/dist/", http.FileServer(http.Dir(dist))))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, conversePage) })
	site := httptest.NewServer(mux)
	t.Cleanup(site.Close)
	return site.URL
}

// TestConverse: Converse.js in Chromium finds the server's WebSocket, logs in, shows a contact's avatar, talks to our own
// client in both directions, is in the room of its bookmark, sees what was said there before and what a moderator takes
// back, and sends a file.
func TestConverse(t *testing.T) {
	t.Parallel()
	s := serve(t)
	if s.kind.name != "carillon" {
		t.Skip("the other servers here have no WebSocket set up")
	}
	page, sc := converseSite(t), setScene(t, s)
	b := openBrowser(t, s)
	b.open(page)
	b.fill("input[name=jid]", sc.alice.bare)
	b.fill("input[name=password]", sc.alice.password)
	b.press()
	b.until("the control box of who is logged in", `document.querySelector("converse-user-profile")`)
	b.until("bob's avatar", `document.querySelector("converse-roster svg.avatar image")`)
	b.screen("login")

	bob := ownClient(t, ownConfig(s, sc.bob.acct, s.direct))
	bob.say(jid.MustParse(sc.alice.bare), "hello, web")
	b.click("converse-roster .open-chat.unread-msgs[data-jid='" + sc.bob.acct.bare + "']")
	b.shows("converse-chat .chat-msg__text", "hello, web")
	b.fill("converse-chat textarea.chat-textarea", "hello, Go")
	b.press()
	bob.hear(sc.alice.bare, "hello, Go")
	b.screen("chat")

	sc.bob.await("alice in the room", presence(sc.room+"/Alice", ""))
	b.click("converse-rooms-list .open-room")
	b.shows("converse-muc .chat-msg__text", sc.past)
	b.fill("converse-muc textarea.chat-textarea", "here I am")
	b.press()
	here := sc.bob.said(sc.room+"/Alice", "here I am").Archive
	sc.bob.do("message", args{"to": sc.room, "body": "welcome", "id": newID(), "type": "groupchat"})
	b.shows("converse-muc .chat-msg__text", "welcome")
	sc.bob.do("room_moderate", args{"room": sc.room, "id": here, "reason": "it is obvious"})
	b.shows("converse-muc .retraction", "it is obvious")

	file := filepath.Join(t.TempDir(), "sunset.png")
	if err := os.WriteFile(file, picture(), 0o600); err != nil {
		t.Fatal(err)
	}
	b.attachFile("converse-muc input.fileupload", file)
	if link := sc.link(); !strings.HasSuffix(link, "/sunset.png") {
		t.Errorf("the file is at %s", link)
	}
	b.until("the picture", `[...document.querySelectorAll("converse-muc .chat-msg img.chat-image")].some(e => e.naturalWidth === 64)`)
	b.screen("room")
}
