# make demo    a whole hall on this machine: simulated devices, agent, broker
# make test    everything a change must pass
# make torture the same faults as the tests, in full length
# make bench   figures, as ratios measured in one run
# make build   bin/hallagent

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
RACE    := $(shell command -v gcc >/dev/null && echo -race)
export PATH := $(PATH):/usr/sbin

.PHONY: demo test check torture bench build clean

demo:
	@go build -o bin/demo ./cmd/hallagent/demo
	@exec bin/demo $(ARGS)

build:
	CGO_ENABLED=0 go build -trimpath -ldflags "-X main.version=$(VERSION)" -o bin/hallagent ./cmd/hallagent

test:
	@start=$$(date +%s); \
	.ci/needs && $(MAKE) --no-print-directory check && go tool gotestsum --format pkgname -- $(RACE) ./... && \
	echo "make test took $$(( $$(date +%s) - start )) s"

check:
	@bad=$$(gofmt -l .); if [ -n "$$bad" ]; then echo "gofmt these: $$bad"; exit 1; fi
	go vet ./...
	GOOS=windows go vet ./...
	go tool staticcheck ./...

torture:
	@.ci/needs
	HALLAGENT_TORTURE=1 go test -count=1 -timeout 60m -run Torture ./...

# Each repetition measures ours and its peer in turns; a line gives the medians.
bench: SHELL := bash
bench: .SHELLFLAGS := -o pipefail -c
bench:
	@.ci/needs
	@go test -v -count=1 -timeout 10m -run '^$$' -bench '^BenchmarkRatio' -benchtime 15x ./... | awk -f .ci/bench.awk

clean:
	rm -rf bin dist
