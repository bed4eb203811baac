/* SPDX-License-Identifier: GPL-2.0 */
/* The headers that Kbuild generates rust/bindings_generated.rs from. */
#include <linux/anon_inodes.h>
#include <linux/fprobe.h>
#include <linux/fsnotify_backend.h>
#include <linux/kqueue.h>
#include <linux/tty.h>
#include "helpers.h"
