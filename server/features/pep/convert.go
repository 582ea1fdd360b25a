package pep

import (
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"strings"

	"carillon.im/server/feature"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// assist publishes what a message says was displayed (XEP-0490 4.5.3), in the
// node that it would be published in by hand. A node that others may read gets
// nothing: what somebody has read is nobody's business.
func (s *Service) assist(ctx context.Context, session feature.SessionRef, st *stanza.Stanza, el xmltree.Element) error {
	if st.To.IsZero() || el.Child(xep.NSStanzaID, "stanza-id").Attr("id") == "" || len(el.Raw()) > s.opt.Limits.ItemBytes {
		return stanza.NewError(stanza.BadRequest, "")
	}
	item := xep.PubSubItem{ID: strings.Clone(st.To.String()), Payload: string(el.AppendTo(nil, ""))}
	return s.update(ctx, session.Owner(), func(u *feature.Update) error {
		n, err := s.read(ctx, session.Owner(), xep.NSDisplayed, nil, 0)
		if err != nil {
			return err
		}
		if n.Access != accessWhitelist {
			return errPrecondition("pubsub#access_model")
		}
		u.Events = append(u.Events, s.publication(&n, item))
		return nil
	})
}

// convert adds to an update what a publication means besides.
func (s *Service) convert(ctx context.Context, owner feature.AccountRef, n *node, item xep.PubSubItem, u *feature.Update) error {
	if n.name == xep.NodeAvatarMetadata && s.opt.Photo != nil {
		return s.avatarToVCard(ctx, owner, item, u)
	}
	return nil
}

// avatarToVCard is XEP-0398 3.1. Anybody may read a vCard, so only an avatar that
// anybody may read is put into it (7); one that isn't takes a former one's place
// as none.
func (s *Service) avatarToVCard(ctx context.Context, owner feature.AccountRef, item xep.PubSubItem, u *feature.Update) error {
	metadata, err := xmltree.Parse([]byte(item.Payload), "", xmltree.Limits{})
	if err != nil || !metadata.Is(xep.NodeAvatarMetadata, "metadata") {
		return stanza.NewError(stanza.BadRequest, "not an avatar's metadata")
	}
	var photo []byte
	mime, hash := "", ""
	for info := range metadata.Children() {
		if !info.Is(xep.NodeAvatarMetadata, "info") || info.Attr("url") != "" {
			continue
		}
		data, err := s.read(ctx, owner, xep.NodeAvatarData, []string{info.Attr("id")}, 0)
		if err != nil {
			return err
		}
		if data.was != nil && data.Access != accessOpen {
			break
		}
		if len(data.items) > 0 {
			photo = avatarData(data.items[0].Payload)
		}
		if photo == nil {
			return nil // nothing to look at
		}
		sum := sha1.Sum(photo)
		if hash = hex.EncodeToString(sum[:]); !strings.EqualFold(hash, info.Attr("id")) {
			return stanza.NewError(stanza.BadRequest, "the avatar's id is not the hash of its data") // XEP-0398 3.1
		}
		mime = info.Attr("type")
		break
	}
	if u.Put, err = s.opt.Photo(ctx, owner, mime, photo); err != nil {
		return err
	}
	u.AvatarHash = &hash
	return nil
}

// avatarData is the image in an item of the data node, nil if there is none.
func avatarData(payload []byte) []byte {
	el, err := xmltree.Parse(payload, "", xmltree.Limits{})
	if err != nil || !el.Is(xep.NodeAvatarData, "data") {
		return nil
	}
	photo, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(el.Text()), ""))
	if err != nil || len(photo) == 0 {
		return nil
	}
	return photo
}

// Avatar adds to an update what a vCard's new photo means (XEP-0398 3.2); without
// a photo the avatar ends. Nodes that are made for it may be read by anybody, as
// the vCard.
func (s *Service) Avatar(ctx context.Context, owner feature.AccountRef, mime string, photo []byte, u *feature.Update) error {
	metadata, err := s.read(ctx, owner, xep.NodeAvatarMetadata, nil, 1)
	if err != nil {
		return err
	}
	w := xmltree.NewWriter(nil, "")
	w.Start(xep.NodeAvatarMetadata, "metadata")
	id := newID()
	if len(photo) > 0 {
		sum := sha1.Sum(photo)
		id = hex.EncodeToString(sum[:])
		if len(metadata.items) > 0 && metadata.items[0].ID == id {
			return nil
		}
		data, err := s.read(ctx, owner, xep.NodeAvatarData, nil, 0)
		if err != nil {
			return err
		}
		if data.was == nil {
			data.Access = accessOpen
		}
		payload := xmltree.NewWriter(nil, "").Start(xep.NodeAvatarData, "data").Text(base64.StdEncoding.EncodeToString(photo)).End().String()
		if len(payload) > s.opt.Limits.ItemBytes {
			return nil // too big for this, and told so by nobody who asked for it
		}
		u.Events = append(u.Events, s.publication(&data, xep.PubSubItem{ID: id, Payload: payload}))
		w.Start(xep.NodeAvatarMetadata, "info").Attr("bytes", strconv.Itoa(len(photo))).Attr("id", id).Attr("type", mime).End()
	} else if len(metadata.items) == 0 {
		return nil
	}
	if metadata.was == nil {
		metadata.Access = accessOpen
	}
	u.Events = append(u.Events, s.publication(&metadata, xep.PubSubItem{ID: id, Payload: w.End().String()}))
	return nil
}

// Update has a change of another feature made that Avatar or SetStorage had a part
// in; decide is called again if a node was changed meanwhile.
func (s *Service) Update(ctx context.Context, owner feature.AccountRef, decide func(*feature.Update) error) error {
	return s.update(ctx, owner, decide)
}
