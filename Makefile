# The front door. `make demo` and `make test` do everything that they need on a bare Debian 12; the rest is for those
# who work on the code.

JOBS ?= $(shell nproc)
PROGRAMS := vibe vibed vibe-supervisor vibe-logger vibe-native-init vibe-qemu-keeper

.PHONY: help setup build images demo vm test test-asan test-tsan bench lint bundle-vm check-macos clean
.DEFAULT_GOAL := help

help: ## What can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install the Debian packages that everything here needs
	@tools/setup

build: setup build/build.ninja ## Build the programs into build/bin
	ninja -C build -j $(JOBS) $(PROGRAMS)

images: setup ## Build the images of the example apps
	examples/images/build

demo: build images $(if $(filter qemu,$(MACHINE)),vm) ## Open the bookmarks app and print its address; MACHINE=qemu: in a VM
	@tools/demo $(MACHINE)

vm: build ## Build the image of the VM that qemu boots
	@ninja -C build -j $(JOBS) vibe-init
	@tools/build-vm

test: setup build/build.ninja images ## Build everything and run all tests
	ninja -C build -j $(JOBS)
	ctest --test-dir build --parallel $(JOBS) --output-on-failure --no-tests=error

# Not "address randomized": the sanitizer's shadow memory has a fixed place that newer kernels hand out otherwise.
test-asan: ## The tests with the address and undefined-behaviour sanitizers
test-tsan: ## The tests with the thread sanitizer
test-asan test-tsan: test-%: setup images
	cmake --preset $*
	ninja -C build-$* -j $(JOBS)
	setarch --addr-no-randomize ctest --test-dir build-$* --parallel $(JOBS) --output-on-failure --no-tests=error

bench: build images ## Measure what is promised, with peers beside it
	bench/run

lint: setup build/build.ninja ## Check formatting, scripts and what changed in C++ (all of it: tools/lint --all)
	@ninja -C build -j $(JOBS) vibe_proto containerd_api
	@tools/lint

# On a Mac: VM_BIN is a folder with vibe-init, vibe-supervisor and vibe-logger built for Linux.
VM_ARCH ?= $(shell uname -m | sed 's/arm64/aarch64/')
VM_DISTRO ?= alpine
VM_BIN ?= build/bin
bundle-vm: ## Build the VM's kernel and initrd into Vibe.app's resources
	vm-image/build.sh --arch $(VM_ARCH) --distro $(VM_DISTRO) --bin $(VM_BIN) --out build/vm-image
	mkdir -p apps/mac-host/VibeHost/Resources
	cp build/vm-image/kernel build/vm-image/initrd apps/mac-host/VibeHost/Resources/

check-macos: setup ## Compile, analyse and link the Mac's programs against an SDK: make check-macos SDK=DIR
	@tools/check-macos $(if $(SDK),"$(SDK)")

clean: ## Remove everything that was built (projects and their data stay)
	rm -rf build build-asan build-tsan build-debug examples/*/images/python examples/*/images/postgres

build/build.ninja: | setup
	cmake --preset release
