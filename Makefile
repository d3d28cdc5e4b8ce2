# A thin front: each command does its own set-up (system packages, libllama, models) through tools/setup, fetches
# nothing twice, and may be interrupted. DRR_OFFLINE=1 uses the cache alone; DRR_CACHE says where it is.
.PHONY: help build demo serve test check parity fuzz bench format clean
.DEFAULT_GOAL := help

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' Makefile

build: ## build/release/drr
	@tools/setup build

demo: ## the whole cycle on a real model and real questions, in 15 minutes after set-up; then a report to open
	@tools/demo

serve: ## drr serve on the embedded model; make serve ARGS="--critic critic.gguf --port 9000"
	@tools/setup build
	@tools/setup models qwen2.5-coder-1.5b
	@exec build/release/drr serve --reasoner qwen2.5-coder-1.5b $(ARGS)

test: ## all tests: layering and format, unit, gradients, parity, sanitizers, end to end
	@tools/test

check: ## layering, format, banned calls, headers: no build needed
	@tools/setup test-packages
	@tools/check

parity: ## only the tests against vectors that the real thing made
	@tools/test parity

fuzz: ## make fuzz MINUTES=10: libFuzzer on every format's reader, so long each; FORMAT=gguf alone
	@tools/fuzz --minutes $(or $(MINUTES),10) $(FORMAT)

bench: ## make bench NAME=x runs bench/x
	@test -n "$(NAME)" || { echo "make bench NAME=x, where x is one of:"; ls bench; exit 2; }
	@test -x "bench/$(NAME)" || { echo "bench/$(NAME) is not there; there are:"; ls bench; exit 2; }
	@tools/setup build
	@bench/$(NAME) $(ARGS)

format: ## lay out the C code as .clang-format says
	@tools/setup test-packages
	@git ls-files -co --exclude-standard '*.c' '*.cpp' '*.h' | xargs -r clang-format-14 -i

clean: ## remove build/ (the cache stays)
	rm -rf build
