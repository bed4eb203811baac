/* SPDX-License-Identifier: GPL-2.0 */
/* What libuv takes on a system with nothing special: here its own for those that have kqueue. */
#include "uv/bsd.h"
