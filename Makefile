# rmtrain: reward models from ranked answers. `make help` lists the targets.
#
# A machine needs git, make and Go; .ci/prerequisites sees to the C and Rust compilers.

# One set of flags for every Go command, so that they share one build cache. The
# version comes from a linker flag of .ci/build, not from Go's own look at git.
export GOFLAGS := $(strip $(GOFLAGS) -buildvcs=false)

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)

# on, off, or auto: the CUDA backend is built where CUDA's header can be had.
export CUDA ?= auto

EXAMPLE := build/example
BENCH := build/bench/venv

.DEFAULT_GOAL := build
.PHONY: run test build lint sanitize bench-cpu cuda cuda-real emulator clean help prerequisites dependencies rustlib

## run: build, write a small example, train on it, and score with the result
run: build
	@echo '--- rmtrain example: write a base model and ranked answers into $(EXAMPLE)'
	@rm -rf $(EXAMPLE)
	@bin/rmtrain example $(EXAMPLE)
	@echo '--- rmtrain: train a reward model as $(EXAMPLE)/nectar.yaml says'
	@bin/rmtrain --config $(EXAMPLE)/nectar.yaml
	@echo '--- rmtrain infer: score held-out samples with $(EXAMPLE)/out'
	@bin/rmtrain infer --device cpu --checkpoint $(EXAMPLE)/out --input $(EXAMPLE)/samples.jsonl

## test: everything that CI runs: lint, unit tests, races, the program end to end
test: build lint
	@.ci/test

## build: bin/rmtrain, for the CPU and, where it can be built, CUDA (CUDA=on or off decides)
build: dependencies
	@.ci/build '$(VERSION)'

## lint: gofmt, go vet and staticcheck
lint: dependencies
	@.ci/lint

## sanitize: the CPU's kernels under the race, address and undefined-behaviour detectors; minutes
sanitize: rustlib
	@.ci/sanitize

## bench-cpu: time rmtrain against PyTorch on this machine; writes docs/benchmarks/cpu.md
bench-cpu: build $(BENCH)/installed
	@$(BENCH)/bin/python docs/benchmarks/run.py $(BENCHFLAGS)

# PyTorch of a fixed version, from PyPI, in an environment of its own.
$(BENCH)/installed: docs/benchmarks/requirements.txt
	@python3 -m venv $(BENCH)
	@$(BENCH)/bin/pip install --quiet --requirement $<
	@touch $@

## cuda: the kernels' PTX, which is committed, and cubins; after a change of kernels/cuda/*.cu
cuda: prerequisites
	@.ci/cuda headers compiler kernels

## cuda-real: hold what is declared of cublasLt beside the real library; 426 MB from PyPI, no GPU
cuda-real: prerequisites
	@.ci/cuda real

## emulator: a stand-in for libcuda.so.1 and libcublasLt.so.13 that runs PTX on the CPU
emulator: prerequisites
	@.ci/cuda emulator

## clean: remove what was built
clean:
	rm -rf bin build

## help: this list
help:
	@sed -n 's/^## //p' Makefile

dependencies: prerequisites
	@.ci/dependencies

# The Rust archives alone, as every Go command needs them.
rustlib: prerequisites
	@.ci/rustlib

prerequisites:
	@.ci/prerequisites go c
