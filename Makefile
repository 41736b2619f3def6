# The commands of the project. Everything behind them is in scripts/ and in `cargo xtask`.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help demo demo-down build install test bench

help: ## Show these commands
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: ## Build lith, start it, run an example image in its own microVM and show its page (root)
	@scripts/demo

demo-down: ## Remove every trace of the demo (root)
	@scripts/demo-down

build: ## Build the release executable, target/release/lith
	cargo build --release --locked --package lith-node --bin lith

install: build ## Install the executable and the systemd unit, below DESTDIR if that is set (root)
	install -D -m 755 target/release/lith $(DESTDIR)/usr/local/bin/lith
	install -D -m 644 packaging/lith.service $(DESTDIR)/etc/systemd/system/lith.service

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
