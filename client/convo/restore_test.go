package convo

import "testing"

// TestChangesAfterRestore: a conversation with a reply, whose reference the engine works in while it restores it, tells its changes afterwards.
func TestChangesAfterRestore(t *testing.T) {
	r := newRun(t, NG)
	r.in(`<message from='bob@wonder.example/pc' to='alice@wonder.example' type='chat' id='b1'><body>who?</body>` +
		`<stanza-id xmlns='urn:xmpp:sid:0' by='alice@wonder.example' id='a1'/></message>`)
	r.in(`<message from='bob@wonder.example/pc' to='alice@wonder.example' type='chat' id='b2'><body>me?</body>` +
		`<reply xmlns='urn:xmpp:reply:0' to='bob@wonder.example/pc' id='b1'/><stanza-id xmlns='urn:xmpp:sid:0' by='alice@wonder.example' id='a2'/></message>`)
	again := start(t, Config{}, r.store)
	for _, ef := range again.do(SendText{Conversation: bob, Body: "me"}) {
		if c, ok := ef.(Changed); ok && c.Conversation == bob && len(c.Entries) == 1 {
			return
		}
	}
	t.Error("nobody is told of a message that was written after a restart")
}
