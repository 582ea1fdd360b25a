package flights

import (
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"carillon.im/jid"
	"carillon.im/sasl"
	"carillon.im/stanza"
	"carillon.im/stream"
	"carillon.im/test/xmppclient"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// account is what a device knows of an earlier login.
type account struct {
	jid      jid.JID
	password string
	agent    xep.UserAgent
	keys     sasl.ClientKeys
	offered  stream.Offered
	token    string
	count    uint64 // of the token's uses
	after    string // archive id of the last message that it has
}

// device is one connection.
type device struct {
	*account
	conn *meter
	tls  *tls.Conn
	mach *stream.Client
	in   []byte
	buf  [16 << 10]byte

	ids      []string        // of messages in their bodies, in order
	stamps   []string        // their archive ids
	answered map[string]bool // requests, by id
	pages    map[string]xmltree.Element
	synced   *xep.Synced
}

// connect dials and secures. What a silent server costs is bounded.
func connect(a *account, addr string, delay time.Duration) (*device, error) {
	nc, err := dial(addr, delay)
	if err != nil {
		return nil, err
	}
	nc.SetDeadline(time.Now().Add(time.Minute))
	d := &device{account: a, mach: stream.NewClient(&stream.ClientConfig{Domain: a.jid.DomainJID(), Limits: xmltree.Limits{MaxBytes: 1 << 20}}),
		answered: map[string]bool{}, pages: map[string]xmltree.Element{}}
	// The certificate is self-signed, and it isn't what is measured.
	d.tls = tls.Client(nc, &tls.Config{InsecureSkipVerify: true, ServerName: a.jid.Domain(), MinVersion: tls.VersionTLS13})
	if err := d.tls.Handshake(); err != nil {
		nc.Close()
		return nil, err
	}
	d.mach.Secured()
	d.conn = &meter{Conn: d.tls}
	return d, nil
}

func (d *device) close() {
	d.write(d.mach.End(nil, nil))
	d.conn.Close()
}

func (d *device) write(b []byte) error {
	_, err := d.conn.Write(b)
	return err
}

func (d *device) next() (stream.Event, error) {
	for {
		ev, n := d.mach.Next(d.in)
		d.in = d.in[n:]
		if ev.Kind != stream.NeedMore {
			return ev, nil
		}
		n, err := d.conn.Read(d.buf[:])
		if n == 0 && err != nil {
			return ev, err
		}
		d.in = d.buf[:n]
	}
}

func (d *device) want(kind stream.Kind) (stream.Event, error) {
	ev, err := d.next()
	if err == nil && ev.Kind != kind {
		err = errors.New("unexpected: " + xmppclient.XML(&ev))
	}
	return ev, err
}

// header reads what a stream begins with, and remembers what is offered.
func (d *device) header(remember bool) error {
	if _, err := d.want(stream.Opened); err != nil {
		return err
	}
	ev, err := d.want(stream.Features)
	if err == nil && remember {
		d.offered = stream.ParseFeatures(ev.Element)
	}
	return err
}

func (d *device) open(remember bool) error {
	if err := d.write(d.mach.Open(nil)); err != nil {
		return err
	}
	return d.header(remember)
}

// exchange begins SCRAM, the strongest, among mechanisms, or with a token.
func (d *device) exchange(mechanisms []string, token bool) (mechanism string, x sasl.Client, first []byte, err error) {
	cs := d.tls.ConnectionState()
	binding, err := sasl.ExporterBinding(&cs)
	if err != nil {
		return "", nil, nil, err
	}
	cfg := &sasl.ClientConfig{Username: d.jid.Local(), Password: d.password, Rand: rand.Reader, Cache: &d.keys,
		Advertised: sasl.Advertised{Mechanisms: mechanisms, Bindings: d.offered.Bindings}}
	if len(d.offered.Bindings) > 0 { // who doesn't say which it has may not have this one
		cfg.Bindings = []sasl.ChannelBinding{binding}
	}
	if token {
		mechanism, cfg.Password = sasl.HTSHA256Exporter, d.token
	} else if mechanism, err = cfg.Choose(); err != nil {
		return "", nil, nil, err
	}
	if x, err = sasl.NewClient(mechanism, cfg); err == nil {
		first, _, err = x.Next(nil)
	}
	return mechanism, x, first, err
}

// prove goes on with an exchange until it has succeeded on both sides.
func (d *device) prove(x sasl.Client) (*stream.Welcome, error) {
	for {
		ev, err := d.next()
		if err != nil {
			return nil, err
		}
		switch ev.Kind {
		case stream.AuthResponse:
			out, _, err := x.Next(ev.Data)
			if err == nil {
				err = d.write(d.mach.Respond(nil, out))
			}
			if err != nil {
				return nil, err
			}
		case stream.AuthSuccess:
			if _, done, err := x.Next(ev.Data); err != nil || !done {
				return nil, fmt.Errorf("the server has not proved itself: %w", err)
			}
			return ev.Welcome, nil
		default:
			return nil, errors.New("not let in: " + xmppclient.XML(&ev))
		}
	}
}

// classic logs in as RFC 6120 has it.
func (d *device) classic(resource string) error {
	if err := d.open(true); err != nil {
		return err
	}
	mechanism, x, first, err := d.exchange(d.offered.Classic, false)
	if err == nil {
		err = d.write(d.mach.Auth(nil, mechanism, first))
	}
	if err == nil {
		_, err = d.prove(x)
	}
	if err == nil {
		err = d.open(false)
	}
	if err == nil {
		err = d.write(d.mach.Bind(nil, "bind", resource))
	}
	if err == nil {
		_, err = d.want(stream.Bind)
	}
	return err
}

// sasl2 logs in with SASL2 and Bind 2; ahead: header and login in one flight, on
// the strength of what was offered the last time.
func (d *device) sasl2(ahead, token bool, l *stream.Login) (*stream.Welcome, error) {
	out := d.mach.Open(nil)
	if !ahead {
		if err := d.open(true); err != nil {
			return nil, err
		}
		out = nil
	}
	l.Agent = d.agent
	mechanism, x, first, err := d.exchange(d.offered.Mechanisms, token)
	if err == nil {
		err = d.write(d.mach.Authenticate(out, mechanism, first, l))
	}
	if err == nil && ahead {
		err = d.header(false)
	}
	if err != nil {
		return nil, err
	}
	w, err := d.prove(x)
	if err == nil {
		_, err = d.want(stream.Features)
	}
	return w, err
}

// note keeps of a stanza what the test asks for.
func (d *device) note(st *stanza.Stanza) error {
	switch {
	case st.Type == stanza.TypeError:
		return fmt.Errorf("refused: %s", st.AppendTo(nil))
	case st.Kind == stanza.IQ && st.Type == stanza.TypeResult:
		d.answered[st.ID] = true
		if fin := st.Child(xep.NSMAM, "fin"); !fin.IsZero() {
			d.pages[st.ID] = fin
		}
	case st.Kind == stanza.Message:
		if s, ok := xep.ParseSynced(st); ok {
			d.synced = &s
			return nil
		}
		if r := st.Child(xep.NSMAM, "result"); !r.IsZero() {
			m := r.Child("urn:xmpp:forward:0", "forwarded").Child(stanza.NSClient, "message")
			d.ids, d.stamps = append(d.ids, m.Attr("id")), append(d.stamps, r.Attr("id"))
		} else {
			d.ids, d.stamps = append(d.ids, st.ID), append(d.stamps, st.Child(xep.NSStanzaID, "stanza-id").Attr("id"))
		}
	}
	return nil
}

// until reads until done says so.
func (d *device) until(done func() bool) error {
	for !done() {
		ev, err := d.next()
		if err != nil {
			return err
		}
		if ev.Kind != stream.Stanza {
			return errors.New("unexpected: " + xmppclient.XML(&ev))
		}
		if err := d.note(ev.Stanza); err != nil {
			return err
		}
	}
	return nil
}

// ask sends requests, and waits for the answers to those with these ids.
func (d *device) ask(xml string, ids ...string) error {
	if err := d.write([]byte(xml)); err != nil {
		return err
	}
	return d.until(func() bool {
		for _, id := range ids {
			if !d.answered[id] {
				return false
			}
		}
		return true
	})
}
