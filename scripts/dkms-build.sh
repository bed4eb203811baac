#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# dkms-build.sh TREE [VARIABLE=VALUE...]: what DKMS runs to build the module. The compilers that it
# names are guesses; the kernel's build tree says itself what it was built with. Headers without the
# Rust part are completed on the way, by distro-tree.sh.
exec make -C "$(dirname "$0")/.." KDIR="$1" modules
