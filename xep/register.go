package xep

import (
	"carillon.im/xmltree"
)

// The namespaces of XEP-0077: of its IQs and of its stream feature (8).
const (
	NSRegister        = "jabber:iq:register"
	NSRegisterFeature = "http://jabber.org/features/iq-register"
)

// RegisterFeature is the stream feature of a server where strangers may make
// themselves an account (XEP-0077 8).
const RegisterFeature = "<register xmlns='" + NSRegisterFeature + "'/>"

// RegisterForm asks for what an account needs (XEP-0077 3.1).
const RegisterForm = "<query xmlns='" + NSRegister + "'><instructions>Choose a username and password for use with this service.</instructions>" +
	"<username/><password/></query>"

// Registration is what a set asks for (XEP-0077 3). A Registration holds a
// password: it must not be logged.
type Registration struct {
	Remove   bool
	Username string // "" where it is missing
	Password string
}

// ParseRegistration reads the <query/> of a set. A <remove/> that isn't alone
// is bad-request (3.2); everything else is judged by who uses it. Fields that
// nobody asked for are passed over.
func ParseRegistration(el xmltree.Element) (Registration, error) {
	var r Registration
	n := 0
	for c := range el.Children() {
		n++
		switch {
		case c.Is(NSRegister, "remove"):
			r.Remove = true
		case c.Is(NSRegister, "username"):
			r.Username = c.Text()
		case c.Is(NSRegister, "password"):
			r.Password = c.Text()
		}
	}
	if r.Remove && n > 1 {
		return Registration{}, badRequest("<remove/> is not alone")
	}
	return r, nil
}

// AppendRegistered appends the answer to who has an account already (XEP-0077
// 3.1); the password stays empty.
func AppendRegistered(dst []byte, username string) []byte {
	dst = append(dst, "<query xmlns='"+NSRegister+"'><registered/>"...)
	return append(appendElement(dst, "", "username", username), "<password/></query>"...)
}
