#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# bindgen-of.sh: prints the name of the command bindgen, if its version is 0.71 or later, or that of a
# command with its version in the name, as in Ubuntu's package bindgen-0.71.
while read -r candidate; do
	if version=$("$candidate" --version 2>/dev/null) && printf '%s\n' 0.71 "${version#bindgen }" | sort -CV; then
		echo "$candidate"
		exit 0
	fi
done < <(compgen -c bindgen | grep -E '^bindgen(-[0-9.]+)?$' | sort -uV)
exit 1
