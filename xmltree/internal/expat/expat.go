//go:build expat

package expat

/*
#cgo LDFLAGS: -lexpat
#include <expat.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
	XML_Parser parser;
	char *buf;
	size_t len, cap;
	int depth;
	const char *stopped;
} dump;

static void put(dump *d, const char *s, size_t n) {
	if (d->len + n > d->cap) {
		d->cap = 2 * (d->len + n) + 64;
		d->buf = realloc(d->buf, d->cap);
	}
	memcpy(d->buf + d->len, s, n);
	d->len += n;
}

static void puts0(dump *d, const char *s) { put(d, s, strlen(s)); }

static void stop(dump *d, const char *why) {
	d->stopped = why;
	XML_StopParser(d->parser, XML_FALSE);
}

static void onStart(void *u, const XML_Char *name, const XML_Char **atts) {
	dump *d = u;
	d->depth++;
	puts0(d, "\x02");
	puts0(d, name);
	for (; *atts; atts += 2) {
		puts0(d, "\x03");
		puts0(d, atts[0]);
		puts0(d, "\x04");
		puts0(d, atts[1]);
	}
	puts0(d, "\x05");
}

static void onEnd(void *u, const XML_Char *name) {
	dump *d = u;
	d->depth--;
	puts0(d, "\x06");
}

static void onText(void *u, const XML_Char *s, int n) {
	dump *d = u;
	if (d->depth > 1) put(d, s, n);
}

static void onComment(void *u, const XML_Char *s) { stop(u, "comment"); }
static void onPI(void *u, const XML_Char *t, const XML_Char *s) { stop(u, "processing instruction"); }
static void onDoctype(void *u, const XML_Char *n, const XML_Char *s, const XML_Char *p, int i) { stop(u, "doctype"); }
static void onEntity(void *u, const XML_Char *n, int p, const XML_Char *v, int l, const XML_Char *b, const XML_Char *s, const XML_Char *pu, const XML_Char *no) {
	stop(u, "entity declaration");
}
static void onSkipped(void *u, const XML_Char *n, int p) { stop(u, "skipped entity"); }

static dump *run(const char *s, int n, const char **why) {
	dump *d = calloc(1, sizeof *d);
	XML_Parser p = d->parser = XML_ParserCreateNS(NULL, 1);
	XML_SetUserData(p, d);
	XML_SetElementHandler(p, onStart, onEnd);
	XML_SetCharacterDataHandler(p, onText);
	XML_SetCommentHandler(p, onComment);
	XML_SetProcessingInstructionHandler(p, onPI);
	XML_SetStartDoctypeDeclHandler(p, onDoctype);
	XML_SetEntityDeclHandler(p, onEntity);
	XML_SetSkippedEntityHandler(p, onSkipped);
	*why = NULL;
	if (XML_Parse(p, s, n, 1) != XML_STATUS_OK) {
		*why = d->stopped ? d->stopped : XML_ErrorString(XML_GetErrorCode(p));
	}
	XML_ParserFree(p);
	return d;
}

static void release(dump *d) {
	free(d->buf);
	free(d);
}
*/
import "C"

import "unsafe"

// Check parses a whole document in namespace mode, refusing comments,
// processing instructions and document type declarations. It returns why the
// document was refused, "" if it was not, and a dump of what was read:
//
//	\x02 name (\x03 name \x04 value)* \x05 content \x06
//
// where a name is namespace \x01 local, or local alone, and text directly in
// the root is left out.
func Check(doc []byte) (refused string, dump []byte) {
	var why *C.char
	var first *C.char
	if len(doc) > 0 {
		first = (*C.char)(unsafe.Pointer(&doc[0]))
	}
	d := C.run(first, C.int(len(doc)), &why)
	defer C.release(d)
	if why != nil {
		return C.GoString(why), nil
	}
	return "", C.GoBytes(unsafe.Pointer(d.buf), C.int(d.len))
}
