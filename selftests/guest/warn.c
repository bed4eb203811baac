// SPDX-License-Identifier: GPL-2.0
/*
 * Provokes a warning when it is loaded: the guest runner must see it.
 */
#include <linux/bug.h>
#include <linux/module.h>

static int __init warn_init(void)
{
	WARN(1, "provoked by the test of the guest runner\n");
	return 0;
}

static void __exit warn_exit(void)
{
}

module_init(warn_init);
module_exit(warn_exit);

MODULE_DESCRIPTION("Provokes a warning");
MODULE_LICENSE("GPL");
