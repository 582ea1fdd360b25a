#!/bin/bash
# start.sh DATADIR: start carillon on 127.0.0.1:27222 (STARTTLS) and :27223 (direct TLS). CARILLON_BIN is the binary.
# Leaves the pid in DATADIR/server.pid. The data directory may already hold accounts.
set -e
here=$(cd "$(dirname "$0")" && pwd); . "$here/../common/lib.sh"
data=$1
mkdir -p "$data"; make_cert "$data/certs"
cp "$here/carillon.toml" "$data/carillon.toml"
ulimit -n "$(ulimit -Hn)"
setsid "${CARILLON_BIN:?}" serve --config "$data/carillon.toml" --data "$data/store" --domain bench.local \
  --c2s 127.0.0.1:27222 --c2s-tls 127.0.0.1:27223 --http "${CARILLON_HTTP:-off}" \
  --cert "$data/certs/bench.crt" --key "$data/certs/bench.key" --log-level warn >> "$data/stdout.log" 2>&1 < /dev/null &
echo $! > "$data/server.pid"
wait_xmpp 27222 "$(cat "$data/server.pid")" 30
