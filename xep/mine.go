package xep

import (
	"strings"

	"carillon.im/xmltree"
)

// MaxMineIDs bounds the ids of one claim: the server refuses more (R-MINE-4).
const MaxMineIDs = 256

// AppendClaim appends <mine/>, the claim of the messages with these ids
// (XEP-0259 3.5).
func AppendClaim(dst []byte, ids []string) []byte {
	dst = append(dst, "<mine xmlns='"+NSMine+"'>"...)
	for _, id := range ids {
		dst = appendElement(dst, "", "id", id)
	}
	return append(dst, "</mine>"...)
}

// ParseClaim reads the ids of a <mine/>, each for itself (MINE-45), in either
// spelling of the namespace. An id that is no NMTOKEN (MINE-53) and what is
// behind the first MaxMineIDs is left out.
func ParseClaim(el xmltree.Element) []string {
	if el.Local() != "mine" || el.Space() != NSMine && el.Space() != NSMineOCR {
		return nil
	}
	var ids []string
	for c := range el.Children() {
		if c.Local() != "id" || c.Space() != el.Space() {
			continue
		}
		if id := c.Text(); id != "" && len(id) <= maxMineID && !strings.ContainsAny(id, " \t\r\n") {
			if ids = append(ids, strings.Clone(id)); len(ids) == MaxMineIDs {
				break
			}
		}
	}
	return ids
}

// maxMineID bounds an id, in bytes.
const maxMineID = 1023

// ParseWhose reads the id of a <whose/> (XEP-0259 3.3), "" where el is none.
func ParseWhose(el xmltree.Element) string {
	if el.Local() != "whose" || el.Space() != NSMine && el.Space() != NSMineOCR {
		return ""
	}
	if id := el.Attr("id"); len(id) <= maxMineID {
		return strings.Clone(id)
	}
	return ""
}
