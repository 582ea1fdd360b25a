package xep

// NSCSI is XEP-0352's namespace.
const NSCSI = "urn:xmpp:csi:0"

// CSI is the stream feature (XEP-0352 4.1).
const CSI = "<csi xmlns='" + NSCSI + "'/>"
