package admin

import (
	"context"
	"fmt"
	"strings"
)

func roomCalls() []Call {
	return []Call{{
		Name: "room list", Help: "list rooms",
		Long: "Lists all rooms, hidden ones too, one on a line: address, who made it, whether it stays when nobody is in it, whether it is listed\n" +
			"to users, and its name.",
		Example: "carillon room list",
		run:     roomList,
	}}
}

// Room is a room in the data of "room list".
type Room struct {
	JID        string `json:"jid"`
	Name       string `json:"name,omitempty"`
	Creator    string `json:"creator"`
	Persistent bool   `json:"persistent"`
	Public     bool   `json:"public"`
}

// roomPage is how many rooms are read at once.
const roomPage = 500

func roomList(ctx context.Context, h *Host, _ map[string]string) (Result, error) {
	var text strings.Builder
	rooms := []Room{}
	for after := ""; ; {
		page, err := h.Store.Rooms(ctx, "", after, true, roomPage)
		if err != nil {
			return Result{}, fmt.Errorf("listing rooms: %w", err)
		}
		for _, r := range page {
			after = r.JID.String()
			rooms = append(rooms, Room{after, r.Name, r.Creator.String(), r.Persistent, r.Public})
			stays, listed := "temporary", "hidden"
			if r.Persistent {
				stays = "persistent"
			}
			if r.Public {
				listed = "public"
			}
			fmt.Fprintf(&text, "%s\t%s\t%s\t%s\t%q\n", r.JID, r.Creator, stays, listed, r.Name)
		}
		if len(page) < roomPage {
			return Result{Text: text.String(), Data: rooms}, nil
		}
	}
}
