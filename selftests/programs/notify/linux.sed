# SPDX-License-Identifier: GPL-2.0
# For the lists of systems in kqueue-sys and notify: Linux is where DragonFly is, whose struct kevent and constants are the same,
# and no longer where inotify is.
s/any(target_os = "linux", target_os = "android"/any(target_os = "android"/
s/any(target_os=\\"linux\\", target_os=\\"android\\")/any(target_os=\\"android\\")/
s/target_os = "dragonfly"/target_os = "dragonfly", target_os = "linux"/
s/target_os = \\"dragonflybsd\\"/target_os = \\"linux\\"/
s/#\[cfg(\(target_os = "dragonfly", target_os = "linux"\))\]/#[cfg(any(\1))]/
