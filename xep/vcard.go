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

// Photo is a vCard's photo, nil where it has none or refers to one elsewhere. A
// photo that isn't base64 is bad-request.
func Photo(vcard xmltree.Element) ([]byte, error) {
	text := vcard.Child(NSVCard, "PHOTO").Child(NSVCard, "BINVAL").Text()
	// XEP-0153 4.6: white space must be ignored.
	text = strings.Map(func(r rune) rune {
		if r == ' ' || r == '\t' || r == '\n' || r == '\r' {
			return -1
		}
		return r
	}, text)
	if text == "" {
		return nil, nil
	}
	photo, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, badRequest("the photo is not base64")
	}
	return photo, nil
}

// PhotoSum is the SHA-1 of a photo in lower case hex, "" of none (XEP-0153 3.1).
func PhotoSum(photo []byte) string {
	if photo == nil {
		return ""
	}
	sum := sha1.Sum(photo)
	return hex.EncodeToString(sum[:])
}

// PhotoHash is PhotoSum of a vCard's Photo.
func PhotoHash(vcard xmltree.Element) (string, error) {
	photo, err := Photo(vcard)
	return PhotoSum(photo), err
}

// AppendVCardUpdate appends what presence says about the avatar (XEP-0153 4.1):
// its hash, "" for a vCard without one.
func AppendVCardUpdate(dst []byte, hash string) []byte {
	dst = append(dst, "<x xmlns='"+NSVCardUpdate+"'>"...)
	return append(appendElement(dst, "", "photo", hash), "</x>"...)
}
