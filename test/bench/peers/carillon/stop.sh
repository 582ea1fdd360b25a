#!/bin/bash
# stop.sh DATADIR
here=$(cd "$(dirname "$0")" && pwd); . "$here/../common/lib.sh"
[ -f "$1/server.pid" ] && stop_pid "$(cat "$1/server.pid")" 20
exit 0
