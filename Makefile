# SPDX-License-Identifier: MIT
#
# Shortcuts around meson, ninja and the scripts. Every target can be run as root on a fresh Debian 12 or 13.

BUILD ?= build
IMAGE ?= build-guest
PREFIX ?= /usr/local
FUZZ_SECONDS ?= 60
JOBS ?= $(shell nproc)
export BUILD IMAGE

.NOTPARALLEL:
.PHONY: all deps image demo check fuzz bench coverage install format tidy clean help

all: $(BUILD)/build.ninja
	ninja -C $(BUILD) -j$(JOBS)

$(BUILD)/build.ninja:
	@command -v meson >/dev/null || { echo "meson is missing; run 'make deps' as root" >&2; exit 1; }
	meson setup $(BUILD) --prefix=$(PREFIX) --libdir=lib

deps:
	scripts/install-deps.sh

image:
	guest/build-image.sh $(IMAGE)

demo: deps all image
	demo/demo.sh

check: deps all image
	scripts/run-tests.sh

fuzz: deps
	tests/fuzz/fuzz.sh --seconds $(FUZZ_SECONDS)

bench: deps all image
	bench/run.sh $(BUILD)

coverage: deps
	scripts/coverage.sh

install: all
	meson install -C $(BUILD) --no-rebuild

format:
	git ls-files -co --exclude-standard 'src/*.[ch]' 'tests/*.[ch]' 'include/*.[ch]' 'bench/*.[ch]' 'demo/*.[ch]' | \
		xargs -r -d '\n' clang-format -i

tidy: deps
	scripts/tidy.sh

clean:
	rm -rf $(BUILD)

help:
	@echo 'make            build in $(BUILD)'
	@echo 'make deps       install the Debian packages that are missing (root)'
	@echo 'make image      build the guest image in $(IMAGE) (root)'
	@echo 'make demo       all of these, then four guests in a pool of half their size'
	@echo 'make check      all of these, then every test'
	@echo 'make fuzz       let libFuzzer at every decoder, 60 s each (FUZZ_SECONDS; needs clang)'
	@echo 'make bench      measure'
	@echo 'make coverage   which lines the tests go through (needs gcovr)'
	@echo 'make install    install under PREFIX ($(PREFIX)); DESTDIR works'
	@echo 'make format     clang-format all C sources'
	@echo 'make tidy       let clang-tidy look through the sources (needs clang-tidy 14)'
	@echo 'make clean      remove $(BUILD); the guest image stays'
