package xep

import (
	"strconv"
	"strings"
	"time"
	"unicode"

	"carillon.im/xmltree"
)

// NSUpload is XEP-0363's namespace.
const NSUpload = "urn:xmpp:http:upload:0"

// maxFileName bounds the name of a file, in bytes, as most file systems do.
const maxFileName = 255

// UploadRequest asks for a slot (XEP-0363 4).
type UploadRequest struct {
	Name string // one component of a path, fit for one
	Size int64  // in bytes, at least 1
	Type string // of the content, "" if it isn't said
}

// ParseUploadRequest reads <request/>. A name that could be a path, or that nobody
// could see, is bad-request.
func ParseUploadRequest(el xmltree.Element) (UploadRequest, error) {
	r := UploadRequest{Name: strings.Clone(el.Attr("filename")), Type: strings.Clone(el.Attr("content-type"))}
	unseen := func(c rune) bool { return unicode.IsControl(c) || unicode.Is(unicode.Cf, c) || c == '/' || c == '\\' }
	if r.Name == "" || len(r.Name) > maxFileName || r.Name == "." || r.Name == ".." || strings.ContainsFunc(r.Name, unseen) {
		return UploadRequest{}, badRequest("this is no name of a file")
	}
	size, err := strconv.ParseInt(el.Attr("size"), 10, 64)
	if err != nil || size < 1 {
		return UploadRequest{}, badRequest("the size is missing")
	}
	r.Size = size
	return r, nil
}

// AppendUploadSlot appends <slot/> (XEP-0363 4).
func AppendUploadSlot(dst []byte, put, get string) []byte {
	dst = append(dst, "<slot xmlns='"+NSUpload+"'><put"...)
	dst = append(appendAttr(dst, "url", put), "/><get"...)
	return append(appendAttr(dst, "url", get), "/></slot>"...)
}

// UploadTooLarge is the application's condition of not-acceptable (XEP-0363 5).
func UploadTooLarge(max int64) string {
	return "<file-too-large xmlns='" + NSUpload + "'><max-file-size>" + strconv.FormatInt(max, 10) + "</max-file-size></file-too-large>"
}

// UploadRetry is the application's condition of resource-constraint: when there is
// room again (XEP-0363 5).
func UploadRetry(at time.Time) string {
	return "<retry xmlns='" + NSUpload + "' stamp='" + at.UTC().Format(time.RFC3339) + "'/>"
}

// UploadForm is the service's extended information (XEP-0363 3).
func UploadForm(max int64) string {
	return "<x xmlns='" + NSForm + "' type='result'><field var='" + formTypeField + "' type='hidden'><value>" + NSUpload +
		"</value></field><field var='max-file-size'><value>" + strconv.FormatInt(max, 10) + "</value></field></x>"
}
