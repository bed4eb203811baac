/* SPDX-License-Identifier: GPL-2.0 */
/* Functions for Rust that wrap macros and inline functions of the kernel. */
#ifndef _KQUEUE_HELPERS_H
#define _KQUEUE_HELPERS_H

#include <linux/spinlock_types.h>
#include <linux/types.h>
#include <linux/unistd.h>

struct cred;
struct delayed_work;
struct file;
struct files_struct;
struct fprobe;
struct ftrace_regs;
struct fsnotify_iter_info;
struct fsnotify_mark;
struct inode;
struct irq_work;
struct kernel_siginfo;
struct kqueue_event;
struct linux_binprm;
struct mem_cgroup;
struct mnt_namespace;
struct mutex;
struct pid;
struct sk_buff;
struct sk_buff_head;
struct sock;
struct socket;
struct task_struct;
struct tty_struct;
struct user_namespace;
struct wait_queue_entry;
struct wait_queue_head;
struct work_struct;
struct workqueue_struct;

/* Module parameters, and functions that the limits depend on */
extern unsigned int kq_calloutmax;
extern unsigned int kq_max_user_timers;
extern unsigned int kq_max_user_knotes;
extern unsigned int kq_max_object_watches;
u64 kq_total_memory(void);
u32 kq_current_uid(void);
struct user_namespace *kq_current_user_ns(void);
bool kq_fatal_signal_pending(void);

/* Function entry probes and descriptor tables */
unsigned long kq_fprobe_address(struct fprobe *probe, unsigned int n);
unsigned long kq_ftrace_argument(struct ftrace_regs *regs, unsigned int n);
struct file *kq_files_lookup(struct files_struct *files, unsigned int fd);
int kq_files_users(struct files_struct *files);
bool kq_file_tryget(struct file *file);
unsigned long kq_file_count(struct file *file);

/* The system call of the current task, if it is a native one (not a compat system call) */
enum kq_call {
	KQ_CALL_CLOSE = __NR_close,
#ifdef __NR_dup2
	KQ_CALL_DUP2 = __NR_dup2,
#else
	KQ_CALL_DUP2 = __NR_dup3,
#endif
	KQ_CALL_DUP3 = __NR_dup3,
	KQ_CALL_CLOSE_RANGE = __NR_close_range,
};
bool kq_task_has_native_call(void);
bool kq_task_has_io_uring(void);
int kq_call_number(void);
unsigned long kq_call_argument(unsigned int n);

/*
 * Processes. The functions from kq_task_cred() to kq_process_wait_status() require an RCU
 * read-side critical section, or the wake-up of the process's exit.
 */
struct pid *kq_pid_get(struct pid *pid);
struct pid *kq_task_tgid(struct task_struct *task);
const struct cred *kq_current_cred_get(void);
bool kq_current_is_capable(struct user_namespace *ns, int cap);
const struct cred *kq_task_cred(struct task_struct *task);
struct kq_exec_rights {
	bool dumpable;	/* The owner of the process may observe it. */
	struct user_namespace *user_ns;
};
/* To be called after the credentials were read, as in __ptrace_may_access(). */
void kq_task_exec_rights(struct task_struct *task, struct kq_exec_rights *rights);
struct pid *kq_process_parent(struct task_struct *leader);
struct pid *kq_process_tracer(struct task_struct *leader);
bool kq_task_has_exited(struct task_struct *task);
/* To be called after kq_task_has_exited() was true. */
int kq_process_wait_status(struct task_struct *leader);
void kq_tracepoint_synchronize(void);

/* The types of the tracepoint callbacks */
typedef void (*kq_fork_probe)(void *data, struct task_struct *parent, struct task_struct *child);
typedef void (*kq_exec_probe)(void *data, struct task_struct *task, pid_t old_pid,
			      struct linux_binprm *program);
typedef void (*kq_signal_probe)(void *data, int number, struct kernel_siginfo *info,
				struct task_struct *task, int group, int result);

/* The memory cgroup that allocations are charged to */
struct mem_cgroup *kq_current_memcg_get(void);
void kq_memcg_put(struct mem_cgroup *memcg);
struct mem_cgroup *kq_set_active_memcg(struct mem_cgroup *memcg);

/* Inodes and file offsets */
bool kq_inode_is_anonymous(struct inode *inode);
bool kq_inode_is_in_pipefs(struct inode *inode);
bool kq_inode_has_no_pages(struct inode *inode);
bool kq_file_has_position_lock(struct file *file);
s64 kq_file_position(struct file *file);
s64 kq_inode_size(struct inode *inode);
struct kq_inode_look {
	s64 size;
	u32 links;
	bool dead;	/* True for a directory that was removed. */
};
void kq_inode_look(struct inode *inode, struct kq_inode_look *look);
bool kq_file_has_place(struct file *file);
int kq_file_may_read(struct file *file);

/* pidfds, mounts and mount namespaces */
struct pid *kq_file_pid(struct file *file);
bool kq_file_is_path(struct file *file);
bool kq_file_is_unmounted(struct file *file);
struct mnt_namespace *kq_current_mount_ns(void);
struct fsnotify_mark *kq_fsnotify_inode_mark(struct fsnotify_iter_info *iter);
struct fsnotify_mark *kq_fsnotify_mount_mark(struct fsnotify_iter_info *iter);
bool kq_fsnotify_mark_is_attached(struct fsnotify_mark *mark);

/* Locks, and the state of a waiting task */
int kq_mutex_lock_killable(struct mutex *lock);
void kq_raw_spin_lock_init(raw_spinlock_t *lock, const char *name, struct lock_class_key *key);
void kq_raw_spin_lock(raw_spinlock_t *lock);
bool kq_raw_spin_trylock(raw_spinlock_t *lock);
void kq_raw_spin_unlock(raw_spinlock_t *lock);
unsigned long kq_raw_spin_lock_irqsave(raw_spinlock_t *lock);
bool kq_raw_spin_trylock_irqsave(raw_spinlock_t *lock, unsigned long *flags);
void kq_raw_spin_unlock_irqrestore(raw_spinlock_t *lock, unsigned long flags);
void kq_raw_spin_assert_is_held(raw_spinlock_t *lock);
unsigned long kq_spin_lock_irqsave(spinlock_t *lock);
bool kq_spin_trylock_irqsave(spinlock_t *lock, unsigned long *flags);
void kq_spin_unlock_irqrestore(spinlock_t *lock, unsigned long flags);
bool kq_spin_trylock(spinlock_t *lock);
void kq_spin_unlock(spinlock_t *lock);
void kq_set_current_state(unsigned int state);

/* The size of a buffer for the name of a function */
#define KQ_SYMBOL_LEN 1024

/* Deferred work */
struct workqueue_struct *kq_alloc_workqueue(const char *name);
void kq_init_delayed_work(struct delayed_work *work, void (*fn)(struct work_struct *));
/*
 * A call that is made a moment later, outside of all locks. It is an irq_work. On a real-time kernel it
 * is a work item: an irq_work would run in a thread as well, and waiting for it would take an RCU grace
 * period. Its workqueue is not bound to the processor of the caller, which may be busy with a task of a
 * higher priority.
 */
#ifdef CONFIG_PREEMPT_RT
typedef struct work_struct kq_deferred_call;
#else
typedef struct irq_work kq_deferred_call;
#endif
void kq_deferred_call_init(kq_deferred_call *call, void (*fn)(kq_deferred_call *));
void kq_deferred_call_queue(kq_deferred_call *call);
void kq_deferred_call_wait(kq_deferred_call *call);

/* Sockets. None of these functions requires a lock. */
u32 kq_sock_accept_backlog(struct sock *sk);
u32 kq_sock_receive_queue_len(struct sock *sk);
int kq_sock_tcp_inq(struct sock *sk);
bool kq_sock_is_done(struct sock *sk);
bool kq_sock_is_readable(struct sock *sk);
int kq_sock_stream_wspace(struct sock *sk);
bool kq_sock_stream_is_writable(struct sock *sk);
bool kq_sock_unix_is_writable(struct sock *sk);
bool kq_unix_try_lock(struct sock *sk);
void kq_unix_unlock(struct sock *sk);
struct sock *kq_unix_peer(struct sock *sk);
u32 kq_sock_max_backlog(struct sock *sk);
bool kq_sock_is_writable(struct sock *sk);
int kq_sock_wspace(struct sock *sk);
void kq_sock_want_room(struct sock *sk);
u32 kq_sock_urgent_distance(struct sock *sk);

/* Queues of sockets. kq_skb_is_checked() requires the lock of the queue. */
struct sk_buff_head *kq_sock_receive_queue(struct sock *sk);
struct sk_buff_head *kq_sock_reader_queue(struct sock *sk);
bool kq_skb_is_checked(struct sk_buff *message);

/* Terminals */
struct tty_struct *kq_tty_of(struct file *file);

/*
 * Copies between the kernel and user space, four words at a time. For so few words this is faster
 * than a string instruction.
 */
int kq_copy_args_from_user(u64 *to, const u64 __user *from);
int kq_copy_event_from_user(u64 *to, const u64 __user *from);
int kq_copy_events_from_user(u64 *to, const u64 __user *from, unsigned int events);
int kq_get_user(u32 *to, const u32 __user *from);
int kq_put_user(u32 value, u32 __user *to);
int kq_copy_events_to_user_nofault(u64 __user *to, const u64 *from, unsigned int events);

/* Disabling page faults */
void kq_pagefault_disable(void);
void kq_pagefault_enable(void);

/* The tracepoints of the module (see kqueue_trace.h) */
void kq_trace_enter(const void *kq, u32 nchanges, u32 nevents);
void kq_trace_exit(const void *kq, s64 ret);
void kq_trace_attach(const void *kq, const struct kqueue_event *event);
void kq_trace_activate(const void *kq, u64 ident, s16 filter);
void kq_trace_deliver(const void *kq, const struct kqueue_event *event);
void kq_trace_detach(const void *kq, u64 ident, s16 filter);

#endif /* _KQUEUE_HELPERS_H */
