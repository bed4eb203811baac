# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
version='Erlang/OTP 27'
package=erlang
switch='`ac_cv_header_sys_epoll_h=no`, when all but the emulator is built: its build runs an emulator'
what='a load of ours, `selftests/programs/erlang/load.erl`, since its tests need most of what it consists of: TCP, UDP and
UNIX sockets, ports (programs that it starts), timers'
builds=1
minutes=20
host=(g++ perl)
own=(selftests/programs/erlang/load.erl)

# Its build runs the emulator that it has made, and the machine need not have a kqueue. So
# everything is built with epoll, and then the emulator once more. Only what the load needs is
# built.
build() {
	local application configure=(./configure --without-termcap --without-javac --without-wx --without-odbc --without-ssl
		--disable-saslauthd CFLAGS='-O1 -g0' CXXFLAGS='-O1 -g0')
	export ERL_TOP=$PWD LC_ALL=C
	for application in lib/*/; do
		case $application in
		lib/kernel/ | lib/stdlib/ | lib/compiler/ | lib/erl_interface/ | lib/parsetools/ | lib/sasl/) ;;
		*) echo "It is not needed." >"${application}SKIP" ;;
		esac
	done
	step configure "${configure[@]}"
	step make make -j "$(nproc)"
	step load bin/erlc -o . "$top/selftests/programs/erlang/load.erl"
	cp -r bin/*-linux-gnu emulator-native
	step configure-kqueue "${configure[@]}" CPPFLAGS="$include" LIBS="$object" ac_cv_header_sys_epoll_h=no
	step emulator make -j "$(nproc)" emulator
	cp -r bin/*-linux-gnu emulator-kqueue
	find . -name '*.o' -delete
}

run() {
	local kind=epoll
	[ "$1" = native ] || kind=kqueue
	export ROOTDIR=$built BINDIR=$built/emulator-$1 EMU=beam PROGNAME=erl
	timeout 1000 "$BINDIR/erlexec" -noshell -boot start_clean -pa "$built" -run load main $kind
}
