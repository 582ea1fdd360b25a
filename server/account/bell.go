package account

// bell wakes all who wait for something. Its owner's mutex guards it.
type bell chan struct{} // nil: nobody waits

// next is closed when the bell rings next.
func (b *bell) next() <-chan struct{} {
	if *b == nil {
		*b = make(chan struct{})
	}
	return *b
}

func (b *bell) ring() {
	if *b != nil {
		close(*b)
		*b = nil
	}
}
