# SPDX-License-Identifier: GPL-2.0

# The configured build tree of the kernel for which the module is built.
KDIR ?= /lib/modules/$(shell uname -r)/build

.PHONY: all modules lib userspace install install-lib uninstall dkms-install dkms-uninstall \
	deb demo test test-stock test-arm64 test-readme test-hostile test-race fuzz bench check check-programs \
	check-kernels clean help

all: modules userspace

modules:
	@tree=$$(scripts/distro-tree.sh "$(KDIR)") && \
		$(MAKE) -C "$$tree" M="$(CURDIR)" $$(scripts/tree-make-flags.sh "$$tree") modules

lib:
	@scripts/library.sh

userspace: lib
	@scripts/need-rust.sh
	cargo build --release

# These targets run as root, so they build nothing.
install install-lib uninstall dkms-install dkms-uninstall:
	@KDIR="$(KDIR)" scripts/install.sh $@

deb:
	@scripts/deb.sh

demo:
	@scripts/demo.sh

test:
	@scripts/test.sh

test-readme:
	@scripts/test-readme.sh

test-stock:
	@scripts/test-stock.sh "$(ONLY)"

test-arm64:
	@scripts/test-arm64.sh "$(ONLY)"

fuzz:
	@scripts/fuzz.sh "$(or $(KERNEL),debug)" "$(or $(SECONDS),60)" "$(SEED)" $(ARGS)

test-hostile:
	@scripts/hostile.sh $(if $(QUICK),--quick) $(ONLY)

test-race:
	@ONLY="$(ONLY)" scripts/race.sh $(SECONDS)

bench:
	@scripts/bench.sh $(if $(QUICK),--quick) $(ONLY)

check:
	@scripts/check.sh

check-programs:
	@scripts/check-programs.sh $(PROGRAMS)

check-kernels:
	@scripts/check-kernels.sh "$(KERNELS)" "$(ONLY)"

clean:
	rm -rf build target .module-common.o
	find . -maxdepth 2 \( -name '*.o' -o -name '*.ko' -o -name '*.mod' -o -name '*.mod.c' \
		-o -name '.*.cmd' -o -name modules.order -o -name Module.symvers \
		-o -name bindings_generated.rs \) -delete

help:
	@echo 'make                 build the module for the running kernel, the library and the samples'
	@echo 'make KDIR=TREE       build the module for the kernel of that build tree'
	@echo 'make lib             build only the C library, without cargo (CC, CFLAGS, LDFLAGS); make install-lib installs it'
	@echo 'make install         install library, headers, kqtrace, and the module if built (PREFIX, DESTDIR)'
	@echo 'make dkms-install    have DKMS build and install the module for each kernel'
	@echo 'make uninstall       remove what make install installed; make dkms-uninstall removes the module from DKMS'
	@echo 'make deb             build Debian packages of module (DKMS), library and kqtrace in build/deb; ARCH=arm64'
	@echo 'make demo            run an echo server that uses kqueue, in a virtual machine; ARCH=arm64'
	@echo 'make test            run all tests in a virtual machine; ONLY=NAME: only those whose names match'
	@echo 'make test-stock      run the tests of the module on the stock kernel of Debian; ONLY=NAME'
	@echo 'make test-arm64      run the tests of the module on arm64, in an emulated machine; ONLY=NAME'
	@echo 'make test-readme     type the commands of README.md on a new machine, which is a virtual one; ARCH=arm64'
	@echo 'make fuzz            run the fuzzer in a virtual machine; SECONDS=N, SEED=N, KERNEL=debug|race, ARGS'
	@echo 'make test-hostile    measure what an attacker can make other users pay; QUICK=1, ONLY=NAMES'
	@echo 'make test-race       search for data races; SECONDS=N for the stress test and the fuzzer; ONLY=NAME'
	@echo 'make bench           compare costs with epoll and others in a virtual machine; QUICK=1, ONLY=LETTERS'
	@echo 'make check-programs  run the tests of other programs with kqueue; PROGRAMS="NAMES"'
	@echo 'make check-kernels   build, boot and test the module on the newest kernels of Debian; KERNELS=NAME, ONLY=TESTS'
	@echo 'make check           check formatting and lints of the module and of userspace'
	@echo 'make clean           remove what was built here, except the cached kernels'
