# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Common to all scripts: where things are, how to speak, how to fail.

set -euo pipefail

# shellcheck disable=SC2034 # Used by the scripts that source this one.
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Everything that is costly to make lives here, outside the clone.
cache=${KQUEUE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kqueue-dev}
mkdir -p "$cache"

say() { printf '== %s\n' "$*" >&2; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# Runs a command with its output in a log; shows the end of the log only when it fails.
logged() {
	local log=$1
	shift
	if ! "$@" >"$log" 2>&1; then
		tail -n 40 "$log" >&2
		die "failed: $* (whole log: $log)"
	fi
}

# The device node may be there on a machine whose processor has no virtualization.
has_kvm() { grep -qwE 'vmx|svm' /proc/cpuinfo && [ -w /dev/kvm ]; }
