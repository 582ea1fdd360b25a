package sim

// minimise leaves ops out of a failing run's script as long as the same property
// still fails, and returns the shortest run with how many ops it has.
func minimise(failing *Result, again func(keep []bool) *Result) (*Result, int) {
	keep := make([]bool, failing.Ops)
	for i := range keep {
		keep[i] = true
	}
	best, kept := failing, failing.Ops
	for size := max(1, failing.Ops/2); size > 0; size /= 2 {
		for from := 0; from < len(keep); from += size {
			try, n := append([]bool(nil), keep...), 0
			for i := from; i < min(from+size, len(try)); i++ {
				if try[i] {
					try[i] = false
					n++
				}
			}
			if n == 0 {
				continue
			}
			if r := again(try); r.fails(failing.Problems[0].Property) {
				best, keep, kept = r, try, kept-n
			}
		}
	}
	return best, kept
}

func (r *Result) fails(property int) bool {
	for _, p := range r.Problems {
		if p.Property == property {
			return true
		}
	}
	return false
}

func (c *Counts) add(o Counts) {
	c.Steps += o.Steps
	c.Messages += o.Messages
	c.Claims += o.Claims
	c.Binds += o.Binds
	c.Resumed += o.Resumed
	c.NotResumed += o.NotResumed
	c.Stops += o.Stops
	c.Kills += o.Kills
	c.Archived += o.Archived
}
