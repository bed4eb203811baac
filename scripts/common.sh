# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Definitions for all scripts: paths, messages, and failure.

set -euo pipefail

# shellcheck disable=SC2034 # Used by the scripts that source this one.
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# The cache is outside the clone. It contains everything that takes long to build.
cache=${KQUEUE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kqueue-dev}
mkdir -p "$cache"

say() { printf '== %s\n' "$*" >&2; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# Runs a command with its output in a log. Prints the end of the log if the command fails.
logged() {
	local log=$1
	shift
	if ! "$@" >"$log" 2>&1; then
		tail -n 40 "$log" >&2
		die "failed: $* (complete log: $log)"
	fi
}

# The device node can exist on a machine whose processor does not support virtualization. Processors of
# x86 list the feature in /proc/cpuinfo; those of other architectures do not.
has_kvm() {
	[ -w /dev/kvm ] || return
	[ "$(uname -m)" != x86_64 ] || grep -qwE 'vmx|svm' /proc/cpuinfo
}

# guest_result NAME OUT STATUS: prints the result of selftests/run.sh in a guest, whose counts are in
# OUT, and whether the run itself succeeded. Fails if a test or the run failed.
guest_result() {
	local passed=0 failed=0 skipped=0
	[ ! -f "$2/counts" ] || read -r passed failed skipped <"$2/counts"
	if [ "$3" = 0 ]; then
		echo "ok $1::kernel_log_is_clean"
		passed=$((passed + 1))
	else
		echo "not ok $1::run"
		failed=$((failed + 1))
	fi
	echo "$passed passed, $failed failed, $skipped skipped"
	[ "$failed" = 0 ]
}
