# The commands of the project. Everything behind them is in scripts/ and in `cargo xtask`.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help demo demo-down build test bench

help: ## Show these commands
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: ## Build lith, start it, run an example image in its own microVM and show its page (root)
	@scripts/demo

demo-down: ## Remove every trace of the demo (root)
	@scripts/demo-down

build: ## Build the release executable, target/release/lith
	cargo build --release --locked --package lith-node --bin lith

test: ## Install what tests need and run all of them (root)
	@scripts/require-root "make test"
	@scripts/require-cargo "make test"
	@scripts/install-deps test
	cargo xtask ci

bench: ## Measure the figures into target/bench.json (root)
	@scripts/require-root "make bench"
	@scripts/require-cargo "make bench"
	@scripts/install-deps test
	cargo xtask bench
