package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"carillon.im/client"
	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xep"
)

// The server of the examples is carillon, in this process, with the accounts of
// its arguments on the domain localhost. What reaches it is a client.Dialer; on
// the Internet none is needed.
func exampleServer(names ...string) (config func(name string) client.Config, end func()) {
	w, err := startServer(names...)
	if err != nil {
		log.Fatal(err)
	}
	return w.config, func() {
		if err := w.end(); err != nil {
			log.Fatal(err)
		}
	}
}

// A program that answers each message with its text.
func Example() {
	config, end := exampleServer("echo", "juliet")
	defer end()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()

	echo, err := client.Dial(ctx, config("echo"))
	if err != nil {
		log.Fatal(err)
	}
	defer echo.Close(ctx)
	go func() {
		for ev, err := range echo.Events(ctx) {
			if err != nil {
				log.Fatal(err)
			}
			m, ok := ev.(*client.Received)
			if !ok || m.Stanza.Type != stanza.TypeChat || m.Stanza.From.Bare() == echo.Account() {
				continue // presence, the connection's news, and what we said ourselves
			}
			// The text alone: what the server has added isn't ours to send.
			body := m.Stanza.Child(stanza.NSClient, "body")
			answer := stanza.Build(stanza.Message, m.Stanza.Type, "", jid.JID{}, m.Stanza.From.Bare(), body.Raw())
			if _, err := echo.Send(ctx, answer); err != nil && !errors.Is(err, client.ErrClosed) {
				log.Fatal(err)
			}
		}
	}()

	juliet, err := client.Dial(ctx, config("juliet"))
	if err != nil {
		log.Fatal(err)
	}
	defer juliet.Close(ctx)
	if _, err := juliet.Send(ctx, stanza.Build(stanza.Message, stanza.TypeChat, "", jid.JID{}, echo.Account(), "<body>Romeo?</body>")); err != nil {
		log.Fatal(err)
	}
	for ev := range juliet.Events(ctx) {
		if m, ok := ev.(*client.Received); ok && m.Stanza.From.Bare() == echo.Account() {
			fmt.Println(m.Stanza.From.Local()+":", m.Stanza.Child(stanza.NSClient, "body").Text())
			break
		}
	}
	// Output: echo: Romeo?
}

// What becomes of a message, from the queue to the server.
func ExampleClient_Send() {
	config, end := exampleServer("romeo", "juliet")
	defer end()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	romeo, err := client.Dial(ctx, config("romeo"))
	if err != nil {
		log.Fatal(err)
	}
	defer romeo.Close(ctx)

	receipt, err := romeo.Send(ctx, stanza.Build(stanza.Message, stanza.TypeChat, "", jid.JID{}, jid.MustParse("juliet@localhost"), "<body>She speaks.</body>"))
	if err != nil {
		log.Fatal(err)
	}
	delivery, err := receipt.Wait(ctx)
	fmt.Println(delivery, err)
	// Output: acknowledged <nil>
}

// A device that was away gets what it missed with its login, and then what comes.
func ExampleConnected() {
	config, end := exampleServer("romeo", "juliet")
	defer end()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	romeo, err := client.Dial(ctx, config("romeo"))
	if err != nil {
		log.Fatal(err)
	}
	defer romeo.Close(ctx)
	missed, err := romeo.Send(ctx, stanza.Build(stanza.Message, stanza.TypeChat, "", jid.JID{}, jid.MustParse("juliet@localhost"), "<body>By a name I know not how to tell thee who I am.</body>"))
	if err != nil {
		log.Fatal(err)
	}
	if _, err := missed.Wait(ctx); err != nil {
		log.Fatal(err)
	}

	juliet, err := client.Dial(ctx, config("juliet"))
	if err != nil {
		log.Fatal(err)
	}
	defer juliet.Close(ctx)
	for ev, err := range juliet.Events(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		switch ev := ev.(type) {
		case *client.Connected:
			fmt.Println("resumed:", ev.Resumed, "catch-up follows:", ev.CatchUp)
		case *client.Archived:
			fmt.Println("missed:", ev.Message.Child(stanza.NSClient, "body").Text())
		case *client.Synced:
			fmt.Println("complete:", ev.Complete)
			return
		}
	}
	// Output:
	// resumed: false catch-up follows: true
	// missed: By a name I know not how to tell thee who I am.
	// complete: true
}

// The newest messages first, as a window shows them that is scrolled back.
func ExampleClient_Archive() {
	config, end := exampleServer("romeo", "juliet")
	defer end()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	romeo, err := client.Dial(ctx, config("romeo"))
	if err != nil {
		log.Fatal(err)
	}
	defer romeo.Close(ctx)
	for _, line := range []string{"one", "two", "three"} {
		if _, err := romeo.Send(ctx, stanza.Build(stanza.Message, stanza.TypeChat, "", jid.JID{}, jid.MustParse("juliet@localhost"), "<body>"+line+"</body>")); err != nil {
			log.Fatal(err)
		}
	}
	query := client.ArchiveQuery{With: jid.MustParse("juliet@localhost"), Newest: true, PageSize: 2}
	for m, err := range romeo.Archive(ctx, query) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(m.Message.Child(stanza.NSClient, "body").Text())
	}
	// Output:
	// three
	// two
	// one
}

// A request, its answer, and an answer that is an error.
func ExampleClient_IQ() {
	config, end := exampleServer("romeo")
	defer end()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	romeo, err := client.Dial(ctx, config("romeo"))
	if err != nil {
		log.Fatal(err)
	}
	defer romeo.Close(ctx)

	server := romeo.Account().DomainJID()
	st, err := romeo.IQ(ctx, stanza.Build(stanza.IQ, stanza.TypeGet, "", jid.JID{}, server, "<query xmlns='jabber:iq:version'/>"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(st.Payload().Child("jabber:iq:version", "name").Text())

	_, err = romeo.IQ(ctx, stanza.Build(stanza.IQ, stanza.TypeGet, "", jid.JID{}, server, "<query xmlns='urn:example'/>"))
	var refused *stanza.Error
	fmt.Println(errors.As(err, &refused), refused.Condition)
	// Output:
	// carillon
	// true service-unavailable
}

// The roster, and a change of it that every device of the account hears of.
func ExampleClient_Roster() {
	config, end := exampleServer("romeo")
	defer end()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	romeo, err := client.Dial(ctx, config("romeo"))
	if err != nil {
		log.Fatal(err)
	}
	defer romeo.Close(ctx)
	if err := romeo.SetContact(ctx, xep.RosterItem{JID: jid.MustParse("juliet@localhost"), Name: "Juliet", Groups: []string{"Friends"}}); err != nil {
		log.Fatal(err)
	}
	for ev := range romeo.Events(ctx) {
		if change, ok := ev.(*client.RosterChanged); ok && change.Item != nil {
			break
		}
	}
	for _, contact := range romeo.Roster() {
		fmt.Println(contact.Name, contact.JID, contact.Groups)
	}
	// Output: Juliet juliet@localhost [Friends]
}

// A program that ends and goes on later, in the same session: what came in
// between is there, and its contacts never saw it leave.
func ExampleClient_Suspend() {
	config, end := exampleServer("romeo", "juliet")
	defer end()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cfg := config("juliet")
	cfg.Store = &client.MemoryStore{} // a client.FileStore for programs that really end
	juliet, err := client.Dial(ctx, cfg)
	if err != nil {
		log.Fatal(err)
	}
	if err := juliet.Suspend(ctx); err != nil {
		log.Fatal(err)
	}
	juliet, err = client.Dial(ctx, cfg)
	if err != nil {
		log.Fatal(err)
	}
	defer juliet.Close(ctx)
	ev, err := juliet.Next(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("resumed:", ev.(*client.Connected).Resumed)
	// Output: resumed: true
}
