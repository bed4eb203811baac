# SPDX-License-Identifier: GPL-2.0
# For mio's sys/unix/mod.rs, selector/kqueue.rs and waker/selector.rs: Linux is where DragonFly is, whose struct kevent has the
# same layout, and no longer where epoll and eventfd are.
/^ *target_os = "linux",$/d
s/target_os = "dragonfly"/target_os = "dragonfly", target_os = "linux"/
s/#\[cfg(\(target_os = "dragonfly", target_os = "linux"\))\]/#[cfg(any(\1))]/
s/^    use super::{Filter, Flags};/    use super::{libc, Filter, Flags};/
s/^type UData = /#[path = "libc.rs"]\n#[allow(dead_code)]\nmod libc;\n&/
