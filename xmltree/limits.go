package xmltree

import "fmt"

// Limits bound what one unit (a child of the root with everything in it, or
// the prolog and start tag of the root) may cost. A field that is zero or
// negative stands for the default.
type Limits struct {
	// MaxBytes bounds a unit's raw bytes as received, and also its canonical
	// form: a short prefix for a long namespace name cannot multiply bytes.
	MaxBytes int // default 262144, at most 256 MiB
	// MaxDepth bounds the nesting of elements in a unit, itself counted.
	MaxDepth int // default 100
	// MaxAttrs bounds the attributes of one element, declarations counted.
	MaxAttrs int // default 256
	// MaxChildren bounds the elements in a unit, itself counted.
	MaxChildren int // default 16384
	// MaxNamespaces bounds the namespace declarations in scope at one place,
	// the root's counted. Looking up a prefix costs time in proportion.
	MaxNamespaces int // default 128
}

func (l Limits) withDefaults() Limits {
	def := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&l.MaxBytes, 256<<10)
	def(&l.MaxDepth, 100)
	def(&l.MaxAttrs, 256)
	def(&l.MaxChildren, 16<<10)
	def(&l.MaxNamespaces, 128)
	l.MaxBytes = min(l.MaxBytes, maxMaxBytes)
	return l
}

// maxMaxBytes keeps every offset in 31 bits: escaping can make a value up to
// six times longer before it is measured.
const maxMaxBytes = 256 << 20

// ErrorKind says what a document did wrong.
type ErrorKind uint8

// The kinds of [SyntaxError].
const (
	NotWellFormed       ErrorKind = iota + 1 // against XML 1.0
	InvalidNamespace                         // against Namespaces in XML: unbound prefix, reserved name, malformed or colliding qualified name
	RestrictedXML                            // DTD, comment, processing instruction, entity that is not predefined (RFC 6120 11.1)
	UnsupportedEncoding                      // the XML declaration names another encoding than UTF-8
	BadUTF8                                  // bytes that are not UTF-8
	StrayText                                // character data between units, other than white space
	TooLarge                                 // more than Limits.MaxBytes
	TooDeep                                  // more than Limits.MaxDepth
	TooManyAttrs                             // more than Limits.MaxAttrs
	TooManyElements                          // more than Limits.MaxChildren
	TooManyNamespaces                        // more than Limits.MaxNamespaces
)

// String returns the kind in words.
func (k ErrorKind) String() string {
	switch k {
	case NotWellFormed:
		return "not well-formed"
	case InvalidNamespace:
		return "invalid namespace"
	case RestrictedXML:
		return "restricted XML"
	case UnsupportedEncoding:
		return "unsupported encoding"
	case BadUTF8:
		return "bad UTF-8"
	case StrayText:
		return "stray text"
	case TooLarge:
		return "too large"
	case TooDeep:
		return "too deep"
	case TooManyAttrs:
		return "too many attributes"
	case TooManyElements:
		return "too many elements"
	case TooManyNamespaces:
		return "too many namespace declarations"
	}
	return fmt.Sprintf("ErrorKind(%d)", uint8(k))
}

// SyntaxError is the only type of error that a [Scanner] and [Parse] return.
type SyntaxError struct {
	Kind   ErrorKind
	Offset int64  // bytes before the place, counted over all that was fed
	Msg    string // never contains input
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("xml: %s at byte %d: %s", e.Kind, e.Offset, e.Msg)
}
