# chatd: `make run` is all it takes; `make help` lists the rest.
# DATA names the data folder, ARGS goes to the command: make run DATA=/var/tmp/chat ARGS="--config my.toml"

DATA ?= ./data
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help run run-stack build test test-kafka39 check fmt lint bench bench-compare soak reset clean

help: ## what there is
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## (.*)/  make \1\t\2/' | expand -t 24

run: build ## a whole server on http://localhost:3000; Ctrl-C ends it
	@exec cargo run --quiet --release --locked --bin chatd -- all --data "$(DATA)" $(ARGS)

run-stack: build ## two sockets' and two consuming processes on Kafka, PostgreSQL and Redis; Ctrl-C ends them
	@scripts/run-stack

build: ## the release executable, target/release/chatd
	@scripts/build

test: ## everything: format, lints, and all tests with short counts (starts the services, and ends them)
	@scripts/test

test-kafka39: ## what speaks to Kafka, against Kafka 3.9 with ZooKeeper
	@scripts/test --kafka39

check: ## format, lints and the rules of the tree, in seconds
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo test --locked --quiet --test tidy

fmt: ## format the code
	cargo fmt

lint: ## clippy, and what else is installed: shellcheck, and checks of docker/
	cargo clippy --locked --all-targets -- -D warnings
	@if command -v shellcheck > /dev/null; then \
	  shellcheck --external-sources --severity=warning scripts/bench scripts/bench-compare scripts/build scripts/reset \
	    scripts/run-stack scripts/stack scripts/stack.d/*.sh scripts/test scripts/check-docker .ci/run; \
	else echo "shellcheck is not installed: scripts were not looked at"; fi
	@scripts/check-docker

bench: build ## latency, throughput and memory of a release server on a folder of its own
	@scripts/bench $(ARGS)

bench-compare: build ## the same beside the Node reference, on Kafka, PostgreSQL and Redis (NODE_REFERENCE=folder)
	@NODE_REFERENCE="$(NODE_REFERENCE)" scripts/bench-compare $(ARGS)

soak: ## the long runs: many schedules, and kill -9 twenty times (an hour or so; SIM_RUNS, KILLS, STORAGE_SECONDS)
	@scripts/test --soak

reset: ## remove the data folder with all users and messages (asks; FORCE=1 does not)
	@scripts/reset "$(DATA)"

clean: ## remove what was built, and the services that tests use
	@scripts/stack remove
	rm -rf .stack
	cargo clean
