package room

import (
	"fmt"
	"slices"
	"strconv"

	"carillon.im/jid"
	"carillon.im/server/store"
	"carillon.im/xep"
)

// What exports and imports need of rooms: the stored options as a form, and back.

// VCardSpace and VCardKey are where the store keeps a room's vCard (XEP-0486).
const (
	VCardSpace = vcardSpace
	VCardKey   = vcardKey
)

// OptionsForm is a room's stored options as a submitted form, the password
// included, canonical anywhere.
func OptionsForm(stored []byte) (string, error) {
	o, err := decodeOptions(stored, 0)
	if err != nil {
		return "", fmt.Errorf("room: stored options: %w", err)
	}
	list := o.formFields()
	for i := range list {
		list[i].Type, list[i].Label, list[i].Options = "", "", nil
	}
	list = append(list, xep.FormField{Var: fieldProtected, Values: []string{boolText(o.Password != "")}},
		xep.FormField{Var: fieldSecret, Values: []string{o.Password}})
	if o.MaxOccupants > 0 {
		list = append(list, xep.FormField{Var: fieldMaxUsers, Values: []string{strconv.Itoa(o.MaxOccupants)}})
	}
	return string(xep.AppendForm(nil, "submit", xep.NSMUCRoomConfig, "", list)), nil
}

// ImportOptions is what is stored for a room with this configuration, subject and
// avatar (its SHA-1 in hex, "" for none).
func ImportOptions(form xep.Form, subject []byte, avatar string) (store.RoomData, error) {
	o := defaultOptions(maxHistory)
	o.AvatarHash = avatar
	known := o.fields()
	for _, f := range form.Fields {
		if f.Var == fieldMaxUsers {
			n, err := strconv.Atoi(one(f.Values))
			if err != nil || n < 0 {
				return store.RoomData{}, fmt.Errorf("the field %s is no number", f.Var)
			}
			o.MaxOccupants = n
		}
		if i := slices.IndexFunc(known, func(k option) bool { return k.name == f.Var }); i >= 0 {
			if err := known[i].set(&o, f.Values); err != nil {
				return store.RoomData{}, fmt.Errorf("configuration: %s", err.Text)
			}
		}
	}
	if err := o.submitPassword(form); err != nil {
		return store.RoomData{}, fmt.Errorf("configuration: %s", err.Text)
	}
	return o.data(subject), nil
}

func one(v []string) string {
	if len(v) == 0 {
		return ""
	}
	return v[0]
}

// CheckMember finds whether somebody may have this affiliation with a room.
func CheckMember(j jid.JID, name string) error {
	switch a, ok := parseAffiliation(name); {
	case !ok || a == none:
		return fmt.Errorf("%q is no affiliation", name)
	case j.IsZero() || j.IsFull():
		return fmt.Errorf("%q is not whom a room may know", j)
	}
	return nil
}
