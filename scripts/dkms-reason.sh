#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# dkms-reason.sh DIRECTORY: prints in one line why DKMS could not build the module, if that is known.
# The directory is that of one version of the module, such as /var/lib/dkms/kqueue/0.1.0. The log of the
# build can be incomplete, because it is on the disk that is full.
log=$1/build/make.log
size=60
reason=$(grep -hE '^(check|distro)-tree.sh: ' "$log" 2>/dev/null | tail -n 1)
free=$(df -m --output=avail "$1" 2>/dev/null | tail -n 1)
if [ -z "$reason" ] && { grep -qs 'No space left on device' "$log" || [ "${free:-$size}" -lt $size ]; }; then
	reason="the disk of ${1%/kqueue/*} is full: building the module takes $size MB there"
fi
[ -z "$reason" ] || echo "$reason"
