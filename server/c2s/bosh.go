package c2s

import (
	"crypto/sha1"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"carillon.im/stanza"
	"carillon.im/stream"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// Bounds of BOSH (XEP-0124). All waiting of a session is in its requests: what the
// client sends goes into the stream before its request is answered, what the server
// says waits here for a request.
const (
	boshHold       = 1                // XEP-0124 7.2
	boshRequests   = boshHold + 1     // at once, and the window of rids
	boshWait       = 60 * time.Second // at most
	boshInactivity = 60 * time.Second // without a request
	boshPolling    = 2 * time.Second  // between two empty requests of who polls
	boshLate       = 10 * time.Second // for which what was said last may be fetched
	boshQueue      = 64 << 10         // bytes that wait for a request before writers do
	boshAnswer     = 256 << 10        // bytes of one answer that is kept to be sent again
)

// bodies are BOSH's sessions. Its zero value is ready.
type bodies struct {
	mu  sync.Mutex
	all map[string]*body
}

// body is one session of BOSH: the connection under a stream whose bytes travel in
// requests and answers.
type body struct {
	srv    *Server
	sid    string
	wait   time.Duration
	remote net.Addr
	to     string // of the first request

	mu      sync.Mutex
	cond    *sync.Cond        // of everything below
	rid     uint64            // of the last request that was taken
	key     string            // of the last request, "" without keys (XEP-0124 15)
	in, out []byte            // a stream's bytes, read and written by conn
	waiting uint64            // the rid of the request that is held, 0 for none
	told    uint64            // the rid of the last request that has its answer
	answers map[uint64]string // that may be asked for again, by rid
	changed chan struct{}     // closed and made anew when out or waiting change
	idle    time.Time         // of the last request, if it was empty and so was its answer
	dead    *time.Timer       // of boshInactivity
	readBy  time.Time
	ended   bool // the stream is over: out is the last there is
	closed  bool
	timer   *time.Timer // of readBy
}

// ServeBOSH answers a request of BOSH (XEP-0124, XEP-0206) from client.
func (s *Server) ServeBOSH(w http.ResponseWriter, r *http.Request, client netip.AddrPort) {
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if r.Method != http.MethodPost {
		http.Error(w, "this is for BOSH", http.StatusMethodNotAllowed)
		return
	}
	control := http.NewResponseController(w)
	control.SetReadDeadline(time.Now().Add(s.cfg.Limits.WriteTime)) // where it can't be set there is no network
	limits := s.cfg.Limits.Stanza
	b, err := io.ReadAll(io.LimitReader(r.Body, int64(limits.MaxBytes)+1))
	control.SetReadDeadline(time.Time{})
	if err != nil {
		return
	}
	el, err := xmltree.Parse(b, "", limits)
	if err != nil || !el.Is(xep.NSBOSH, "body") {
		io.WriteString(w, terminate("bad-request"))
		return
	}
	rid, err := strconv.ParseUint(el.Attr("rid"), 10, 53) // XEP-0124 7.1
	if err != nil || rid == 0 {
		io.WriteString(w, terminate("bad-request"))
		return
	}
	if el.Attr("sid") == "" {
		io.WriteString(w, s.beginBOSH(r, el, rid, client))
		return
	}
	s.bosh.mu.Lock()
	x := s.bosh.all[el.Attr("sid")]
	s.bosh.mu.Unlock()
	if x == nil {
		io.WriteString(w, terminate("item-not-found"))
		return
	}
	io.WriteString(w, x.request(r, el, rid))
}

// terminate is the answer that ends a session (XEP-0124 17.2).
func terminate(condition string) string {
	if condition == "" {
		return "<body type='terminate' xmlns='" + xep.NSBOSH + "'/>"
	}
	return "<body type='terminate' condition='" + condition + "' xmlns='" + xep.NSBOSH + "'/>"
}

// beginBOSH makes a session (XEP-0124 7, XEP-0206 2).
func (s *Server) beginBOSH(r *http.Request, el xmltree.Element, rid uint64, client netip.AddrPort) string {
	wait := boshWait
	if n, err := strconv.ParseUint(el.Attr("wait"), 10, 16); err == nil {
		wait = min(wait, time.Duration(n)*time.Second)
	}
	x := &body{srv: s, sid: s.newStreamID(), wait: wait, to: el.Attr("to"), rid: rid - 1, told: rid - 1, key: el.Attr("newkey"), answers: map[uint64]string{},
		changed: make(chan struct{}), remote: net.TCPAddrFromAddrPort(client)}
	x.cond = sync.NewCond(&x.mu)
	if hold := el.Attr("hold"); hold == "0" {
		x.wait = 0 // XEP-0124 11: it polls
	}
	x.dead = time.AfterFunc(boshInactivity, func() { x.Close() })
	s.bosh.mu.Lock()
	if s.bosh.all == nil {
		s.bosh.all = map[string]*body{}
	}
	s.bosh.all[x.sid] = x
	s.bosh.mu.Unlock()
	s.take(&conn{srv: s, sock: newSocket(x), id: s.lastID.Add(1), addr: client, secure: true})
	return x.request(r, el, rid)
}

// request takes what a request says and answers it when there is something to say,
// its time is over or another request has come.
func (x *body) request(r *http.Request, el xmltree.Element, rid uint64) string {
	x.mu.Lock()
	defer x.mu.Unlock()
	if a, ok := x.answers[rid]; ok {
		return a // XEP-0124 14.3: the answer was lost
	}
	if x.closed && len(x.out) == 0 {
		return terminate("")
	}
	if rid <= x.rid || rid > x.rid+boshRequests {
		x.end()
		return terminate("item-not-found") // XEP-0124 14.1
	}
	// One that overtook its predecessor waits for it (XEP-0124 14.2).
	timeout := time.AfterFunc(x.srv.cfg.Limits.WriteTime, x.cond.Broadcast)
	defer timeout.Stop()
	// One that comes before the last was read does too: so no more than one is kept.
	for by := time.Now().Add(x.srv.cfg.Limits.WriteTime); rid != x.rid+1 || len(x.in) > 0; x.cond.Wait() {
		if x.closed || rid <= x.rid || !time.Now().Before(by) {
			return terminate("item-not-found")
		}
	}
	if !x.unlock(el) {
		x.end()
		return terminate("item-not-found") // XEP-0124 15.7
	}
	first := el.Attr("sid") == ""
	empty := x.isEmpty(el)
	if now := time.Now(); empty && x.wait == 0 && now.Sub(x.idle) < boshPolling {
		x.end()
		return terminate("policy-violation") // XEP-0124 12
	}
	x.rid = rid
	x.take(el, first)
	x.waiting = rid
	x.notify()
	if x.dead != nil {
		x.dead.Stop()
	}
	x.await(r, rid, el.Attr("type") == "terminate")
	// What was said first is in the first answer: clients read them in the order of their
	// requests.
	for x.told != rid-1 && !x.closed {
		x.cond.Wait()
	}
	if x.idle = (time.Time{}); empty && len(x.out) == 0 {
		x.idle = time.Now()
	}
	a := x.answer(first)
	x.answers[rid], x.told = a, rid
	x.cond.Broadcast()
	delete(x.answers, rid-boshRequests)
	if x.waiting == rid {
		x.waiting = 0
		x.dead.Reset(boshInactivity)
	}
	if x.closed {
		x.forget()
	}
	return a
}

// isEmpty reports whether a request only asks for what there is.
func (x *body) isEmpty(el xmltree.Element) bool {
	for range el.Children() {
		return false
	}
	_, restarts := el.LookupAttr(xep.NSXBOSH, "restart")
	return el.Attr("sid") != "" && el.Attr("type") == "" && !restarts
}

// unlock checks the key of a request, if the session has keys (XEP-0124 15.4).
func (x *body) unlock(el xmltree.Element) bool {
	if x.key == "" || el.Attr("sid") == "" {
		return true
	}
	sum := sha1.Sum([]byte(el.Attr("key")))
	if subtle.ConstantTimeCompare([]byte(hex.EncodeToString(sum[:])), []byte(strings.ToLower(x.key))) != 1 {
		return false
	}
	if x.key = el.Attr("newkey"); x.key == "" {
		x.key = el.Attr("key")
	}
	return true
}

// take turns a request into what a stream would have; mu is held.
func (x *body) take(el xmltree.Element, first bool) {
	if restart, _ := el.LookupAttr(xep.NSXBOSH, "restart"); first || restart == "true" || restart == "1" {
		x.in = append(x.in, "<?xml version='1.0'?><stream:stream to='"...)
		x.in = xmltree.AppendAttrValue(x.in, x.to)
		if lang, ok := el.LookupAttr(xmltree.XMLSpace, "lang"); ok {
			x.in = append(xmltree.AppendAttrValue(append(x.in, "' xml:lang='"...), lang), ""...)
		}
		x.in = append(x.in, "' version='1.0' xmlns='"+stanza.NSClient+"' xmlns:stream='"+stanza.NSStreams+"'>"...)
	}
	for c := range el.Children() {
		x.in = c.AppendTo(x.in, stanza.NSClient)
	}
	if el.Attr("type") == "terminate" {
		x.in = append(x.in, "</stream:stream>"...)
	}
	x.cond.Broadcast()
}

// await waits until request rid is to be answered; mu is held when it returns.
func (x *body) await(r *http.Request, rid uint64, terminating bool) {
	wait := x.wait
	if terminating {
		wait = x.srv.cfg.Limits.Linger
	}
	end := time.NewTimer(wait)
	defer end.Stop()
	for x.waiting == rid && !x.closed && !x.ended && (len(x.out) == 0 || terminating) {
		changed := x.changed
		x.mu.Unlock()
		over := false
		select {
		case <-changed:
		case <-end.C:
			over = true
		case <-r.Context().Done():
			over = true
		}
		x.mu.Lock()
		if over {
			return
		}
	}
}

// answer puts what waits into an answer; mu is held.
func (x *body) answer(first bool) string {
	a := []byte("<body xmlns='" + xep.NSBOSH + "' xmlns:stream='" + stanza.NSStreams + "'")
	if first {
		a = append(a, " xmlns:xmpp='"+xep.NSXBOSH+"' xmpp:version='1.0' xmpp:restartlogic='true' ver='1.6' sid='"+x.sid+
			"' wait='"+strconv.Itoa(int(x.wait/time.Second))+"' hold='"+strconv.Itoa(boshHold)+"' requests='"+strconv.Itoa(boshRequests)+
			"' inactivity='"+strconv.Itoa(int(boshInactivity/time.Second))+"' polling='"+strconv.Itoa(int(boshPolling/time.Second))+"' from='"...)
		a = append(xmltree.AppendAttrValue(a, x.to), '\'')
	}
	var inner []byte
	over, failed := x.closed, false
	for len(x.out) > 0 && len(inner) < boshAnswer {
		n := stream.FirstElement(x.out)
		el := x.out[:n]
		frame, end := stream.AppendFrame(nil, el)
		switch {
		case end:
			over = true
		case strings.HasPrefix(string(frame), "<open "): // the answer stands for it
		default:
			failed = failed || strings.HasPrefix(string(frame), "<stream:error")
			inner = append(inner, frame...)
		}
		x.out = x.out[n:]
	}
	if len(x.out) == 0 {
		x.out = nil
	}
	x.cond.Broadcast()
	if over {
		a = append(a, " type='terminate'"...)
		if failed {
			a = append(a, " condition='remote-stream-error'"...) // XEP-0206 6
		}
		x.end()
	}
	return string(append(append(append(a, '>'), inner...), "</body>"...))
}

// notify tells a request that waits; mu is held.
func (x *body) notify() {
	close(x.changed)
	x.changed = make(chan struct{})
	x.cond.Broadcast()
}

// end closes the connection; mu is held.
func (x *body) end() {
	if !x.closed {
		x.closed = true
		x.notify()
		x.dead.Reset(boshInactivity) // whoever lost the last answer may ask for it
	}
}

// forget takes the session out of the table once its time is over; mu is held.
func (x *body) forget() {
	x.dead.Stop()
	x.dead = time.AfterFunc(boshLate, func() {
		x.srv.bosh.mu.Lock()
		delete(x.srv.bosh.all, x.sid)
		x.srv.bosh.mu.Unlock()
	})
}

// Read implements net.Conn for conn.
func (x *body) Read(b []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for len(x.in) == 0 {
		switch {
		case x.closed:
			return 0, io.EOF
		case !x.readBy.IsZero() && !time.Now().Before(x.readBy):
			return 0, os.ErrDeadlineExceeded
		}
		x.cond.Wait()
	}
	n := copy(b, x.in)
	if x.in = x.in[n:]; len(x.in) == 0 {
		x.in = nil
		x.cond.Broadcast()
	}
	return n, nil
}

// errBOSH is a session that is over.
var errBOSH = errors.New("c2s: the session of BOSH is over")

// Write implements net.Conn for conn; it waits while too much waits for a request.
func (x *body) Write(b []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for len(x.out) > boshQueue && !x.closed {
		x.cond.Wait()
	}
	if x.closed {
		return 0, errBOSH
	}
	x.out = append(x.out, b...)
	x.notify()
	return len(b), nil
}

// CloseWrite says that nothing more will come.
func (x *body) CloseWrite() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.ended = true
	x.notify()
	return nil
}

// Close implements net.Conn.
func (x *body) Close() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.end()
	x.forget()
	return nil
}

// SetReadDeadline implements net.Conn.
func (x *body) SetReadDeadline(t time.Time) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.readBy = t
	if x.timer != nil {
		x.timer.Stop()
	}
	if !t.IsZero() {
		x.timer = time.AfterFunc(max(0, time.Until(t)), func() {
			x.mu.Lock()
			defer x.mu.Unlock()
			x.cond.Broadcast()
		})
	}
	x.cond.Broadcast()
	return nil
}

// SetDeadline implements net.Conn: writing has the patrol.
func (x *body) SetDeadline(t time.Time) error { return x.SetReadDeadline(t) }

// SetWriteDeadline implements net.Conn.
func (x *body) SetWriteDeadline(time.Time) error { return nil }

// LocalAddr implements net.Conn.
func (x *body) LocalAddr() net.Addr { return x.remote }

// RemoteAddr implements net.Conn.
func (x *body) RemoteAddr() net.Addr { return x.remote }
