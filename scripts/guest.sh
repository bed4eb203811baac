#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# guest.sh KERNEL SECONDS OUT COMMAND...: boots a kernel under virtme-ng and runs the command in it
# as root. KERNEL is a build tree, or the directory of a distribution's kernel
# (usr/lib/modules/RELEASE, with vmlinuz and modules). The guest uses the file system of this
# machine, read-only except for the directory OUT. With KQUEUE_GUEST_ROOT=DIR it uses DIR as its root
# directory, which must contain the kernel and its modules, and OUT is /run/out there.
# KQUEUE_GUEST_ARCH is the architecture of KERNEL if it is not that of this machine, and
# KQUEUE_GUEST_APPEND is added to the command line of the kernel. Directories are mounted by 9p, or by
# virtiofs if KQUEUE_GUEST_VIRTIOFS=DIR is the directory of the program virtiofsd. The output of the
# command is printed. Fails if the command fails, if the time is over, if the guest dies, or if the
# kernel reports anything. The files output, dmesg and console remain in OUT.
source "$(dirname "$0")/common.sh"

tree=$1
limit=$2
out=$(mkdir -p "$3" && cd "$3" && pwd)
shift 3
memory=${KQUEUE_GUEST_MEMORY:-2G}
cpus=${KQUEUE_GUEST_CPUS:-2}
qemu=()
[ -z "${KQUEUE_GUEST_QEMU:-}" ] || qemu=("--qemu-opts=$KQUEUE_GUEST_QEMU")
directories=(--cwd "$top" --rwdir "$out")
main=("$top/scripts/guest-main.sh" "$out")
if [ -n "${KQUEUE_GUEST_ROOT:-}" ]; then
	directories=(--root "$KQUEUE_GUEST_ROOT" --cwd "$KQUEUE_GUEST_ROOT" --rwdir "/run/out=$out")
	cp "$top/scripts/guest-main.sh" "$out/"
	main=(/run/out/guest-main.sh /run/out)
fi
assignments=$("$top/scripts/toolchain.sh" --vng)
eval "$assignments"

rm -f "$out"/{output,status,dmesg,tainted,console}
: >"$out/output"
printf '%q ' "$@" >"$out/command"

machine=()
if [ -n "${KQUEUE_GUEST_ARCH:-}" ]; then
	machine=(--arch "$KQUEUE_GUEST_ARCH")
fi
image=$tree/vmlinuz
[ -f "$image" ] || image=$tree/$(make -s -C "$tree" image_name)
# virtme-ng would use virtiofs, and another machine, wherever virtiofsd is installed.
# By default 9p caches nothing, so each program is read again whenever it is started. The kernel uses the
# last rootflags of its command line. OUT is another mount, and is not cached.
mounts=(--force-9p --append "rootflags=version=9p2000.L,trans=virtio,access=any,msize=524288,cache=loose")
[ -z "${KQUEUE_GUEST_VIRTIOFS:-}" ] || mounts=(--disable-microvm)
accelerator=()
[ ${#machine[@]} = 0 ] && has_kvm || accelerator=(--disable-kvm)

tail -n +1 -s 0.2 -f "$out/output" &
tail_pid=$!
set +e
# no5lvl: with five levels of page tables KASAN regards every access as wild if an interrupt occurs
# at boot between the point where the kernel clears the capabilities of the boot processor and the
# point where it detects them again. Kernels of other architectures than x86 ignore this word.
PATH=${VNG%/vng}:${KQUEUE_GUEST_VIRTIOFS:+$KQUEUE_GUEST_VIRTIOFS:}$PATH timeout -k 10 "$limit" \
	"$VNG" --run "$image" "${machine[@]}" "${mounts[@]}" "${accelerator[@]}" "${qemu[@]}" \
	--cpus "$cpus" --memory "$memory" --user root "${directories[@]}" \
	--append loglevel=7 --append ignore_loglevel --append kunit.enable=0 --append no5lvl \
	${KQUEUE_GUEST_APPEND:+--append "$KQUEUE_GUEST_APPEND"} --verbose \
	--exec "${main[*]}" </dev/null >"$out/console" 2>&1
code=$?
set -e
sleep 0.5
kill "$tail_pid"
wait "$tail_pid" 2>/dev/null || true

failed=0
complain() {
	printf 'guest: %s\n' "$*"
	failed=1
}
last_lines() { tail -n 25 "$out/console" | sed 's/^/  | /'; }

if [ "$code" = 124 ] || [ "$code" = 137 ]; then
	complain "no end after $limit seconds; the console's last lines:"
	last_lines
elif [ ! -f "$out/status" ]; then
	complain "the guest died; the console's last lines:"
	last_lines
elif [ "$(cat "$out/status")" != 0 ]; then
	complain "the command failed with status $(cat "$out/status")"
fi

# Patterns of the kernel's reports of faults.
reports='WARNING: |BUG: |BUG kmalloc|Oops|KASAN|UBSAN|KFENCE|ODEBUG|kernel BUG at|cut here'
reports+='|general protection fault|Kernel panic|unable to handle|refcount_t: |list_(add|del) corruption'
reports+='|possible (recursive|circular)|possible irq lock inversion|inconsistent lock state|lock held when|bad unlock balance'
reports+='|suspicious RCU usage|rcu.*(stall|self-detected)|sleeping function called|scheduling while atomic'
reports+='|DEBUG_LOCKS_WARN|task .* blocked for more than|soft lockup|hard LOCKUP|MAX_LOCKDEP_[A-Z]* too low|lockdep is turned off'
reports+='|unreferenced object|new suspected memory leaks|Objects remaining|bad page state|double free'
touch "$out/dmesg"
# heard FILE: prints the log without the data races of the kernel itself, and without the messages of
# the init program of virtme-ng, which warns about programs that the root directory lacks.
heard() { awk -f "$top/scripts/kcsan-filter.awk" "$1" | sed '/virtme-ng-init: /d'; }
if heard "$out/dmesg" | grep -E "$reports" >/dev/null || heard "$out/console" | grep -E "$reports" >/dev/null; then
	complain "the kernel reports:"
	heard "$out/dmesg" | grep -a -E -m 1 -A 60 "$reports" | sed 's/^/  | /' || true
	[ -s "$out/dmesg" ] || heard "$out/console" | grep -a -E -m 1 -A 60 "$reports" | sed 's/^/  | /' || true
fi
# The taints of an out-of-tree module (bit 12) that is not signed (bit 13) are expected.
tainted=$(cat "$out/tainted" 2>/dev/null || echo 0)
if [ $((tainted & ~(1 << 12 | 1 << 13))) != 0 ]; then
	complain "the kernel is tainted: $tainted (Documentation/admin-guide/tainted-kernels.rst)"
fi
exit "$failed"
