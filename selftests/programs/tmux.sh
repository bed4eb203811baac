# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
version='tmux 3.5a'
switch='libevent with kqueue'
native=poll
what='a load, since its tests are not in its source: windows, panes, their programs, a client in control mode and one on a terminal'
builds=1
needs=(libevent)
host=(libncurses-dev bison pkg-config bsdutils)

build() {
	local libevent=$out/libevent/kqueue
	step configure ./configure LIBEVENT_CORE_CFLAGS="-I$libevent/include" \
		LIBEVENT_CORE_LIBS="$libevent/.libs/libevent.a $library" CFLAGS='-g -O1'
	step make make -j "$(nproc)"
}

tmux() { timeout 120 "$built/tmux" -S "$PWD/socket" -f /dev/null "$@"; }
shows() { tmux capture-pane -p -t "$1" | grep -q "$2"; }
has() { [ "$(tmux "$1" -a 2>/dev/null | wc -l)" = "$2" ]; }

many_windows() {
	local i
	for i in $(seq 20); do
		tmux new-window -d -t a: "echo window $i; cat" || return
	done
	eventually has list-windows 21 || return
	for i in $(seq 20); do
		eventually shows "a:$i" "^window $i" || return
	done
}

# When the programs in the panes exit, the panes are closed.
windows_end() {
	local i
	for i in $(seq 20); do
		tmux send-keys -t "a:$i" C-d || return
	done
	eventually has list-windows 1
}

typed() {
	local i
	for i in $(seq 20); do
		tmux send-keys -t a:0 "echo number-\$((100 + $i))" Enter || return
		eventually shows a:0 "^number-$((100 + i))" || return
	done
}

much_output() {
	tmux send-keys -t a:0 'clear; seq 3000; echo it-is''-over' Enter
	eventually shows a:0 '^it-is-over'
}

piped() {
	tmux pipe-pane -t a:0 "cat >$PWD/piped" || return
	tmux send-keys -t a:0 'echo to-be''-piped' Enter
	eventually grep -q '^to-be-piped' piped || return
	tmux pipe-pane -t a:0
}

waits() {
	local waiter
	tmux wait-for channel &
	waiter=$!
	sleep 1
	tmux wait-for -S channel
	wait $waiter
}

shell() { [ "$(tmux run-shell 'echo from a shell')" = 'from a shell' ]; }

# A client in control mode receives notifications.
control() {
	mkfifo commands
	tmux -C attach -t a <commands >told &
	local client=$!
	exec 7>commands
	echo 'new-window -d -n told' >&7
	eventually grep -q '^%window-add' told || return
	echo 'kill-window -t told' >&7
	eventually grep -q '^%\(unlinked-\)\?window-close' told || return
	echo 'detach-client' >&7
	exec 7>&-
	wait $client
	grep -q '^%exit' told
}

# A client on a terminal shows the contents of its pane, and exits on request.
terminal() {
	tmux send-keys -t a:0 'clear; echo on-the''-terminal' Enter
	mkfifo keys
	exec 8<>keys
	timeout 300 script -q -f -c "stty rows 24 columns 80; '$built/tmux' -S '$PWD/socket' attach -t a" typescript \
		<&8 >/dev/null &
	local client=$!
	eventually grep -aq 'on-the-terminal' typescript || return
	echo 'echo typed-''there' >&8
	eventually shows a:0 '^typed-there' || return
	tmux detach-client -s a
	wait $client
	exec 8>&-
}

panes() {
	tmux set-option -w -t a:0 remain-on-exit on && tmux split-window -t a:0 "exit 3" || return
	eventually shows a:0.1 'status 3' || return
	tmux respawn-pane -t a:0.1 'echo born again; cat' || return
	eventually shows a:0.1 'born again' || return
	tmux kill-pane -t a:0.1
	eventually has list-panes 1
}

server_gone() { ! tmux has-session; }
ends() {
	tmux kill-server
	eventually server_gone
}

run() {
	local method=kqueue
	[ "$1" = kqueue ] || method=poll
	libevent_backend kqueue
	# Its own choice, but for kqueue.
	[ "$1" = kqueue ] || export EVENT_NOKQUEUE=1
	unset EVENT_NOPOLL
	export EVENT_SHOW_METHOD=1 SHELL=/bin/sh
	expect "starts" tmux new-session -d -s a -x 80 -y 24 'exec sh' 2>method
	expect "$method is used" grep -q "using: $method" method
	unset EVENT_SHOW_METHOD
	expect "what is typed" typed
	expect "much output" much_output
	expect "many windows" many_windows
	expect "windows end" windows_end
	expect "a pipe" piped
	expect "a channel" waits
	expect "a shell" shell
	expect "panes" panes
	expect "control mode" control
	expect "a terminal" terminal
	expect "ends" ends
}
