# SPDX-License-Identifier: GPL-2.0

# The kernel to build the module for: its configured build tree.
KDIR ?= /lib/modules/$(shell uname -r)/build

.PHONY: all modules lib userspace install install-lib uninstall dkms-install dkms-uninstall deb demo test test-hostile test-race fuzz bench check check-programs clean help

all: modules userspace

modules:
	@tree=$$(scripts/distro-tree.sh "$(KDIR)") && \
		$(MAKE) -C "$$tree" M="$(CURDIR)" $$(scripts/tree-make-flags.sh "$$tree") modules

lib:
	@scripts/library.sh

userspace: lib
	cargo build --release

# Builds nothing, since it runs as root.
install install-lib uninstall dkms-install dkms-uninstall:
	@KDIR="$(KDIR)" scripts/install.sh $@

deb:
	@scripts/deb.sh

demo:
	@scripts/demo.sh

test:
	@scripts/test.sh

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

clean:
	rm -rf build target .module-common.o
	find . -maxdepth 2 \( -name '*.o' -o -name '*.ko' -o -name '*.mod' -o -name '*.mod.c' \
		-o -name '.*.cmd' -o -name modules.order -o -name Module.symvers \
		-o -name bindings_generated.rs \) -delete

help:
	@echo 'make                 the module for the running kernel, library and samples'
	@echo 'make KDIR=TREE       the module for the kernel of that build tree'
	@echo 'make lib             the C library alone, without cargo (CC, CFLAGS, LDFLAGS); make install-lib installs it'
	@echo 'make install         library, headers, kqtrace, and the module if it was built (PREFIX, DESTDIR)'
	@echo 'make dkms-install    the module, built again for each kernel'
	@echo 'make uninstall       takes that away; so does make dkms-uninstall'
	@echo 'make deb             Debian packages of module (DKMS), library and kqtrace, in build/deb'
	@echo 'make demo            an echo server on kqueue, in a virtual machine'
	@echo 'make test            all tests, in a virtual machine; ONLY=NAME: those with that name'
	@echo 'make fuzz            random calls in a virtual machine; SECONDS=N, SEED=N, KERNEL=debug or race, ARGS of its own'
	@echo 'make test-hostile    what a user who means harm costs others; QUICK=1, ONLY=NAMES'
	@echo 'make test-race       data races, on a kernel that looks for them; SECONDS=N of stress, and of the fuzzer; ONLY=NAME'
	@echo 'make bench           what things cost, against epoll and others, in a virtual machine; QUICK=1, ONLY=LETTERS'
	@echo 'make check-programs  tests of programs that others wrote, on kqueue, in a virtual machine; PROGRAMS="NAMES"'
	@echo 'make check           formatting and lints of module and userspace'
	@echo 'make clean           takes away what was built here (not the cached kernels)'
