# What people and CI run. `make` lists the targets; each says what it needs when that is not there.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

GO       ?= go
PACKAGES ?= ./...
FUZZTIME ?= 20s
BENCH    ?= .
# Where make interop keeps the screens that clients showed.
ARTEFACTS ?= $(CURDIR)/artefacts
# How often the crash test kills the server.
KILLS    ?= 50
# How many messages make soak sends.
MESSAGES ?= 100000
# How many seeds make sim runs, and from which on.
SEEDS    ?= 2000
FIRST    ?= 1
# Packages in which goroutines share state.
CORE     ?= ./server/account/... ./server/store/... ./server/c2s/... ./server/s2s/...
TOOL      = $(GO) tool -modfile=tools/go.mod

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: check
check: fmt vet staticcheck arch generated tidy ## all that needs no run: format, vet, staticcheck, arch, generated files, tidy

.PHONY: fmt
fmt: ## every file is formatted
	@files=$$(gofmt -l .); [ -z "$$files" ] || { echo "gofmt would change:"; echo "$$files"; exit 1; }

.PHONY: vet
vet: ## go vet
	$(GO) vet $(PACKAGES)

.PHONY: staticcheck
staticcheck: ## staticcheck, documentation included (staticcheck.conf)
	$(TOOL) staticcheck $(PACKAGES)

.PHONY: arch
arch: ## who may import whom, what is pure, what is documented (test/arch)
	$(GO) test -count=1 ./test/arch

.PHONY: generated
generated: ## go generate changes nothing
	@tree() { git ls-files -co --exclude-standard -z | xargs -0 sha256sum 2>/dev/null || true; }; \
	before=$$(tree); $(GO) generate $(PACKAGES); \
	diff <(echo "$$before") <(tree) || { echo "go generate changed these files: commit them"; exit 1; }

.PHONY: tidy
tidy: ## go.mod and go.sum are what go mod tidy writes
	$(GO) mod tidy -diff
	cd tools && $(GO) mod tidy -diff

.PHONY: test
test: ## all tests that need nothing but Go
	$(GO) test $(PACKAGES)

.PHONY: race
race: ## all tests with the race detector (needs a C compiler)
	$(GO) test -race $(PACKAGES)

.PHONY: soak
soak: ## devices that connect, cut, resume and catch up while many write, MESSAGES=..., with the race detector
	CARILLON_SOAK=$(MESSAGES) $(GO) test -race -count=1 -timeout 60m -v -run 'TestNoGapNoOverlap' ./server/account

.PHONY: sim
sim: ## engine and servers together over SEEDS=... seeds from FIRST=... on, a process for each processor; a failing seed says how to replay it
	@dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; $(GO) test -c -o "$$dir/sim" ./sim; \
	n=$$(nproc 2>/dev/null || echo 2); each=$$((($(SEEDS) + n - 1) / n)); pids=; failed=0; \
	for k in $$(seq 0 $$((n - 1))); do \
		(cd sim && exec "$$dir/sim" -test.run 'TestSeeds$$' -test.v -test.timeout 24h -seeds $$each -first $$(($(FIRST) + k * each))) & pids="$$pids $$!"; \
	done; \
	for pid in $$pids; do wait $$pid || failed=1; done; exit $$failed

.PHONY: race-core
race-core: ## the same for the packages that share state, CORE=...
	$(GO) test -race $(CORE)

.PHONY: fuzz
fuzz: ## every fuzz test, each for FUZZTIME
	@$(GO) test -list '^Fuzz' $(PACKAGES) | awk '/^Fuzz/ { f[n++] = $$1 } /^ok/ { for (i = 0; i < n; i++) print $$2, f[i]; n = 0 }' | \
	while read -r package target; do \
		echo "$$package $$target"; $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$package" </dev/null; \
	done

.PHONY: expat
expat: ## libexpat as oracle of our scanner, for FUZZTIME (needs a C compiler and libexpat1-dev)
	$(GO) test -tags expat ./xmltree
	$(GO) test -tags expat -run '^$$' -fuzz '^FuzzExpat$$' -fuzztime $(FUZZTIME) ./xmltree

.PHONY: interop
interop: interop-needs ## real clients and servers against the built server, our own client against others; installs nothing, names what is missing
	@mkdir -p "$(ARTEFACTS)"
	CARILLON_INTEROP=1 CARILLON_ARTEFACTS="$(ARTEFACTS)" $(GO) test -count=1 -parallel 4 -timeout 10m ./test/interop

# One line for each thing that is missing, with what to do about it.
.PHONY: interop-needs
interop-needs:
	@missing=0; \
	need() { eval "$$1" >/dev/null 2>&1 || { echo "missing: $$2"; missing=1; }; }; \
	need 'command -v go-sendxmpp' 'go-sendxmpp: apt-get install go-sendxmpp'; \
	need 'command -v profanity' 'profanity: apt-get install profanity'; \
	need 'command -v tmux' 'tmux, the terminal for profanity: apt-get install tmux'; \
	need '/usr/bin/python3 -c "import slixmpp"' 'slixmpp: apt-get install python3-slixmpp'; \
	need 'command -v node' 'node: apt-get install nodejs npm'; \
	need '[ -d test/interop/js/node_modules/@xmpp/client ]' '@xmpp/client: cd test/interop/js && npm ci'; \
	need '[ -d test/interop/js/node_modules/converse.js ]' 'Converse.js: cd test/interop/js && npm ci'; \
	need 'command -v chromium' 'chromium, in which Converse.js runs: apt-get install chromium'; \
	need 'command -v certutil' 'certutil, which tells Chromium of an authority: apt-get install libnss3-tools'; \
	need 'command -v dino-im' 'Dino: apt-get install dino-im'; \
	need '(for p in Xvfb openbox dbus-daemon gdbus xdotool xclip import; do command -v $$p || exit 1; done)' \
		'a desktop for Dino: apt-get install dbus imagemagick libglib2.0-bin openbox xclip xdotool xvfb'; \
	need 'command -v prosody' 'prosody: apt-get install prosody'; \
	need 'lua5.4 -e "require[[lunbound]]"' 'lua-unbound, so that Prosody asks our DNS: apt-get install lua-unbound'; \
	need 'command -v ejabberdctl' 'ejabberd: apt-get install ejabberd'; \
	exit $$missing

.PHONY: model
model: ## a room against its reference model, HISTORIES=... random histories: the same state, the same messages for each occupant
	$(GO) test ./server/room -run 'TestModel$$' -rapid.checks=$(or $(HISTORIES),10000) -timeout 30m

.PHONY: crash
crash: ## kill -9 under load, KILLS times: nothing acknowledged is lost
	CARILLON_CRASH_KILLS=$(KILLS) $(GO) test -count=1 -v -timeout 60m ./test/crash

.PHONY: flights
flights: ## round trips and time until a device is up to date, beside Prosody and ejabberd (Debian packages prosody, ejabberd; root)
	CARILLON_FLIGHTS=1 $(GO) test -count=1 -v -timeout 10m -run 'TestTable' ./test/flights

.PHONY: federation
federation: ## messages per second and CPU per message between two servers, beside Prosody; memory of 1,000 idle domains (Linux)
	CARILLON_FEDERATION=20 $(GO) test -count=1 -v -timeout 15m -run 'TestFederationRate|TestIdleDomains' ./test/interop

.PHONY: bench
bench: ## Go benchmarks with allocations, BENCH=pattern
	@grep -rlE '^func Benchmark' --include='*_test.go' . | xargs -n1 dirname | sort -u | \
		xargs $(GO) test -run '^$$' -bench '$(BENCH)' -benchmem

.PHONY: catchup
catchup: ## one device catches up with 100,000 messages: rows/s, the server's memory, what others notice (Linux)
	CARILLON_CATCHUP=100000 $(GO) test -count=1 -v -timeout 10m -run 'TestCatchUp' ./test/bench

.PHONY: bench-peers
bench-peers: ## Prosody, ejabberd and carillon side by side (test/bench)
	test/bench/run.sh $(SERVERS)
