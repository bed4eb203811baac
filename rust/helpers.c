// SPDX-License-Identifier: GPL-2.0
/*
 * The kernel's macros and inline functions that Rust cannot call. A function
 * here is one expression of the kernel's; whatever decides is in Rust.
 */
#include <linux/fdtable.h>
#include <linux/file_ref.h>
#include <linux/fs.h>
#include <linux/fsnotify_backend.h>
#include <linux/ftrace.h>
#include <linux/irq_work.h>
#include <linux/kallsyms.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/mount.h>
#include <linux/mutex.h>
#include <linux/nsproxy.h>
#include <linux/pid.h>
#include <linux/pipe_fs_i.h>
#include <linux/sched/signal.h>
#include <linux/stringify.h>
#include <linux/tracepoint.h>
#include <linux/tty.h>
#include <linux/uaccess.h>
#include <linux/workqueue.h>
#include <net/af_unix.h>
#include <net/sock.h>
#include <net/tcp.h>
#include <net/udp.h>

#include "helpers.h"

static_assert(KQ_SYMBOL_LEN >= KSYM_SYMBOL_LEN);

/* Exported, but declared only in a header within net/unix. */
long unix_inq_len(struct sock *sk);

MODULE_VERSION(__stringify(KQUEUE_VERSION));

static unsigned int calloutmax = 4096;
module_param(calloutmax, uint, 0644);
MODULE_PARM_DESC(calloutmax, "most timers in the system (4096)");

static unsigned int max_user_knotes;
module_param(max_user_knotes, uint, 0644);
MODULE_PARM_DESC(max_user_knotes, "most knotes of one user's kqueues (what fits in 4% of memory)");

unsigned int kq_param_max_timers(void)
{
	return READ_ONCE(calloutmax);
}

unsigned int kq_param_max_user_knotes(void)
{
	return READ_ONCE(max_user_knotes);
}

void kq_param_set_max_user_knotes(unsigned int knotes)
{
	WRITE_ONCE(max_user_knotes, knotes);
}

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

u32 kq_current_euid(void)
{
	return __kuid_val(current_euid());
}

struct pid *kq_pid_get(struct pid *pid)
{
	return get_pid(pid);
}

struct pid *kq_task_tgid(struct task_struct *task)
{
	return task_tgid(task);
}

u32 kq_task_uid(struct task_struct *task)
{
	return __kuid_val(__task_cred(task)->uid);
}

u32 kq_task_suid(struct task_struct *task)
{
	return __kuid_val(__task_cred(task)->suid);
}

struct user_namespace *kq_task_user_ns(struct task_struct *task)
{
	return __task_cred(task)->user_ns;
}

bool kq_task_is_ours(struct task_struct *task)
{
	return same_thread_group(task, current) ||
	       same_thread_group(rcu_dereference(task->real_parent), current);
}

bool kq_process_has_exited(struct task_struct *leader)
{
	return READ_ONCE(leader->exit_state) && thread_group_empty(leader);
}

int kq_process_wait_status(struct task_struct *leader)
{
	return leader->signal->flags & SIGNAL_GROUP_EXIT ?
	       leader->signal->group_exit_code : leader->exit_code;
}

void kq_tracepoint_synchronize(void)
{
	tracepoint_synchronize_unregister();
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

bool kq_file_tryget(struct file *file)
{
	return file_ref_get(&file->f_ref);
}

unsigned long kq_file_count(struct file *file)
{
	return file_ref_read(&file->f_ref);
}

s64 kq_inode_size(struct inode *inode)
{
	return i_size_read(inode);
}

bool kq_inode_is_anonymous(struct inode *inode)
{
	return IS_ANON_FILE(inode);
}

bool kq_file_has_position_lock(struct file *file)
{
	return file->f_mode & FMODE_ATOMIC_POS;
}

s64 kq_file_position(struct file *file)
{
	return READ_ONCE(file->f_pos);
}

u32 kq_inode_links(struct inode *inode)
{
	return READ_ONCE(inode->i_nlink);
}

bool kq_inode_is_dead(struct inode *inode)
{
	return IS_DEADDIR(inode);
}

bool kq_inode_is_vnode(struct inode *inode)
{
	return inode->i_mode & S_IFMT && !S_ISSOCK(inode->i_mode);
}

bool kq_file_is_unmounted(struct file *file)
{
	return READ_ONCE(file->f_path.mnt->mnt_flags) & MNT_UMOUNT;
}

struct mnt_namespace *kq_current_mount_ns(void)
{
	return current->nsproxy ? current->nsproxy->mnt_ns : NULL;
}

struct fsnotify_mark *kq_fsnotify_mount_mark(struct fsnotify_iter_info *iter)
{
	return iter->marks[FSNOTIFY_ITER_TYPE_MNTNS];
}

int kq_mutex_lock_killable(struct mutex *lock)
{
	return mutex_lock_killable(lock);
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

struct workqueue_struct *kq_alloc_workqueue(const char *name)
{
	return alloc_workqueue("%s", WQ_UNBOUND, 0, name);
}

void kq_init_delayed_work(struct delayed_work *work, void (*fn)(struct work_struct *))
{
	INIT_DELAYED_WORK(work, fn);
}

void kq_init_irq_work(struct irq_work *work, void (*fn)(struct irq_work *))
{
	init_irq_work(work, fn);
}

bool kq_sock_is_tcp(struct sock *sk)
{
	return sk_is_tcp(sk);
}

bool kq_sock_is_udp(struct sock *sk)
{
	return sk_is_udp(sk);
}

bool kq_sock_is_unix(struct sock *sk)
{
	return sk_is_unix(sk);
}

u8 kq_sock_state(struct sock *sk)
{
	return READ_ONCE(sk->sk_state);
}

u16 kq_sock_type(struct sock *sk)
{
	return sk->sk_type;
}

u8 kq_sock_shutdown(struct sock *sk)
{
	return READ_ONCE(sk->sk_shutdown);
}

int kq_sock_low_water(struct sock *sk)
{
	return READ_ONCE(sk->sk_rcvlowat);
}

u32 kq_sock_accept_backlog(struct sock *sk)
{
	return READ_ONCE(sk->sk_ack_backlog);
}

u32 kq_sock_receive_queue_len(struct sock *sk)
{
	return skb_queue_len_lockless(&sk->sk_receive_queue);
}

int kq_sock_error(struct sock *sk)
{
	return READ_ONCE(sk->sk_err);
}

int kq_sock_tcp_inq(struct sock *sk)
{
	return tcp_inq(sk);
}

long kq_sock_unix_inq(struct sock *sk)
{
	return unix_inq_len(sk);
}

int kq_sock_stream_wspace(struct sock *sk)
{
	return sk_stream_wspace(sk);
}

int kq_sock_wspace(struct sock *sk)
{
	return READ_ONCE(sk->sk_sndbuf) - sk_wmem_alloc_get(sk);
}

void kq_sock_want_room(struct sock *sk)
{
	set_bit(SOCK_NOSPACE, &sk->sk_socket->flags);
}

u16 kq_sock_urgent(struct sock *sk)
{
	return READ_ONCE(tcp_sk(sk)->urg_data);
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

void kq_skb_queue_lock(struct sk_buff_head *queue)
{
	spin_lock_bh(&queue->lock);
}

void kq_skb_queue_unlock(struct sk_buff_head *queue)
{
	spin_unlock_bh(&queue->lock);
}

struct sk_buff *kq_skb_first(struct sk_buff_head *queue)
{
	return skb_peek(queue);
}

struct sk_buff *kq_skb_next(struct sk_buff_head *queue, struct sk_buff *skb)
{
	return skb_peek_next(skb, queue);
}

u32 kq_skb_len(struct sk_buff *skb)
{
	return skb->len;
}

struct pipe_inode_info *kq_pipe_of(struct file *file)
{
	struct inode *inode = file_inode(file);

	return S_ISFIFO(inode->i_mode) && file->private_data == inode->i_pipe ?
	       inode->i_pipe : NULL;
}

void kq_pipe_lock(struct pipe_inode_info *pipe)
{
	spin_lock_irq(&pipe->rd_wait.lock);
}

void kq_pipe_unlock(struct pipe_inode_info *pipe)
{
	spin_unlock_irq(&pipe->rd_wait.lock);
}

bool kq_pipe_has_reader(struct pipe_inode_info *pipe)
{
	return READ_ONCE(pipe->readers);
}

unsigned int kq_pipe_tail(struct pipe_inode_info *pipe)
{
	return READ_ONCE(pipe->tail);
}

unsigned int kq_pipe_used(struct pipe_inode_info *pipe)
{
	return pipe_occupancy(READ_ONCE(pipe->head), READ_ONCE(pipe->tail));
}

unsigned int kq_pipe_slots(struct pipe_inode_info *pipe)
{
	return READ_ONCE(pipe->max_usage);
}

unsigned int kq_pipe_len(struct pipe_inode_info *pipe, unsigned int slot)
{
	return READ_ONCE(pipe_buf(pipe, slot)->len);
}
