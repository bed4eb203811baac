#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# locked.sh INSTALL.MD: runs in a guest that was booted with lockdown=integrity, and whose root
# directory has the Debian packages. The kernel must refuse the module of DKMS, because it does not
# trust the key of DKMS, and the document must quote the message of modprobe. The module must be signed
# with the certificate that the document names.
set -e
document=$1
fail() { echo "locked.sh: $*"; exit 1; }

# refused MESSAGE KERNEL-MESSAGE: modprobe must fail with this message, and the kernel must log the
# other one.
refused() {
	if modprobe kqueue 2>/run/said; then
		fail "the kernel loaded the module"
	fi
	cat /run/said
	grep -qxF "modprobe: ERROR: could not insert 'kqueue': $1" /run/said || fail "another message than: $1"
	grep -qF "$(cat /run/said)" "$document" || fail "the document does not quote the message"
	dmesg | grep -F "$2" || fail "the kernel does not say: $2"
	[ ! -e /dev/kqueue ] || fail "there is a /dev/kqueue"
}

grep -F '[integrity]' /sys/kernel/security/lockdown || fail "the kernel is not locked down"
refused "Operation not permitted" "Lockdown: modprobe: unsigned module loading is restricted"
echo 1 >/sys/module/module/parameters/sig_enforce
refused "Key was rejected by service" "Loading of module with unavailable key is rejected"

certificate=$(grep -oE 'mokutil --import .*' "$document" | awk '{ print $3 }')
serial=$(openssl x509 -inform DER -in "$certificate" -noout -serial) || fail "no certificate $certificate"
[ "$(modinfo -F sig_key kqueue | tr -d :)" = "${serial#serial=}" ] ||
	fail "the module is signed with $(modinfo -F sig_key kqueue), and the certificate is $serial"
kqtrace timer:1000 2>/run/said && fail "kqtrace without the module"
grep -xF 'kqtrace: there is no /dev/kqueue: load the module (modprobe kqueue)' /run/said || fail "$(cat /run/said)"
