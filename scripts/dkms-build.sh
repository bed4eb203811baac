#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# dkms-build.sh TREE [VARIABLE=VALUE...]: builds the module for DKMS. The compilers that DKMS passes
# are guesses, so they are ignored: the build tree of the kernel states what it was built with. If
# the headers lack the Rust part, distro-tree.sh generates it.
exec make -C "$(dirname "$0")/.." KDIR="$1" modules
