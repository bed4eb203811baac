// SPDX-License-Identifier: GPL-2.0
/*
 * Wrappers for macros and inline functions of the kernel, which Rust cannot call directly. Each
 * function evaluates one expression of the kernel. All decisions are made in Rust.
 */
#include <linux/capability.h>
#include <linux/compat.h>
#include <linux/cred.h>
#include <linux/fdtable.h>
#include <linux/file.h>
#include <linux/file_ref.h>
#include <linux/filelock.h>
#include <linux/fprobe.h>
#include <linux/fs.h>
#include <linux/fsnotify_backend.h>
#include <linux/ftrace.h>
#include <linux/inotify.h>
#include <linux/irq_work.h>
#include <linux/kallsyms.h>
#include <linux/kqueue.h>
#include <linux/magic.h>
#include <linux/memcontrol.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/mount.h>
#include <linux/mutex.h>
#include <linux/nsproxy.h>
#include <linux/pid.h>
#include <linux/pipe_fs_i.h>
#include <linux/sched/exec_state.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/spinlock.h>
#include <linux/stringify.h>
#include <linux/tracepoint.h>
#include <linux/tty.h>
#include <linux/uaccess.h>
#include <linux/user_namespace.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <asm/syscall.h>
#include <net/af_unix.h>
#include <net/sock.h>
#include <net/tcp.h>
#include <net/udp.h>
#include <trace/events/sched.h>
#include <trace/events/signal.h>

#include "helpers.h"

static_assert(KQ_SYMBOL_LEN >= KSYM_SYMBOL_LEN);

/* The types that rust/sys assumes for the fields of enum kq_offset */
#define KQ_FIELD_IS(type, structure, field) \
	static_assert(__same_type(typeof_member(struct structure, field), type))
KQ_FIELD_IS(struct sock *, socket, sk);
KQ_FIELD_IS(wait_queue_head_t, socket, wq.wait);
KQ_FIELD_IS(unsigned short, sock, sk_family);
KQ_FIELD_IS(u16, sock, sk_type);
KQ_FIELD_IS(u16, sock, sk_protocol);
KQ_FIELD_IS(volatile unsigned char, sock, sk_state);
KQ_FIELD_IS(u8, sock, sk_shutdown);
KQ_FIELD_IS(int, sock, sk_err);
KQ_FIELD_IS(int, sock, sk_rcvlowat);
KQ_FIELD_IS(struct proto *, sock, sk_prot);
KQ_FIELD_IS(struct sk_buff_head, sock, sk_receive_queue);
KQ_FIELD_IS(struct sk_buff *, sk_buff_head, next);
KQ_FIELD_IS(spinlock_t, sk_buff_head, lock);
KQ_FIELD_IS(struct sk_buff *, sk_buff, next);
KQ_FIELD_IS(unsigned int, sk_buff, len);
KQ_FIELD_IS(int, unix_sock, inq_len);
KQ_FIELD_IS(u32, tcp_sock, rcv_nxt);
KQ_FIELD_IS(u32, tcp_sock, copied_seq);
KQ_FIELD_IS(u16, tcp_sock, urg_data);
KQ_FIELD_IS(const struct tcp_ulp_ops *, inet_connection_sock, icsk_ulp_ops);
KQ_FIELD_IS(umode_t, inode, i_mode);
static_assert(sizeof(umode_t) == sizeof(u16));
KQ_FIELD_IS(struct pipe_inode_info *, inode, i_pipe);
KQ_FIELD_IS(spinlock_t, pipe_inode_info, rd_wait.lock);
KQ_FIELD_IS(unsigned long, pipe_inode_info, head_tail);
static_assert(2 * sizeof(pipe_index_t) == sizeof(u64));
KQ_FIELD_IS(unsigned int, pipe_inode_info, max_usage);
KQ_FIELD_IS(unsigned int, pipe_inode_info, ring_size);
KQ_FIELD_IS(unsigned int, pipe_inode_info, readers);
KQ_FIELD_IS(unsigned int, pipe_inode_info, writers);
KQ_FIELD_IS(unsigned int, pipe_inode_info, w_counter);
KQ_FIELD_IS(u64, file, f_pipe);
KQ_FIELD_IS(struct pipe_buffer *, pipe_inode_info, bufs);
KQ_FIELD_IS(unsigned int, pipe_buffer, offset);
KQ_FIELD_IS(unsigned int, pipe_buffer, len);
KQ_FIELD_IS(spinlock_t, fsnotify_group, notification_lock);
KQ_FIELD_IS(struct list_head, fsnotify_group, notification_list);
KQ_FIELD_IS(struct fsnotify_event *, fsnotify_group, overflow_event);
static_assert(offsetof(struct fsnotify_event, list) == 0);

/* Constants that rust/sys/file/socket/ repeats */
static_assert(TCP_ESTABLISHED == 1 && TCP_CLOSE == 7 && TCP_CLOSE_WAIT == 8 && TCP_LISTEN == 10);
static_assert(RCV_SHUTDOWN == 1 && SEND_SHUTDOWN == 2 && TCP_URG_VALID == 0x0100);
static_assert(SOCK_STREAM == 1 && SOCK_DGRAM == 2 && SOCK_RAW == 3 && SOCK_SEQPACKET == 5);
static_assert(AF_UNIX == 1 && AF_INET == 2 && AF_INET6 == 10);
static_assert(AF_NETLINK == 16 && AF_PACKET == 17);
static_assert(IPPROTO_ICMP == 1 && IPPROTO_TCP == 6 && IPPROTO_UDP == 17 && IPPROTO_ICMPV6 == 58);
static_assert(IPPROTO_MPTCP == 262);
/* Constants that rust/sys/file/signalfd.rs and rust/sys/file/inotify.rs repeat */
static_assert(SA_IMMUTABLE == 0x00800000);
static_assert(sizeof(struct inotify_event) == 16 && FS_Q_OVERFLOW == 0x4000);
/* Constants that rust/sys/file/pipe.rs repeats */
static_assert(S_IFMT == 0170000 && S_IFIFO == 0010000);
/* The types of the tracepoint callbacks, and of the functions that are probed */
#define KQ_TRACEPOINT_CALLS(name, probe) \
	static_assert(__same_type(check_trace_callback_type_##name, void (probe)))
KQ_TRACEPOINT_CALLS(sched_process_fork, kq_fork_probe);
KQ_TRACEPOINT_CALLS(sched_process_exec, kq_exec_probe);
KQ_TRACEPOINT_CALLS(signal_generate, kq_signal_probe);
static_assert(__same_type(locks_remove_posix, void (struct file *, fl_owner_t)));
static_assert(__same_type(__f_unlock_pos, void (struct file *)));
static_assert(__same_type(typeof_member(struct file_operations, llseek),
			  loff_t (*)(struct file *, loff_t, int)));

MODULE_VERSION(__stringify(KQUEUE_VERSION));

unsigned int kq_calloutmax = 65536;
module_param_named(calloutmax, kq_calloutmax, uint, 0644);
MODULE_PARM_DESC(calloutmax, "maximum number of timers in the system (default 65536)");

unsigned int kq_max_user_timers = 4096;
module_param_named(max_user_timers, kq_max_user_timers, uint, 0644);
MODULE_PARM_DESC(max_user_timers, "maximum number of timers of one user (default 4096)");

unsigned int kq_max_user_knotes;
module_param_named(max_user_knotes, kq_max_user_knotes, uint, 0644);
MODULE_PARM_DESC(max_user_knotes,
		 "maximum number of knotes of one user (default: as many as fit in 4% of memory)");

unsigned int kq_max_object_watches = 128;
module_param_named(max_object_watches, kq_max_object_watches, uint, 0644);
MODULE_PARM_DESC(max_object_watches,
		 "maximum number of watches of one user on one object (default 128)");

u64 kq_total_memory(void)
{
	return (u64)totalram_pages() << PAGE_SHIFT;
}

bool kq_fatal_signal_pending(void)
{
	return fatal_signal_pending(current);
}

u32 kq_current_uid(void)
{
	return __kuid_val(current_uid());
}

struct user_namespace *kq_current_user_ns(void)
{
	return current_user_ns();
}

struct pid *kq_pid_get(struct pid *pid)
{
	return get_pid(pid);
}

struct pid *kq_task_tgid(struct task_struct *task)
{
	return task_tgid(task);
}

const struct cred *kq_current_cred_get(void)
{
	return get_current_cred();
}

bool kq_current_is_capable(struct user_namespace *ns, int cap)
{
	return ns_capable_noaudit(ns, cap);
}

const struct cred *kq_task_cred(struct task_struct *task)
{
	return __task_cred(task);
}

void kq_task_exec_rights(struct task_struct *task, struct kq_exec_rights *rights)
{
	const struct task_exec_state *state;

	/* Pairs with the smp_wmb() of commit_creds(), as in __ptrace_may_access() */
	smp_rmb();
	state = rcu_dereference(task->exec_state);
	*rights = (struct kq_exec_rights) {
		.dumpable = READ_ONCE(state->dumpable) == TASK_DUMPABLE_OWNER,
		.user_ns = state->user_ns,
	};
}

struct pid *kq_process_parent(struct task_struct *leader)
{
	return task_tgid(rcu_dereference_raw(leader->real_parent));
}

struct pid *kq_process_tracer(struct task_struct *leader)
{
	return READ_ONCE(leader->ptrace) ? task_tgid(rcu_dereference_raw(leader->parent)) : NULL;
}

/* The condition of pidfd_poll() */
bool kq_task_has_exited(struct task_struct *task)
{
	return READ_ONCE(task->exit_state) && !delay_group_leader(task);
}

int kq_process_wait_status(struct task_struct *leader)
{
	/*
	 * Pairs with the release of siglock, under which the exit code was stored. What
	 * kq_task_has_exited() has read changed after that.
	 */
	smp_rmb();
	return leader->signal->flags & SIGNAL_GROUP_EXIT ?
	       leader->signal->group_exit_code : leader->exit_code;
}

struct mem_cgroup *kq_current_memcg_get(void)
{
	return get_mem_cgroup_from_mm(current->mm);
}

void kq_memcg_put(struct mem_cgroup *memcg)
{
	mem_cgroup_put(memcg);
}

struct mem_cgroup *kq_set_active_memcg(struct mem_cgroup *memcg)
{
	return set_active_memcg(memcg);
}

void kq_tracepoint_synchronize(void)
{
	tracepoint_synchronize_unregister();
}

unsigned long kq_fprobe_address(struct fprobe *probe, unsigned int n)
{
	return probe->hlist_array->array[n].addr;
}

unsigned long kq_ftrace_argument(struct ftrace_regs *regs, unsigned int n)
{
	return ftrace_regs_get_argument(regs, n);
}

struct file *kq_files_lookup(struct files_struct *files, unsigned int fd)
{
	return files_lookup_fd_raw(files, fd);
}

int kq_files_users(struct files_struct *files)
{
	return atomic_read(&files->count);
}

bool kq_task_has_native_call(void)
{
	return !(current->flags & (PF_KTHREAD | PF_USER_WORKER)) && !in_compat_syscall();
}

bool kq_task_has_io_uring(void)
{
#ifdef CONFIG_IO_URING
	return current->io_uring;
#else
	return false;
#endif
}

int kq_call_number(void)
{
	return syscall_get_nr(current, current_pt_regs());
}

unsigned long kq_call_argument(unsigned int n)
{
	unsigned long arguments[6];

	syscall_get_arguments(current, current_pt_regs(), arguments);
	return arguments[n];
}

bool kq_file_tryget(struct file *file)
{
	return file_ref_get(&file->f_ref);
}

unsigned long kq_file_count(struct file *file)
{
	return file_ref_read(&file->f_ref);
}

/*
 * The functions below use data_race(READ_ONCE()), as rust/sys/memory/field.rs does. The owner of
 * such a word changes it by a plain read-modify-write under a lock that the reader does not take.
 */
s64 kq_inode_size(struct inode *inode)
{
	return i_size_read(inode);
}

void kq_inode_look(struct inode *inode, struct kq_inode_look *look)
{
	*look = (struct kq_inode_look) {
		.size = i_size_read(inode),
		.links = data_race(READ_ONCE(inode->i_nlink)),
		.dead = data_race(READ_ONCE(inode->i_flags)) & S_DEAD,
	};
}

bool kq_inode_is_anonymous(struct inode *inode)
{
	return IS_ANON_FILE(inode);
}

bool kq_inode_is_in_pipefs(struct inode *inode)
{
	return inode->i_sb->s_magic == PIPEFS_MAGIC;
}

bool kq_inode_has_no_pages(struct inode *inode)
{
	return inode->i_mapping->a_ops == &empty_aops;
}

bool kq_file_has_position_lock(struct file *file)
{
	return file->f_mode & FMODE_ATOMIC_POS;
}

s64 kq_file_position(struct file *file)
{
	return READ_ONCE(file->f_pos);
}

bool kq_file_has_place(struct file *file)
{
	const struct inode *inode = file_inode(file);
	umode_t mode = READ_ONCE(inode->i_mode);

	return mode & S_IFMT &&
	       !(data_race(READ_ONCE(file->f_path.mnt->mnt_flags)) & MNT_INTERNAL) &&
	       !(data_race(READ_ONCE(inode->i_sb->s_flags)) & SB_NOUSER) &&
	       inode->i_sb->s_magic != NSFS_MAGIC;
}

int kq_file_may_read(struct file *file)
{
	return inode_permission(file_mnt_idmap(file), file_inode(file), MAY_READ);
}

struct pid *kq_file_pid(struct file *file)
{
	const struct inode *inode = file_inode(file);

	return inode->i_sb->s_magic == PID_FS_MAGIC && S_ISREG(inode->i_mode) ? inode->i_private : NULL;
}

bool kq_file_is_path(struct file *file)
{
	return file->f_mode & FMODE_PATH;
}

bool kq_file_is_unmounted(struct file *file)
{
	return data_race(READ_ONCE(file->f_path.mnt->mnt_flags)) & MNT_UMOUNT;
}

struct mnt_namespace *kq_current_mount_ns(void)
{
	return current->nsproxy ? current->nsproxy->mnt_ns : NULL;
}

struct fsnotify_mark *kq_fsnotify_inode_mark(struct fsnotify_iter_info *iter)
{
	return fsnotify_iter_inode_mark(iter);
}

struct fsnotify_mark *kq_fsnotify_mount_mark(struct fsnotify_iter_info *iter)
{
	return fsnotify_iter_mark(iter, FSNOTIFY_ITER_TYPE_MNTNS);
}

bool kq_fsnotify_mark_is_attached(struct fsnotify_mark *mark)
{
	return data_race(READ_ONCE(mark->flags)) & FSNOTIFY_MARK_FLAG_ATTACHED;
}

int kq_mutex_lock_killable(struct mutex *lock)
{
	return mutex_lock_killable(lock);
}

void kq_raw_spin_lock_init(raw_spinlock_t *lock, const char *name, struct lock_class_key *key)
{
#ifdef CONFIG_DEBUG_SPINLOCK
	__raw_spin_lock_init(lock, name, key, LD_WAIT_SPIN);
#else
	raw_spin_lock_init(lock);
#endif
}

void kq_raw_spin_lock(raw_spinlock_t *lock)
{
	raw_spin_lock(lock);
}

bool kq_raw_spin_trylock(raw_spinlock_t *lock)
{
	return raw_spin_trylock(lock);
}

void kq_raw_spin_unlock(raw_spinlock_t *lock)
{
	raw_spin_unlock(lock);
}

unsigned long kq_raw_spin_lock_irqsave(raw_spinlock_t *lock)
{
	unsigned long flags;

	raw_spin_lock_irqsave(lock, flags);
	return flags;
}

bool kq_raw_spin_trylock_irqsave(raw_spinlock_t *lock, unsigned long *flags)
{
	return raw_spin_trylock_irqsave(lock, *flags);
}

void kq_raw_spin_unlock_irqrestore(raw_spinlock_t *lock, unsigned long flags)
{
	raw_spin_unlock_irqrestore(lock, flags);
}

void kq_raw_spin_assert_is_held(raw_spinlock_t *lock)
{
	lockdep_assert_held(lock);
}

unsigned long kq_spin_lock_irqsave(spinlock_t *lock)
{
	unsigned long flags;

	spin_lock_irqsave(lock, flags);
	return flags;
}

bool kq_spin_trylock_irqsave(spinlock_t *lock, unsigned long *flags)
{
	return spin_trylock_irqsave(lock, *flags);
}

void kq_spin_unlock_irqrestore(spinlock_t *lock, unsigned long flags)
{
	spin_unlock_irqrestore(lock, flags);
}

bool kq_spin_trylock(spinlock_t *lock)
{
	return spin_trylock(lock);
}

void kq_spin_unlock(spinlock_t *lock)
{
	spin_unlock(lock);
}

void kq_set_current_state(unsigned int state)
{
	__set_current_state(state);
}

struct tty_struct *kq_tty_of(struct file *file)
{
	return ((struct tty_file_private *)file->private_data)->tty;
}

void kq_pagefault_disable(void)
{
	pagefault_disable();
}

void kq_pagefault_enable(void)
{
	pagefault_enable();
}

int kq_get_user(u32 *to, const u32 __user *from)
{
	return get_user(*to, from);
}

int kq_put_user(u32 value, u32 __user *to)
{
	return put_user(value, to);
}

static_assert(sizeof(struct kqueue_event) == 4 * sizeof(u64));
#define KQ_GET_FOUR(to, from, label)				\
do {								\
	unsafe_get_user((to)[0], (from), label);		\
	unsafe_get_user((to)[1], (from) + 1, label);		\
	unsafe_get_user((to)[2], (from) + 2, label);		\
	unsafe_get_user((to)[3], (from) + 3, label);		\
} while (0)

#define KQ_PUT_FOUR(from, to, label)				\
do {								\
	unsafe_put_user((from)[0], to, label);			\
	unsafe_put_user((from)[1], (to) + 1, label);		\
	unsafe_put_user((from)[2], (to) + 2, label);		\
	unsafe_put_user((from)[3], (to) + 3, label);		\
} while (0)

int kq_copy_events_from_user(u64 *to, const u64 __user *from, unsigned int events)
{
	const u64 *end = to + 4 * events;

	if (!user_read_access_begin(from, (size_t)events * 4 * sizeof(*from)))
		return -EFAULT;
	for (; to != end; to += 4, from += 4)
		KQ_GET_FOUR(to, from, fault);
	user_read_access_end();
	return 0;
fault:
	user_read_access_end();
	return -EFAULT;
}

int kq_copy_event_from_user(u64 *to, const u64 __user *from)
{
	if (!user_read_access_begin(from, 4 * sizeof(*from)))
		return -EFAULT;
	KQ_GET_FOUR(to, from, fault);
	user_read_access_end();
	return 0;
fault:
	user_read_access_end();
	return -EFAULT;
}

static_assert(sizeof(struct kqueue_kevent) == 8 * sizeof(u64));
int kq_copy_args_from_user(u64 *to, const u64 __user *from)
{
	if (!user_read_access_begin(from, 8 * sizeof(*from)))
		return -EFAULT;
	KQ_GET_FOUR(to, from, fault);
	KQ_GET_FOUR(to + 4, from + 4, fault);
	user_read_access_end();
	return 0;
fault:
	user_read_access_end();
	return -EFAULT;
}

int kq_copy_events_to_user_nofault(u64 __user *to, const u64 *from, unsigned int events)
{
	const u64 *end = from + 4 * events;

	pagefault_disable();
	if (!user_write_access_begin(to, (size_t)events * 4 * sizeof(*to)))
		goto out;
	for (; from != end; from += 4, to += 4) {
		/* Otherwise the compiler keeps one pointer for each word. */
		OPTIMIZER_HIDE_VAR(to);
		KQ_PUT_FOUR(from, to, fault);
	}
	user_write_access_end();
	pagefault_enable();
	return 0;
fault:
	user_write_access_end();
out:
	pagefault_enable();
	return -EFAULT;
}

struct workqueue_struct *kq_alloc_workqueue(const char *name)
{
	return alloc_workqueue("%s", WQ_UNBOUND, 0, name);
}

void kq_init_delayed_work(struct delayed_work *work, void (*fn)(struct work_struct *))
{
	INIT_DELAYED_WORK(work, fn);
}

#ifdef CONFIG_PREEMPT_RT
void kq_deferred_call_init(kq_deferred_call *call, void (*fn)(kq_deferred_call *))
{
	INIT_WORK(call, fn);
}

void kq_deferred_call_queue(kq_deferred_call *call)
{
	queue_work(system_dfl_wq, call);
}

void kq_deferred_call_wait(kq_deferred_call *call)
{
	cancel_work_sync(call);
}
#else
void kq_deferred_call_init(kq_deferred_call *call, void (*fn)(kq_deferred_call *))
{
	init_irq_work(call, fn);
}

void kq_deferred_call_queue(kq_deferred_call *call)
{
	irq_work_queue(call);
}

void kq_deferred_call_wait(kq_deferred_call *call)
{
	irq_work_sync(call);
}
#endif

u32 kq_sock_accept_backlog(struct sock *sk)
{
	return READ_ONCE(sk->sk_ack_backlog);
}

u32 kq_sock_receive_queue_len(struct sock *sk)
{
	return skb_queue_len_lockless(&sk->sk_receive_queue);
}

/* Called without the socket lock. Data that arrives or is read meanwhile may or may not count. */
int kq_sock_tcp_inq(struct sock *sk)
{
	return data_race(tcp_inq(sk));
}

bool kq_sock_is_done(struct sock *sk)
{
	return sock_flag(sk, SOCK_DONE);
}

bool kq_sock_is_readable(struct sock *sk)
{
	return sk_is_readable(sk);
}

int kq_sock_stream_wspace(struct sock *sk)
{
	return sk_stream_wspace(sk);
}

bool kq_sock_stream_is_writable(struct sock *sk)
{
	return sk_stream_is_writeable(sk);
}

/* The condition of unix_writable() */
bool kq_sock_unix_is_writable(struct sock *sk)
{
	return (refcount_read(&sk->sk_wmem_alloc) << 2) <= READ_ONCE(sk->sk_sndbuf);
}

/* unix_state_lock() */
bool kq_unix_try_lock(struct sock *sk)
{
	return spin_trylock(&unix_sk(sk)->lock);
}

void kq_unix_unlock(struct sock *sk)
{
	unix_state_unlock(sk);
}

struct sock *kq_unix_peer(struct sock *sk)
{
	return READ_ONCE(unix_peer(sk));
}

u32 kq_sock_max_backlog(struct sock *sk)
{
	return READ_ONCE(sk->sk_max_ack_backlog);
}

bool kq_sock_is_writable(struct sock *sk)
{
	return sock_writeable(sk);
}

int kq_sock_wspace(struct sock *sk)
{
	return READ_ONCE(sk->sk_sndbuf) - sk_wmem_alloc_get(sk);
}

void kq_sock_want_room(struct sock *sk)
{
	set_bit(SOCK_NOSPACE, &sk->sk_socket->flags);
}

u32 kq_sock_urgent_distance(struct sock *sk)
{
	return READ_ONCE(tcp_sk(sk)->urg_seq) - READ_ONCE(tcp_sk(sk)->copied_seq);
}

struct sk_buff_head *kq_sock_receive_queue(struct sock *sk)
{
	return &sk->sk_receive_queue;
}

struct sk_buff_head *kq_sock_reader_queue(struct sock *sk)
{
	return &udp_sk(sk)->reader_queue;
}

bool kq_skb_is_checked(struct sk_buff *message)
{
	return skb_csum_unnecessary(message);
}
