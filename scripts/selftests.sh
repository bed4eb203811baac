#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# selftests.sh: builds the selftests as statically linked programs, and prints the shell assignments
# tests=PATH c_tests=DIRECTORY. CC, CXX and AR are the C compilers and the archiver, and KQUEUE_TARGET
# is the target of rustc, for a cross build.
source "$(dirname "$0")/common.sh"
cd "$top"
target=${KQUEUE_TARGET:-$(rustc -vV | sed -n 's/^host: //p')}
cc=${CC:-cc} cxx=${CXX:-c++}
variable=CARGO_TARGET_$(tr 'a-z-' 'A-Z_' <<<"$target")_RUSTFLAGS
export "$variable=-C target-feature=+crt-static"

mkdir -p build
cargo test --quiet --no-run --target "$target" -p kqueue-selftests --message-format json >build/selftests.json
tests=$(sed -n 's/.*"name":"kqueue_selftests".*"executable":"\([^"]*\)".*/\1/p' build/selftests.json)
[ -x "$tests" ] || die "cargo did not print the path of the test binary"

# The C programs are built for each standard of C, and for 32-bit processes if the compiler can.
WERROR=1 scripts/library.sh --32
c_tests=$top/build/c-tests
rm -rf "$c_tests"
mkdir -p "$c_tests"
for standard in c89 c99 c11; do
	for bits in 64 32; do
		library=build/lib${bits/64/}
		machine=()
		[ $bits = 64 ] || machine=(-m32)
		[ -f "$library/libkqueue_c.a" ] || continue
		for test in selftests/header selftests/library samples/sandbox; do
			# The sample requires a newer standard than the oldest one.
			[ "$test$standard" != samples/sandboxc89 ] || continue
			"$cc" "${machine[@]}" "-std=$standard" -D_GNU_SOURCE -pedantic -Wall -Wextra -Werror -static -pthread \
				-Iinclude -Iinclude/uapi -o "$c_tests/${test#*/}$bits" \
				"$test.c" "$library/libkqueue_c.a"
		done
	done
done
# Build 32-bit programs with 64-bit time too.
if [ -f build/lib32/libkqueue_c.a ]; then
	for test in header library; do
		"$cc" -m32 -D_FILE_OFFSET_BITS=64 -D_TIME_BITS=64 -std=c11 -D_GNU_SOURCE -pedantic -Wall -Wextra -Werror \
			-static -pthread -Iinclude -Iinclude/uapi -o "$c_tests/${test}time64" \
			"selftests/$test.c" build/lib32/libkqueue_c.a
	done
fi
# Compile the header alone and after other headers. Strict ISO C may not define struct timespec, and
# C++ has different rules.
compiles() {
	local include
	for include in stdint.h fcntl.h sys/types.h; do
		printf '%s\n' "#include <$include>" '#include <sys/event.h>' 'int wait_for(int, struct kevent *);' \
			'int wait_for(int kq, struct kevent *event) {' \
			'EV_SET(event, 1, EVFILT_USER, EV_ADD | EV_CLEAR, NOTE_FFCOPY | 1, 0, 0);' \
			'return kevent(kq, event, 1, event, 1, (const struct timespec *)0); }' |
			"$@" -pedantic -Wall -Wextra -Werror -Iinclude -Iinclude/uapi -fsyntax-only -
	done
}
for bits in 64 32; do
	[ -f "build/lib${bits/64/}/libkqueue_c.a" ] || continue
	machine=()
	[ $bits = 64 ] || machine=(-m32)
	for standard in c89 c99 c11 c17; do
		compiles "$cc" "${machine[@]}" "-std=$standard" -xc
	done
	for standard in c++98 c++11 c++17 c++20; do
		compiles "$cxx" "${machine[@]}" "-std=$standard" -xc++
	done
done
# The examples of the manual are built as tests too.
scripts/manual.sh "$c_tests"
# The fuzzer is not a test of cargo; it is added to the directory of the C programs.
cp "$(scripts/fuzzer.sh)" "$c_tests/"
echo "tests=$tests c_tests=$c_tests"
