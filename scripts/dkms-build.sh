#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# dkms-build.sh TREE [VARIABLE=VALUE...]: builds the module for DKMS. DKMS passes variables that name
# compilers. They are ignored, because DKMS guesses them, and the build tree states what the kernel
# was built with. If the headers lack the Rust part, distro-tree.sh generates it.
exec make -C "$(dirname "$0")/.." KDIR="$1" modules
