#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# firmware.sh CERTIFICATE OUT: prepares UEFI firmware for a guest that trusts the certificate, and prints
# the options of QEMU for it (KQUEUE_GUEST_QEMU of guest.sh). The certificate is in the signature
# database of the firmware, as the keys of a machine are. OUT is the file with the variables of the
# firmware.
source "$(dirname "$0")/common.sh"
certificate=$1 out=$2
virt_firmware_version=26.10
code=/usr/share/OVMF/OVMF_CODE_4M.fd

"$top/scripts/host-packages.sh" ovmf
tool=$cache/virt-firmware-$virt_firmware_version
if [ ! -x "$tool/bin/virt-fw-vars" ]; then
	say "installing virt-firmware $virt_firmware_version"
	rm -rf "$tool"
	python3 -m venv "$tool"
	logged "$tool.log" "$tool/bin/pip" install "virt-firmware==$virt_firmware_version"
fi
mkdir -p "${out%/*}"
logged "$out.log" "$tool/bin/virt-fw-vars" -i "${code/CODE/VARS}" -o "$out" \
	--add-db "$(cat /proc/sys/kernel/random/uuid)" "$certificate"
out=$(readlink -f "$out")
echo "-drive if=pflash,format=raw,readonly=on,file=$code -drive if=pflash,format=raw,file=$out"
