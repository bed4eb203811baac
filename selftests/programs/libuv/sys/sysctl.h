/* SPDX-License-Identifier: GPL-2.0 */
/* libuv's files for kqueue include it, and use nothing of it. */
