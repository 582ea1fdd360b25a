#!/bin/bash
# run.sh [SERVER...]: measures servers side by side on this machine (make bench-peers).
#
# The load tool and the peers' configurations come from a folder outside this repository, which its README describes;
# this script copies it to a work folder, adds carillon as its third server (peers/ here), builds carillon, and runs it.
# Without arguments: prosody-internal ejabberd-pgsql carillon.
#
#   BENCH_TOOL=../shared/bench  the load tool
#   WORK=/tmp/carillon-bench    scratch space; prepared accounts and archives stay there between calls
#   OUT=$WORK/results/<time>    raw results (results.jsonl) and the table (table.md)
#   ROUNDS=3                    repetitions, interleaved over the servers
#   GROUPS_="idle chat fan archive kill slow"   scenarios
#   ROOMS=1                     with the room scenarios of fan; and the group "rooms": those alone, entering a room of 1,000, and
#                               10,000 rooms in which nobody is (testdata/rooms.go, compiled into the copied tool); and the group
#                               "pep": an event told to CONTACTS (1000) contacts' clients that want it (testdata/pep.go)
#   CARILLON_BIN=path           a binary to measure instead of building one
#
# Needs: Debian packages prosody lua-dbi-sqlite3 ejabberd erlang-p1-pgsql postgresql-15 openssl; root, because
# PostgreSQL is run as its own user. After a change of carillon's storage delete $WORK/template/carillon.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
tool=${BENCH_TOOL:-$top/../shared/bench}
export WORK=${WORK:-/tmp/carillon-bench}
export OUT=${OUT:-$WORK/results/$(date +%Y%m%d-%H%M%S)}
[ $# -gt 0 ] || set -- prosody-internal ejabberd-pgsql carillon

[ -f "$tool/run.sh" ] || { echo "no load tool in $tool: set BENCH_TOOL" >&2; exit 2; }
for server; do
  case $server in
    prosody*) command -v prosody >/dev/null || { echo "missing: prosody" >&2; exit 2; } ;;
    ejabberd*) command -v ejabberdctl >/dev/null || { echo "missing: ejabberd" >&2; exit 2; } ;;
  esac
done

mkdir -p "$WORK"
rm -rf "$WORK/tool"
cp -r "$tool" "$WORK/tool"
chmod -R u+w "$WORK/tool"
cp -r "$here/peers/." "$WORK/tool/peers/"
cp "$here/testdata/rooms.go" "$here/testdata/pep.go" "$WORK/tool/loadgen/"
sed -i 's/"slow": slow,/"slow": slow, "join": joinRoom, "rooms": idleRooms, "pep": personalEvents,/' "$WORK/tool/loadgen/main.go"
sed -i 's/^\tcase "get":$/&\n\t\tif answerCaps(s, st) {\n\t\t\treturn true\n\t\t}/' "$WORK/tool/loadgen/client.go"
[ -n "${ROOMS:-}" ] || sed -i 's/one muc [^;]*/: /' "$WORK/tool/run.sh"
sed -i 's/^  idle5000)/  pep) one pep ${CONTACTS:-1000} --first 0 --occupants ${CONTACTS:-1000} --timeout 120s ;;\n  rooms)\n    one muc 100 --first 600 --occupants 100\n    one muc 500 --first 700 --occupants 500 --timeout 600s\n    one join 1000 --first 0 --occupants 1000 --timeout 600s\n    one rooms 10000 --first 1100 --archive 10000 ;;\n&/; s/timeout 240/timeout ${LIMIT:-240}/' "$WORK/tool/run.sh"

if [ -z "${CARILLON_BIN:-}" ] && [[ " $* " == *" carillon "* ]]; then
  (cd "$top" && CGO_ENABLED=0 go build -trimpath -o "$WORK/carillon" ./cmd/carillon)
  CARILLON_BIN=$WORK/carillon
fi
export CARILLON_BIN=${CARILLON_BIN:-}

"$WORK/tool/run.sh" "$@"

cat <<EOT

Raw results: $OUT/results.jsonl
For docs/performance.md: the table above ($OUT/table.md) with this line:

$(date +%F), $(nproc) cores ($(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)), $(go env GOVERSION), carillon $(git -C "$top" describe --always --dirty 2>/dev/null || echo unknown), Prosody $(dpkg-query -W -f '${Version}' prosody 2>/dev/null || echo none), ejabberd $(dpkg-query -W -f '${Version}' ejabberd 2>/dev/null || echo none), PostgreSQL $(dpkg-query -W -f '${Version}' postgresql-15 2>/dev/null || echo none), load tool $(cd "$tool" && find . -name '*.go' -print0 | sort -z | xargs -0 sha256sum | sha256sum | cut -c1-12)
EOT
