package c2s

import (
	"testing"
	"testing/synctest"
)

// TestWorkers: behind a burst as many workers wait as may, and most of them go with time.
func TestWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{work: make(chan *conn), done: make(chan struct{})}
		for range maxIdleWorkers + 10 {
			go s.worker(&conn{srv: s})
		}
		synctest.Wait()
		if n := s.idle.Load(); n != maxIdleWorkers {
			t.Errorf("%d workers wait", n)
		}
		for range 12 {
			s.restWorkers()
			synctest.Wait()
		}
		if n := s.idle.Load(); n != keptWorkers {
			t.Errorf("%d workers are kept", n)
		}
		s.dispatch(&conn{srv: s})
		synctest.Wait()
		if n := s.idle.Load(); n != keptWorkers {
			t.Errorf("%d workers are there after a little work", n)
		}
		close(s.done)
	})
}
