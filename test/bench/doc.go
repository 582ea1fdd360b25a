// Package bench measures one message from end to end, in process; the side by
// side comparison with other servers is run.sh.
package bench
