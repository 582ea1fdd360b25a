//go:build race

package route

// raceDetector: the tests run under it.
const raceDetector = true
