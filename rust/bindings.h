/* SPDX-License-Identifier: GPL-2.0 */
/* The headers that Kbuild generates rust/bindings_generated.rs from. */
#include <linux/alarmtimer.h>
#include <linux/anon_inodes.h>
#include <linux/filelock.h>
#include <linux/fprobe.h>
#include <linux/fsnotify_backend.h>
#include <linux/kqueue.h>
#include <linux/pipe_fs_i.h>
#include <linux/tcp.h>
#include <linux/tty.h>
#include <net/af_unix.h>
#include <net/inet_connection_sock.h>
#include <net/sock.h>
#include "helpers.h"
#include "kqueue_trace.h"

/* The first fields of struct timerfd_ctx in fs/timerfd.c; see sys/file/timerfd.rs. */
struct kq_timerfd {
	union {
		struct hrtimer timer;
		struct alarm alarm;
	} t;
	ktime_t interval;
	ktime_t offset;
	wait_queue_head_t wqh;
	u64 ticks;
	int clockid;
};

/* The first fields of struct inotify_event_info in fs/notify/inotify; see sys/file/inotify.rs. */
struct kq_inotify_event {
	struct fsnotify_event event;
	u32 mask;
	int wd;
	u32 sync_cookie;
	u32 name_len;
};

/* The offsets of fields that Rust reads directly, in structures too large to be declared twice. */
enum kq_offset {
	KQ_SOCKET_SK = offsetof(struct socket, sk),
	KQ_SOCKET_WAIT = offsetof(struct socket, wq.wait),
	KQ_SOCK_FAMILY = offsetof(struct sock, sk_family),
	KQ_SOCK_TYPE = offsetof(struct sock, sk_type),
	KQ_SOCK_PROTOCOL = offsetof(struct sock, sk_protocol),
	KQ_SOCK_STATE = offsetof(struct sock, sk_state),
	KQ_SOCK_SHUTDOWN = offsetof(struct sock, sk_shutdown),
	KQ_SOCK_ERR = offsetof(struct sock, sk_err),
	KQ_SOCK_RCVLOWAT = offsetof(struct sock, sk_rcvlowat),
	KQ_SOCK_PROT = offsetof(struct sock, sk_prot),
	KQ_SOCK_RECEIVE_QUEUE = offsetof(struct sock, sk_receive_queue),
	KQ_PROTO_IS_READABLE = offsetof(struct proto, sock_is_readable),
	KQ_QUEUE_NEXT = offsetof(struct sk_buff_head, next),
	KQ_SKB_NEXT = offsetof(struct sk_buff, next),
	KQ_SKB_LEN = offsetof(struct sk_buff, len),
	KQ_QUEUE_LOCK = offsetof(struct sk_buff_head, lock),
	KQ_UNIX_INQ_LEN = offsetof(struct unix_sock, inq_len),
	KQ_TCP_RCV_NXT = offsetof(struct tcp_sock, rcv_nxt),
	KQ_TCP_COPIED_SEQ = offsetof(struct tcp_sock, copied_seq),
	KQ_TCP_ULP = offsetof(struct inet_connection_sock, icsk_ulp_ops),
	KQ_TCP_URG_DATA = offsetof(struct tcp_sock, urg_data),
	KQ_INODE_MODE = offsetof(struct inode, i_mode),
	KQ_INODE_PIPE = offsetof(struct inode, i_pipe),
	KQ_PIPE_RD_WAIT_LOCK = offsetof(struct pipe_inode_info, rd_wait.lock),
	KQ_PIPE_HEAD_TAIL = offsetof(struct pipe_inode_info, head_tail),
	KQ_PIPE_MAX_USAGE = offsetof(struct pipe_inode_info, max_usage),
	KQ_PIPE_RING_SIZE = offsetof(struct pipe_inode_info, ring_size),
	KQ_PIPE_READERS = offsetof(struct pipe_inode_info, readers),
	KQ_PIPE_WRITERS = offsetof(struct pipe_inode_info, writers),
	KQ_PIPE_W_COUNTER = offsetof(struct pipe_inode_info, w_counter),
	KQ_FILE_PIPE = offsetof(struct file, f_pipe),
	KQ_TIMERFD_WQH = offsetof(struct kq_timerfd, wqh),
	KQ_TIMERFD_TICKS = offsetof(struct kq_timerfd, ticks),
	KQ_TIMERFD_CLOCKID = offsetof(struct kq_timerfd, clockid),
	KQ_GROUP_LOCK = offsetof(struct fsnotify_group, notification_lock),
	KQ_GROUP_EVENTS = offsetof(struct fsnotify_group, notification_list),
	KQ_GROUP_OVERFLOW_EVENT = offsetof(struct fsnotify_group, overflow_event),
	KQ_INOTIFY_MASK = offsetof(struct kq_inotify_event, mask),
	KQ_INOTIFY_WD = offsetof(struct kq_inotify_event, wd),
	KQ_INOTIFY_NAME_LEN = offsetof(struct kq_inotify_event, name_len),
	KQ_PIPE_BUFS = offsetof(struct pipe_inode_info, bufs),
	KQ_PIPE_BUF_OFFSET = offsetof(struct pipe_buffer, offset),
	KQ_PIPE_BUF_LEN = offsetof(struct pipe_buffer, len),
	KQ_PIPE_BUF_SIZE = sizeof(struct pipe_buffer),
};
