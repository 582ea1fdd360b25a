package xep

import (
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"strings"

	"carillon.im/xmltree"
)

// NSVCard is XEP-0054's namespace, NSVCardUpdate XEP-0153's.
const (
	NSVCard       = "vcard-temp"
	NSVCardUpdate = "vcard-temp:x:update"
)

// EmptyVCard is the answer where there is none (XEP-0054 3.1).
const EmptyVCard = "<vCard xmlns='" + NSVCard + "'/>"

// PhotoHash is the SHA-1 of a vCard's photo in lower case hex, "" where it has
// none or refers to one elsewhere (XEP-0153 3.1). A photo that isn't base64 is
// bad-request.
func PhotoHash(vcard xmltree.Element) (string, error) {
	text := vcard.Child(NSVCard, "PHOTO").Child(NSVCard, "BINVAL").Text()
	// XEP-0153 4.6: white space must be ignored.
	text = strings.Map(func(r rune) rune {
		if r == ' ' || r == '\t' || r == '\n' || r == '\r' {
			return -1
		}
		return r
	}, text)
	if text == "" {
		return "", nil
	}
	photo, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return "", badRequest("the photo is not base64")
	}
	sum := sha1.Sum(photo)
	return hex.EncodeToString(sum[:]), nil
}

// AppendVCardUpdate appends what presence says about the avatar (XEP-0153 4.1):
// its hash, "" for a vCard without one.
func AppendVCardUpdate(dst []byte, hash string) []byte {
	dst = append(dst, "<x xmlns='"+NSVCardUpdate+"'>"...)
	return append(appendElement(dst, "", "photo", hash), "</x>"...)
}
