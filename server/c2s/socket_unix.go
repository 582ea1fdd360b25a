//go:build unix

package c2s

import "syscall"

const canPoll = true

// fetch reads what the kernel has into a borrowed buffer. It returns false if
// there is nothing, and is then called again when there is something; no buffer
// is held in between.
func (s *socket) fetch(fd uintptr) bool {
	if s.buf == nil {
		s.buf = buffers.Get().(*buffer)
	}
	for {
		s.n, s.err = syscall.Read(int(fd), s.buf[:])
		switch s.err {
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			s.release()
			return false
		}
		return true
	}
}
