package xep

import "carillon.im/xmltree"

// NSForm is XEP-0004's namespace.
const NSForm = "jabber:x:data"

// formTypeField says what a form is for (XEP-0068).
const formTypeField = "FORM_TYPE"

// Form is a data form that was submitted or that is a result (XEP-0004 3).
type Form struct {
	Type   string // "form", "submit", "cancel" or "result"
	Fields []Field
}

// Field is a field of a form with its values.
type Field struct {
	Var    string
	Type   string // "" in many a submission (XEP-0004 3.2)
	Values []string
}

// ParseForm reads <x/>. A field without a name (XEP-0004 3.2) or a name that
// comes twice is bad-request; text, labels and what isn't a field are for
// people and passed over.
func ParseForm(el xmltree.Element) (Form, error) {
	f := Form{Type: el.Attr("type")}
	seen := map[string]bool{}
	for c := range el.Children() {
		if !c.Is(NSForm, "field") {
			continue
		}
		field := Field{Var: c.Attr("var"), Type: c.Attr("type")}
		if field.Var == "" {
			if field.Type == "fixed" {
				continue
			}
			return Form{}, badRequest("a field of the form has no name")
		}
		if seen[field.Var] {
			return Form{}, badRequest("a field of the form comes twice")
		}
		seen[field.Var] = true
		for v := range c.Children() {
			if v.Is(NSForm, "value") {
				field.Values = append(field.Values, v.Text())
			}
		}
		f.Fields = append(f.Fields, field)
	}
	return f, nil
}

// FormType is the value of the field FORM_TYPE (XEP-0068), "" for none.
func (f Form) FormType() string {
	for _, field := range f.Fields {
		if field.Var == formTypeField && len(field.Values) > 0 {
			return field.Values[0]
		}
	}
	return ""
}
