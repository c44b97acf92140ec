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
	go run ./cmd/hallagent/demo $(ARGS)

build:
	CGO_ENABLED=0 go build -trimpath -ldflags "-X main.version=$(VERSION)" -o bin/hallagent ./cmd/hallagent

test:
	@start=$$(date +%s); \
	.ci/needs && $(MAKE) --no-print-directory check && go test $(RACE) ./... && \
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
	@go test -v -count=1 -timeout 5m -run '^$$' -bench '^BenchmarkRatio' -benchtime 15x ./... | awk ' \
	function row(what, ours, peer, ratio, aim) { \
		table = table sprintf("%-48s %20s  %-26s %6s  %s\n", what, ours, peer, ratio, aim) } \
	BEGIN { row("what", "ours", "peer or limit", "ratio", "aim") } \
	/no test files|^(goos|goarch|pkg|PASS)|^BenchmarkRatio[^\t]*$$/ { next } \
	/^cpu:/ && cpu++ { next } \
	/^ok/ { if (rows) print $$2, $$3; rows = 0; next } \
	!/^BenchmarkRatio/ { print; next } \
	{ rows++; what = $$1; sub(/^BenchmarkRatio/, "", what); sub(/-[0-9]+$$/, "", what); \
	  sub("/", ", ", what); gsub("_", " ", what); aim = "none set"; \
	  for (i = 3; i < NF; i += 2) { \
		value = $$i + 0; unit = $$(i+1); sub("-", " ", unit); split(unit, word, " "); \
		if (word[1] == "ours") ours = value " " word[2]; \
		else if (word[1] == "ratio") ratio = value; \
		else if (word[1] == "aim") { least = word[2] == "min"; bound = value; aim = "" } \
		else peer = value " " word[2] " " word[1] } \
	  if (aim == "") aim = (least ? ">= " : "<= ") bound ((least ? ratio >= bound : ratio <= bound) ? "" : "  MISSED"); \
	  row(what, ours, peer, sprintf("%.2f", ratio), aim) } \
	END { printf "\n%s", table }'

clean:
	rm -rf bin dist
