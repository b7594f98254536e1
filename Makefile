# The few things one does here. CI calls only these.
SHELL := bash
export GOTOOLCHAIN := auto
export GOFLAGS := -tags=grpcnotrace
GO ?= go

.PHONY: build test lint demo bench fuzz

build: ## bin/fairlead
	$(GO) build -trimpath -o bin/ ./cmd/...

test: ## all three rings, with the race detector; needs root for the third
	$(GO) test -race -timeout 20m ./...

lint: ## formatting, vet and linters
	$(GO) build -C tools -o ../bin/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	bin/golangci-lint run --allow-parallel-runners ./...
	bin/golangci-lint fmt --diff ./...

demo: build ## the whole story, on a machine with no network
	$(GO) run ./test/demo

bench: build ## what Fairlead costs beside its peers, see docs/bench; BENCH='-run h1 -rounds 9' chooses
	$(GO) run ./bench -keep $(or $(BENCH_NAME),all) $(BENCH)

# A number of runs: a target stopped by the clock is reported as failed now and then (Go issue 75804).
FUZZTIME ?= 50000x
fuzz: ## every fuzz target for FUZZTIME
	@set -e; grep -rl --include='*_test.go' '^func Fuzz' internal | sort | while read -r f; do \
	  for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/p' $$f); do \
	    echo "== $$(dirname $$f) $$target"; \
	    $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1s ./$$(dirname $$f); \
	  done; done
