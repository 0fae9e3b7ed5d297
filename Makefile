# Everything that a person or a CI job does with this tree. `make help` lists the targets.
#
# Nothing here is specific to a machine: Go, git, make and node (with npm) are enough, and what else the tests
# need is put under .cache by `make tools`.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

# Go derives the places of its caches from HOME.
ifeq ($(HOME),)
export HOME := $(CURDIR)/.cache/home
endif

CACHE    := $(or $(HYDRANT_CACHE),$(CURDIR)/.cache)
GO       ?= go
PKG      ?= ./...
TIMEOUT  ?= 10m
# The daemon never needs cgo; the race detector does. What is compiled with cgo is of no use without it, so all else
# goes without it too and is compiled once.
export CGO_ENABLED = 0

# The tests that drive the built binary as a process are one package with targets of its own.
PROCESS_TESTS := /e2e(/simulation)?

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## the daemon, static, into bin/hydrant
	$(GO) build -buildvcs=false -trimpath -ldflags="-s -w" -o bin/hydrant ./cmd/hydrant

.PHONY: demo
demo: ## the main job with generated events and a file destination; needs nothing
	$(GO) run -buildvcs=false ./cmd/hydrant demo

.PHONY: tools
tools: ## build and install what the tests drive, into .cache (minutes the first time)
	@tools/install

.PHONY: check
check: lint unit ## formatting, linters, unit tests with the race detector; uses those tools that are there

.PHONY: test
test: FUZZTIME ?= 3s
test: LIVES ?= 5000
test: SIM_SECONDS ?= 30
test: tools lint platforms unit sim sabotage e2e crash fuzz ## everything: what CI runs, with other random lives each time

.PHONY: lint
lint: ## gofmt, go vet, staticcheck
	@out=$$(gofmt -l $$(git ls-files --cached --others --exclude-standard '*.go')); \
	if [ -n "$$out" ]; then echo "gofmt these:"; echo "$$out"; exit 1; fi
	$(GO) vet $(PKG)
	$(GO) vet -tags sabotage,crashpoints ./buffer/... ./delivery ./e2e/simulation
	@tools/install staticcheck
	$(CACHE)/bin/staticcheck $(PKG)

.PHONY: cross
cross: ## the daemon compiles, without cgo, for every platform that is promised
	@for p in linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64; do \
		echo "build $$p"; \
		GOOS=$${p%/*} GOARCH=$${p#*/} $(GO) build -buildvcs=false -o $(CACHE)/cross/ ./cmd/hydrant; \
	done

.PHONY: platforms
platforms: ## all packages and their tests are type-checked for every platform that is promised, and the daemon is built for one of them, another one each day
	$(GO) run ./tools/platforms

# Tests that compute for long on one goroutine skip themselves in a -short run; packages that have such are tested
# without the race detector too. A program with the detector sleeps for a second before it ends, and tests start many: not here.
# Many packages wait for stores and processes: one more than there are processors keeps these busy.
.PHONY: unit
unit: ## all packages but the process tests, with the race detector; without it, what only computes
	@packages=$$($(GO) list -f '{{.ImportPath}} {{.Dir}}' $(PKG) | grep -vE '$(PROCESS_TESTS) '); \
	echo "$(GO) test -race -short"; \
	CGO_ENABLED=1 GORACE=atexit_sleep_ms=10 $(GO) test -race -short -p $$(($$(getconf _NPROCESSORS_ONLN) + 1)) -timeout $(TIMEOUT) $$(cut -d' ' -f1 <<<"$$packages"); \
	long=$$(while read -r pkg dir; do ! grep -qsF 'testing.Short()' "$$dir"/*_test.go || echo "$$pkg"; done <<<"$$packages"); \
	[ -z "$$long" ] || { echo "$(GO) test, without the race detector"; $(GO) test -timeout $(TIMEOUT) $$long; }

.PHONY: e2e
e2e: ## the real binary with real clients, real S3 servers and an independent Parquet reader
	$(GO) test -count=1 -parallel 4 -timeout $(TIMEOUT) -skip '^TestStorm$$' ./e2e

.PHONY: crash
crash: ## kill -9, power cuts and full disks under load, and a count of what arrived (N=30 deaths)
	HYDRANT_CRASH_ROUNDS=$(or $(N),30) $(GO) test -count=1 -v -timeout 4h -run '^TestStorm$$' ./e2e

.PHONY: sim
sim: ## LIVES (20,000) random lives of the buffer, then whole lives of the daemon's core in simulated time, for SIM_SECONDS (45) or SEEDS=n of them; their order is not that of a race build
	@mkdir -p $(CACHE)/sim; $(GO) test -c -o $(CACHE)/sim/buffer.test ./buffer; cd buffer; \
	n=$$(getconf _NPROCESSORS_ONLN); echo "$(or $(LIVES),20000) random lives of the buffer"; \
	GOMAXPROCS=1 GOGC=400 HYDRANT_CRASH_SEEDS=$$(($(or $(LIVES),20000) / n)) HYDRANT_CRASH_FROM=any \
		xargs -P $$n -I {} $(CACHE)/sim/buffer.test -test.timeout $(TIMEOUT) -test.run '^TestCrashRandom$$' <<<"$$(seq $$n)"
	HYDRANT_SIM_SEEDS=$(SEEDS) HYDRANT_SIM_SECONDS=$(SIM_SECONDS) $(GO) test -count=1 -timeout 12h ./e2e/simulation

.PHONY: crash-sim
crash-sim: ## simulated crashes of the buffer at every operation, and a million random lives (SEEDS=n)
	HYDRANT_CRASH_SEEDS=$(or $(SEEDS),1000000) $(GO) test -count=1 -timeout 24h -run 'Crash' ./buffer/... ./delivery
	HYDRANT_SIM_EVERYWHERE=1 $(GO) test -count=1 -timeout 24h -run TestEveryOperation ./e2e/simulation

.PHONY: sabotage
sabotage: ## builds with a deliberate fault each must fail the tests
	@if grep -rlq --include='*_test.go' '^//go:build sabotage' .; then \
		$(GO) test -count=1 -timeout $(TIMEOUT) -tags sabotage -run 'Sabotage' $$(grep -rl --include='*_test.go' '^//go:build sabotage' . | xargs -n1 dirname | sort -u); fi

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (10s)
	@FUZZTIME=$(or $(FUZZTIME),10s) tools/fuzz $(PKG)

.PHONY: bench
bench: ## benchmarks (BENCH=regexp PKG=./x COUNT=5); compares with BASE=file when given
	@mkdir -p $(CACHE)/bench
	$(GO) test -run '^$$' -bench '$(or $(BENCH),.)' -benchmem -count $(or $(COUNT),1) -timeout 60m $(PKG) \
		| tee $(CACHE)/bench/$$(date -u +%Y%m%dT%H%M%SZ)-$$(git rev-parse --short HEAD).txt
	@if [ -n "$(BASE)" ]; then tools/install benchstat && \
		$(CACHE)/bin/benchstat $(BASE) $$(ls -t $(CACHE)/bench/*.txt | head -1); fi

.PHONY: image
image: ## the container image hydrant:dev
	docker build -t hydrant:dev .

.PHONY: clean
clean: ## remove what was built here; the tools of .cache stay
	rm -rf bin $(CACHE)/cross $(CACHE)/bench

.PHONY: distclean
distclean: clean ## the tools too
	rm -rf $(CACHE)
