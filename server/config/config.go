// Package config is the configuration of a carillon server: one struct, which is the format of the TOML file. A field's comment is the documentation
// of its key; from the fields, their comments and Default, "go generate" writes default.toml, which "carillon config" prints, and
// docs/configuration.md. Nothing has a second description that could disagree. Values arrive in the order defaults, file, flags, each overriding the one
// before; Check then judges the result as a whole. The package reads no files itself: it turns bytes into a Config, or says what is wrong with them
// and in which line.
package config

//go:generate go test -count=1 -run=^TestGenerated$ -update

import (
	_ "embed"
)

// defaultFile is the generated file with every key at its default.
//
//go:embed default.toml
var defaultFile string

// DefaultFile returns the commented file in which every key has its default. Parsing it gives Default.
func DefaultFile() string { return defaultFile }

// Off is the address that disables a listener.
const Off = "off"

// Auto is the address of a listener for other servers that Check decides.
const Auto = "auto"

// Config is the whole configuration. Names of keys carry their unit where there is one.
type Config struct {
	// The folder that holds everything the server keeps: database, self-signed certificate, control socket. Made at the first start, readable by its
	// owner alone. One server per folder. A relative path, here and in every other key, begins at the directory in which the command is started, not at
	// this file: better an absolute one where a service starts the server.
	Data string `toml:"data"`

	// The domains that accounts live under. The first one is the server's own name.
	Domains []string `toml:"domains"`

	// Where clients connect and start TLS inside the stream (STARTTLS, RFC 6120). An address is "host:port", or ":port" for every interface; "off"
	// disables the listener.
	C2S string `toml:"c2s"`

	// Where clients connect with TLS from the first byte (direct TLS, XEP-0368).
	C2STLS string `toml:"c2s_tls"`

	// Where other servers connect and start TLS inside the stream (RFC 6120). "auto" is ":5269" if other servers can look up one of the domains, and "off"
	// if none of them is in the public DNS, as localhost. "off" ends all exchange with other servers, both ways.
	S2S string `toml:"s2s"`

	// Where other servers connect with TLS from the first byte (XEP-0368). "auto" is ":5270" where s2s is on, and "off" where it is off.
	S2STLS string `toml:"s2s_tls"`

	// Where health (/healthz) and metrics (/metrics) are served, without encryption or login; so by default to this machine alone. A web server on this
	// machine may pass on to it what "https" serves (see [web]); what it passes on never reaches health and metrics.
	HTTP string `toml:"http"`

	// Where browsers connect with the server's certificate, as in ":5443": WebSocket (/xmpp-websocket), BOSH (/http-bind), uploaded files (/upload/) and the addresses of
	// these (/.well-known/host-meta). Without it, and without a web server in front ([web]), users can't upload files.
	HTTPS string `toml:"https"`

	// Where external components connect (XEP-0114), which are programs with a domain of their own such as gateways. There is no encryption, so choose an
	// address that only they can reach, as in "127.0.0.1:5347". Each needs a table [components."its.domain"].
	Component string `toml:"component"`

	// The certificate chain and its private key, as PEM files. They are read again when they change; no restart is needed. Both empty: a self-signed
	// certificate for all domains is made in the data folder. It goes on naming domains that are no longer served, so that it changes, and people
	// compare fingerprints again, only when a new one comes.
	Cert string `toml:"cert"`
	Key  string `toml:"key"`

	// How much is logged: "error", "warn", "info", "debug" or "trace". "trace" writes all that clients send and receive, passwords left out;
	// "debug" and "trace" also open profiling at /debug/pprof/ to this machine.
	LogLevel string `toml:"log_level"`

	// "text" for people, "json" for machines.
	LogFormat string `toml:"log_format"`

	// Whether anybody may make an account from a client (in-band registration, XEP-0077). Users may always change their password and remove
	// their account.
	Registration bool `toml:"registration"`

	// Who may look after the server from a client, by ad-hoc commands (XEP-0050, 0133): accounts of this server, as in ["alice@example.org"]. Whoever has
	// the password of one of them can do all that the command line can.
	Admins []string `toml:"admins"`

	// Whether accounts are hidden from strangers, which are senders who may not see the account's presence: a message meant for exactly one device
	// is then refused as if that device did not exist, so that nobody learns by asking which devices are online.
	Strangers bool `toml:"strangers"`

	// Invitations, with which people become contacts and make accounts (XEP-0401, 0445).
	Invites Invites `toml:"invites"`

	// How users log in.
	Auth Auth `toml:"auth"`

	// What one client, address or account may use of the server. Those that clients must know are announced to them (XEP-0478).
	Limits Limits `toml:"limits"`

	// How messages are exchanged with other servers, where s2s is on.
	Federation Federation `toml:"federation"`

	// The message archive that every account has (XEP-0313), from which its devices catch up.
	Archive Archive `toml:"archive"`

	// Rooms, for conversations of many (XEP-0045).
	Rooms Rooms `toml:"rooms"`
	// What is served to browsers, and how they find it.
	Web Web `toml:"web"`

	// Files that users send each other (XEP-0363). They are kept on this machine; whoever has a file's address gets it.
	Upload Upload `toml:"upload"`

	// Push notifications, which wake devices that aren't connected (XEP-0357). A device names the push service that its program's makers run.
	Push Push `toml:"push"`

	// Whom people may write to about this server (XEP-0157), as lists of addresses such as "xmpp:admin@example.org" or "mailto:abuse@example.org".
	Contact Contact `toml:"contact"`

	// How the database works. 0 leaves a value to the server, which has it from measurements and suits nearly everybody.
	Storage Storage `toml:"storage"`

	// Certificates for single domains, where one for all of them does not do. One table for each:
	//
	//	[certificates."example.org"]
	//	cert = "/etc/carillon/example.org.crt"
	//	key = "/etc/carillon/example.org.key"
	Certificates map[string]Certificate `toml:"certificates"`

	// What single domains of other servers must prove, where it is not what federation.policy says. It holds for that very domain and for no subdomain
	// of it, such as that of its rooms. One table for each:
	//
	//	[peers."example.org"]
	//	policy = "dialback"
	Peers map[string]Peer `toml:"peers"`

	// External components, by domain. Only these may connect, each with its secret, which stands here or alone in a file. What enters and leaves through
	// them is handled as of another domain. bytes_per_second is how fast one is read, 0 for no limit. One table for each:
	//
	//	[components."irc.example.org"]
	//	secret_file = "/etc/carillon/irc.secret"
	//	bytes_per_second = 0
	Components map[string]Component `toml:"components"`

	// Services beside XMPP that clients are told of (XEP-0215), above all STUN and TURN for calls. With a secret, which the service knows too, each user
	// gets credentials of his own that are good for so many hours, as coturn checks them with use-auth-secret; or all get the same username and
	// password. One table for each:
	//
	//	[[services]]
	//	type = "turn"
	//	host = "turn.example.org"
	//	port = 3478
	//	transport = "udp"
	//	secret_file = "/etc/carillon/turn.secret"
	//	hours = 12
	Services []Service `toml:"services"`
}

// Web is the table [web].
type Web struct {
	// Where browsers find the server, as in "https://chat.example.org". Empty: at the domain, on the port of "https", which is also what /.well-known/host-meta
	// says to who asks it at another name. Give it if a web server in front passes on the paths that "https" lists.
	URL string `toml:"url"`

	// The public addresses of this machine, as in ["192.0.2.1", "2001:db8::1"]. With them /.well-known/host-meta.json also says on which ports clients and other
	// servers connect with TLS from the first byte (XEP-0487), which are those of "c2s_tls" and "s2s_tls"; who knows of that asks DNS no more. Where the ports
	// are others outside, leave it empty.
	Addresses []string `toml:"addresses"`

	// The addresses and networks of web servers that may use "http" for more than health and metrics, and whose word about where a request comes from
	// (X-Forwarded-For, X-Forwarded-Proto) is believed. They have to do the encryption.
	Proxies []string `toml:"proxies"`
}

// Upload is the table [upload].
type Upload struct {
	// The largest file, in bytes. 0: there is no upload.
	FileBytes int `toml:"file_bytes"`

	// How many bytes one account may upload in a day.
	DayBytes int `toml:"day_bytes"`

	// How many bytes of one account are kept.
	AccountBytes int `toml:"account_bytes"`

	// After how many days a file is deleted.
	KeepDays int `toml:"keep_days"`

	// The types of files that are taken, as in ["image/*", "audio/ogg"]. Empty: all. What isn't picture, sound, film or plain text is only ever saved by
	// browsers, not shown, whatever its type.
	Types []string `toml:"types"`

	// The folder that holds the files. Empty: "upload" in the data folder.
	Folder string `toml:"folder"`
}

// Push is the table [push].
type Push struct {
	// For how many seconds a notification is held back while another device of the account is in use. If the message is claimed (XEP-0259), displayed
	// or answered there meanwhile, the others aren't woken. Calls aren't held back. 0: nothing is.
	HoldSeconds int `toml:"hold_seconds"`

	// What a push service is told of a message, beside that there is one: "count", how many the device hasn't got; "sender", also who has sent the last;
	// "body", also what it says, if it isn't encrypted. Push services, and those of the phones' makers behind them, are other people's. Apps don't need
	// more than "count": once they are woken they get their messages from this server.
	Details string `toml:"details"`
}

// Contact is the table [contact].
type Contact struct {
	// Where to write about users of this server who misbehave.
	Abuse []string `toml:"abuse"`
	// Who runs it.
	Admin []string `toml:"admin"`
	// Where to say what one thinks of it.
	Feedback []string `toml:"feedback"`
	// Where to buy something.
	Sales []string `toml:"sales"`
	// Where to report a security problem.
	Security []string `toml:"security"`
	// Where to see whether it works.
	Status []string `toml:"status"`
	// Where users get help.
	Support []string `toml:"support"`
}

// Invites is the table [invites].
type Invites struct {
	// Who may let others make an account here by an invitation, also where registration is off: "admins", "users" or nobody but the command line ("operator").
	// All users may invite contacts who have an account, here or elsewhere. "off": there are no invitations.
	Who string `toml:"who"`

	// How many days an invitation that a user or an administrator makes is good for.
	Days int `toml:"days"`
}

// Auth is the table [auth].
type Auth struct {
	// Whether passwords may be sent as such (SASL PLAIN), under TLS. SCRAM, which every current client has, needs no such thing.
	Plain bool `toml:"plain"`

	// Whether a client that tried channel binding with tls-unique, which TLS 1.3 does not have, is refused when it then logs in without. RFC 5802 asks
	// for it; some clients in use know no other binding and could not log in. Others are held to their binding either way.
	StrictChannelBinding bool `toml:"strict_channel_binding"`

	// How many rounds of hashing protect a stored password (SCRAM, XEP-0438). New and changed passwords get this count; a login costs the client so
	// many rounds, the server only with PLAIN. Accounts keep the count that their password was stored with, and names that nobody has show the same
	// counts in the same proportions, so that a change tells nobody who has an account.
	Iterations int `toml:"iterations"`

	// How many days a device that was given a token (FAST, XEP-0484) may stay away and still log in with it; then it needs the password again. Each use
	// gives it a new one before long. A shorter time counts for tokens that are given from then on.
	TokenDays int `toml:"token_days"`
}

// Limits is the table [limits].
type Limits struct {
	// The longest stanza of a client that has logged in, in bytes.
	StanzaBytes int `toml:"stanza_bytes"`

	// The longest element of a client that has not logged in yet, in bytes. RFC 6120 13.12 asks for 10000 at least.
	StanzaBytesUnauthenticated int `toml:"stanza_bytes_unauthenticated"`

	// How deep elements of a stanza may be nested.
	Depth int `toml:"depth"`

	// How many attributes one element may have, namespace declarations counted.
	Attributes int `toml:"attributes"`

	// How many elements one stanza may have.
	Elements int `toml:"elements"`

	// How long a client may take to log in, in seconds.
	UnauthenticatedSeconds int `toml:"unauthenticated_seconds"`

	// How many connections may be open that have not logged in; beyond it new ones are refused.
	UnauthenticatedConnections int `toml:"unauthenticated_connections"`

	// The same for one address, which is an IPv4 address or an IPv6 network (/64). 0: no limit.
	UnauthenticatedPerAddress int `toml:"unauthenticated_per_address"`

	// How many connections one address may have in all. 0: no limit.
	ConnectionsPerAddress int `toml:"connections_per_address"`

	// How many sessions, connected or waiting to be resumed, one account may have.
	SessionsPerAccount int `toml:"sessions_per_account"`

	// How many bytes per second are read from one session; whoever sends faster is made to wait, nothing is lost. 0: no limit.
	BytesPerSecond int `toml:"bytes_per_second"`

	// After how many seconds a silent client is asked whether it is still there. 0: never.
	IdleSeconds int `toml:"idle_seconds"`

	// How many bytes may wait for one session. A client that lets more pile up is disconnected and finds it all in the archive.
	OutboxBytes int `toml:"outbox_bytes"`

	// How long a session whose connection broke waits to be resumed (XEP-0198), in seconds. 0: no resumption.
	ResumeSeconds int `toml:"resume_seconds"`

	// How many messages are kept for an account that has no session online and does not archive (XEP-0160).
	OfflineMessages int `toml:"offline_messages"`

	// How many contacts an account may have.
	RosterItems int `toml:"roster_items"`

	// How many addresses an account may block (XEP-0191).
	BlockItems int `toml:"block_items"`

	// How many logins in a row may fail from one address before it is made to wait between attempts. 0: no limit.
	LoginFailuresPerAddress int `toml:"login_failures_per_address"`

	// The same for one account name, from wherever. 0: no limit.
	LoginFailuresPerAccount int `toml:"login_failures_per_account"`

	// With registration: how many accounts one address (as above) may make per hour. 0: no limit.
	RegistrationsPerAddress int `toml:"registrations_per_address"`

	// How many messages of the archive a client gets in one answer at most.
	MAMPageMax int `toml:"mam_page_max"`
}

// Federation is the table [federation].
type Federation struct {
	// What another server must prove before anything is exchanged with it, always under TLS. "certificate": it has a certificate for its domain, of a
	// trusted authority or vouched for by DNSSEC (DANE). "pkix": of a trusted authority. "dane": vouched for by DNSSEC. "dialback": that DNS names it
	// (XEP-0220) suffices, whatever its certificate. "deny": nothing is exchanged, except with domains that have a table [peers."their.domain"].
	Policy string `toml:"policy"`

	// A PEM file with certificate authorities that are trusted for other servers besides the system's; empty: none.
	Authorities string `toml:"authorities"`

	// The DNS server to ask, as "127.0.0.1:53"; empty: the system's. Its word that an answer was validated (DNSSEC) counts only if it runs on this machine.
	Resolver string `toml:"resolver"`

	// After how many seconds a message for a domain that cannot be reached goes back to its sender.
	GiveUpSeconds int `toml:"give_up_seconds"`

	// After how many seconds without a stanza a stream with another server is closed.
	IdleSeconds int `toml:"idle_seconds"`

	// How many bytes may wait for one other domain; beyond it senders are told to try again later.
	QueueBytes int `toml:"queue_bytes"`

	// How many bytes per second are read from one stream of another server; whoever sends faster is made to wait. 0: no limit.
	BytesPerSecond int `toml:"bytes_per_second"`

	// How many connections of other servers may be open that have proved nothing yet; beyond it new ones are refused.
	UnauthenticatedConnections int `toml:"unauthenticated_connections"`

	// How many connections of other servers there may be in all.
	Connections int `toml:"connections"`
}

// Peer is a table below [peers].
type Peer struct {
	Policy string `toml:"policy"`
}

// Archive is the table [archive].
type Archive struct {
	// What is archived for accounts that have not chosen (XEP-0313 preferences): "always", "roster" (contacts only) or "never".
	Default string `toml:"default"`

	// After how many days messages are deleted. 0: never.
	KeepDays int `toml:"keep_days"`
}

// Rooms is the table [rooms].
type Rooms struct {
	// Whether there are rooms. Each domain has its own: with domains = ["example.org"] they are at rooms.example.org.
	Enabled bool `toml:"enabled"`

	// What stands before a domain to make the domain of its rooms. Changing it leaves the rooms that there are behind.
	Subdomain string `toml:"subdomain"`

	// Who may make rooms: "local", who has an account here, or "everyone".
	Create string `toml:"create"`

	// How many rooms there may be.
	Max int `toml:"max"`

	// How many rooms made by one person there may be.
	PerUser int `toml:"per_user"`

	// How many occupants a room may have.
	Occupants int `toml:"occupants"`

	// How many owners, admins, members and banned people a room may have, together.
	Affiliations int `toml:"affiliations"`

	// How many messages somebody who enters a room gets of what was said before. A room's owner may change it for the room, up to 100.
	History int `toml:"history"`

	// How many stanzas a second one person may send to one room. For ten seconds somebody may send it all at once. 0: no limit.
	UserPerSecond int `toml:"user_per_second"`

	// How many messages a second a room passes on, likewise. 0: no limit.
	RoomPerSecond int `toml:"room_per_second"`
}

// Storage is the table [storage].
type Storage struct {
	// How many changes are committed together at most.
	CommitUnits int `toml:"commit_units"`

	// How long a lone change waits for others to share its commit, in microseconds. -1: not at all.
	CommitDelayMicroseconds int `toml:"commit_delay_microseconds"`

	// How many changes may wait to be written; beyond it senders are told to try again later.
	QueueUnits int `toml:"queue_units"`

	// The same in bytes.
	QueueBytes int `toml:"queue_bytes"`

	// How many connections read the database.
	Readers int `toml:"readers"`
}

// Certificate is a table below [certificates].
type Certificate struct {
	Cert string `toml:"cert"`
	Key  string `toml:"key"`
}

// Component is a table below [components].
type Component struct {
	Secret         string `toml:"secret"`
	SecretFile     string `toml:"secret_file"`
	BytesPerSecond int    `toml:"bytes_per_second"`
}

// Service is a table of [[services]].
type Service struct {
	Type       string `toml:"type"`
	Host       string `toml:"host"`
	Port       int    `toml:"port"`
	Transport  string `toml:"transport"`
	Secret     string `toml:"secret"`
	SecretFile string `toml:"secret_file"`
	Hours      int    `toml:"hours"`
	Username   string `toml:"username"`
	Password   string `toml:"password"`
}

// Default returns the configuration of a server that was told nothing.
func Default() Config {
	return Config{
		Data:      "./carillon-data",
		Domains:   []string{"localhost"},
		C2S:       ":5222",
		C2STLS:    ":5223",
		S2S:       Auto,
		S2STLS:    Auto,
		HTTP:      "127.0.0.1:5280",
		HTTPS:     Off,
		Component: Off,
		LogLevel:  "info",
		LogFormat: "text",
		Admins:    []string{},
		Invites:   Invites{Who: "admins", Days: 7},
		Strangers: true,
		Auth:      Auth{Iterations: 10000, TokenDays: 21},
		Limits: Limits{
			StanzaBytes:                256 << 10,
			StanzaBytesUnauthenticated: 16 << 10,
			Depth:                      100,
			Attributes:                 256,
			Elements:                   16384,
			UnauthenticatedSeconds:     60,
			UnauthenticatedConnections: 2000,
			UnauthenticatedPerAddress:  50,
			ConnectionsPerAddress:      1000,
			SessionsPerAccount:         50,
			IdleSeconds:                300,
			OutboxBytes:                1 << 20,
			ResumeSeconds:              600,
			OfflineMessages:            1000,
			RosterItems:                5000,
			BlockItems:                 1000,
			LoginFailuresPerAddress:    30,
			LoginFailuresPerAccount:    20,
			RegistrationsPerAddress:    10,
			MAMPageMax:                 250,
		},
		Federation: Federation{
			Policy:                     "certificate",
			GiveUpSeconds:              3600,
			IdleSeconds:                600,
			QueueBytes:                 4 << 20,
			UnauthenticatedConnections: 200,
			Connections:                10000,
		},
		Archive: Archive{Default: "always"},
		Rooms: Rooms{Enabled: true, Subdomain: "rooms", Create: "local", Max: 100_000, PerUser: 200, Occupants: 1000, Affiliations: 10_000, History: 20,
			UserPerSecond: 20, RoomPerSecond: 200},
		Web:     Web{Addresses: []string{}, Proxies: []string{"127.0.0.0/8", "::1"}},
		Upload:  Upload{FileBytes: 100 << 20, DayBytes: 500 << 20, AccountBytes: 2 << 30, KeepDays: 30, Types: []string{}},
		Push:    Push{HoldSeconds: 10, Details: "count"},
		Contact: Contact{Abuse: []string{}, Admin: []string{}, Feedback: []string{}, Sales: []string{}, Security: []string{}, Status: []string{}, Support: []string{}},
	}
}
