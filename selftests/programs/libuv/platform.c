/* SPDX-License-Identifier: GPL-2.0 */
/* What libuv wants of each system: here that its loops wait on a kqueue. */
#include "uv.h"
#include "internal.h"

int uv__platform_loop_init(uv_loop_t *loop)
{
	return uv__kqueue_init(loop);
}

void uv__platform_loop_delete(uv_loop_t *loop)
{
	(void)loop;
}
