// SPDX-License-Identifier: GPL-2.0

//! kqueue: the BSD event interface.
//!
//! `/dev/kqueue` is a misc device. Each open file of it is a [`Kqueue`], and one ioctl is
//! `kevent()`. `Documentation/design.md` shows the layers of the crate and the path of a call and
//! of an event. This page lists what the code relies on.
//!
//! # Vocabulary
//!
//! - *change*: one `struct kevent` that a program passes to kevent()
//! - *knote*: one registered event, unique in its kqueue by (ident, filter). (There is one
//!   exception. If the PID of a process that has ended is used again, the old knote stays beside
//!   the new one until its exit has been reported.)
//! - *filter*: defines what one kind of event source means by "ready" and by `data`; a row of the
//!   table of filters (`filter`)
//! - *source*: what a knote watches, for instance a file, a process or a timer
//! - *attachment*: the state that a filter keeps for a knote while it is attached to its source.
//!   Dropping it detaches the knote. A knote that needs only the fields of its own structure has no
//!   attachment.
//! - *table*: the hash table of a kqueue's knotes. The rows of all filters are always called the
//!   *table of filters*. The table of a process's descriptors (`files_struct`) is always called the
//!   *descriptor table*, in names `fd_table`.
//! - *register*: apply a change, which adds, modifies or deletes a knote
//! - *attach, detach*: connect a knote with its event source, and disconnect it
//! - *fire*: a source fires when something happens to it that may make the knote ready
//! - *active*: a bit in the state of a knote. It says that the knote may be ready.
//! - *activate*: mark a knote active, because its source fired or a change requires an evaluation,
//!   and put it into the ready list unless it is disabled or queued already
//! - *ready list*: the knotes that are queued, in the order in which they are reported
//! - *pending*: in the ready list, or in flight
//! - *in flight*: taken off the ready list into a batch by a scan that has neither requeued nor
//!   removed the knote yet
//! - *scan*: go through the ready list, evaluate the knotes and deliver events
//! - *evaluate*: determine whether a knote is ready, and what it has to report. Either the *fast
//!   path* does that under the spin lock, or the filter's `event` function, which may sleep.
//! - *walk*: a part of a scan that evaluates at most 64 knotes by the fast path
//! - *batch*: knotes that a scan has taken off the ready list to run their `event` functions
//! - *deliver*: copy an event to the program. A knote *has been reported* when its event has been
//!   delivered.
//! - *sink*: where a scan delivers events, that is, the event list of a kevent() call
//! - *requeue*: put a knote back into the ready list after a scan has evaluated it
//! - *recheck*: evaluate a knote again after some time, because its source may not fire
//! - *spend*: when a walk finds a one-shot knote ready, hide it from the program as if it were
//!   deleted, but keep it in the table, so that the next `EV_ADD` can use it again
//! - *renew*: make a spent knote an ordinary one again, for the next `EV_ADD` or because its event
//!   could not be delivered
//! - *retire*: take a knote off the ready list for good
//! - *remove*: take a retired knote out of the table and detach it
//! - *bind*: tie a knote to one descriptor, that is, to a descriptor table and a number in it, so
//!   that closing the descriptor ends the knote
//! - *deferred knote*: a knote that the fork probe has made for a child, and that is not in the
//!   table yet
//! - *watch* (of a probe): the request to be notified of what the probe observes of one object. The
//!   watches of a probe are in several *shards*, each of which has a lock.
//! - *sleeper*: a task that waits in kevent()
//! - *poller*: a task that waits in poll(2), select(2) or epoll_wait(2) for a kqueue to become
//!   readable
//! - *bystander*: a task that uses no kqueue itself, but is observed by a probe or a hook of the
//!   module
//!
//! # Locking
//!
//! The order, from the outermost to the innermost lock:
//!
//! 1. `Locks::knotes`, the mutex of a kqueue. A task holds it while it registers, scans or removes.
//!    It is a mutex because filters run under it and call `->poll` and `->unlocked_ioctl`, which
//!    may sleep. A task that is being killed stops waiting for it (`sys::lock::killable`), and
//!    leaves its removals undone. Every task that has released the mutex checks whether removals
//!    were left, and does them if the mutex is still free (`Kqueue::do_leftover_work`). Events are
//!    copied out under the mutex with page faults disabled (`engine::usercopy`). The following
//!    mutexes nest in it, but not in each other:
//!    - the mutex of all edges between kqueues (`engine::nesting`),
//!    - the mutex of the accounts of all users (`engine::knote_limit`),
//!    - the mutex of each probe, under which the probe is registered and unregistered
//!      (`sys::probe::on_demand`),
//!    - the mutexes of a user's marks (`sys::notify::fsnotify`). The locks of fsnotify nest in
//!      these.
//! 2. The locks of event sources: the locks of wait queues, and siglock. They belong to the kernel.
//!    (The wait queue of a `struct pid`, on which pidfds are polled, is woken under tasklist_lock.
//!    So tasklist_lock is outside of this level.) Wake-up functions run under these locks and take
//!    the locks of levels 3 and 4.
//! 3. The spin locks under which knotes are looked up:
//!    - the locks of the trees of bound knotes; one lock guards several trees (`engine::close`),
//!    - the lock of one shard of the watches of a probe (`sys::probe::watches`),
//!    - the lock of a mark (`sys::notify::fsnotify`). The lock of the list of watchers of a
//!      directory (`ParentDir`) or of a mount namespace (`Namespace`) nests in it. The lock of a
//!      `MountWatcher`, which is what a knote keeps about a mount namespace, nests in that of the
//!      `Namespace`.
//!
//!    A `ProcessWatcher`, `FileWatcher` or `OffsetWatcher` (in `filter`) is what a knote keeps
//!    about its process or file. Each of them has a lock, which may be taken under any other lock
//!    of this level. Interrupts are disabled under all locks of this level, except those that no
//!    interrupt takes: the locks of trees, of marks, and of `ParentDir`, `Namespace` and
//!    `MountWatcher`. The lock of a user's watched objects (`engine::object_watches`) also belongs
//!    to this level, but nests in none of the others.
//! 4. `Locks::ready`, the spin lock of a kqueue, with interrupts disabled. An activation takes no
//!    other lock of the module while it holds this one, so a source can activate a knote in any
//!    context. The last reference to a knote is never dropped under it, because that would detach
//!    the knote. The following locks nest in it:
//!    - A scan evaluates many kinds of files under it (`filter::fast_path`). Some of these have a
//!      lock that a wake-up may hold, or that tasks hold with interrupts enabled: the wait-queue
//!      lock of a pipe (`sys::file::pipe`), the locks of a socket's queues (`sys::file::socket`),
//!      siglock (`sys::file::signalfd`), the lock of the events of an inotify instance
//!      (`sys::file::inotify`), and the spin lock of a watched kqueue. A scan that waited for such
//!      a lock would violate the order, so it only tries the lock. While it holds one, it takes no
//!      other lock, with one exception: a UDP socket has a second receive queue, whose lock is
//!      tried as well.
//!    - For a file with contents, a scan takes the lock of the `OffsetWatcher`. Under that lock no
//!      other lock is taken, and no knote is activated.
//!    - Sleepers are woken under it (`engine::sleepers`), so the scheduler's locks nest in it.
//!    - The timer of rechecks is armed under it (`engine::recheck`), so the lock of an hrtimer base
//!      nests in it. No callback of a timer runs under that lock.
//!
//! A sleeper checks whether a knote is pending and queues itself in one critical section of
//! `Locks::ready`. An activation makes a knote pending and wakes one sleeper in one critical
//! section of the same lock. So no wake-up is lost. A scan that leaves knotes pending wakes the
//! next sleeper. The first step of that sleeper is to take the mutex, so the scan releases the
//! mutex before it wakes the sleeper. (A scan that has failed to copy an event out wakes the
//! sleeper earlier.) Pollers are woken, and SIGIO is sent, from an irq_work without any lock
//! (`sys::notify::poll_fasync`). So an event passes from a kqueue to its watcher with no lock held.
//! As a scan only tries the lock of a watched kqueue, no lock is ever waited for under a lock of
//! the same lock class.
//!
//! The locks of levels 3 and 4 are raw spin locks (`sys::lock::raw_spin`), with four exceptions:
//! the locks of a mark, of a `ParentDir`, of a `Namespace` and of a `MountWatcher`. The others are
//! raw because probes take them, and a probe may run with preemption disabled, where a `spinlock_t`
//! of a real-time kernel (PREEMPT_RT) cannot be taken, because it sleeps. Under a raw lock no
//! memory is allocated or freed, no wait queue is woken, and a `spinlock_t` is only tried.
//!
//! The owner of a raw spin lock has preemption disabled, and so is in an RCU read-side critical
//! section. That protects the reads of the descriptor table (`sys::file::fdtable`) and of the task
//! of a sleeper.
//!
//! # State of other subsystems
//!
//! The module reads private state of another subsystem only after it has positively identified the
//! kind of the file: a socket by its family, type and protocol, and any other file by its
//! operations or by its poll function. The locking rule of that kind is stated where the state is
//! read, and was checked against the source of the subsystem. This holds for sockets
//! (`sys::file::socket` has the list), pipes, eventfds, timerfds, signalfds, inotify (the files of
//! these names in `sys::file`) and pidfds (`sys::process::pid`). Of regular files the size and the
//! offset are read. The state of all other files is read by public operations: `->poll`, and
//! `FIONREAD` for terminals (`sys::file::ioctl`), which take their own locks. They may wait for
//! such a lock, but not for an event. A file whose bytes cannot be counted reports 1.
//!
//! The operations of a file are read once for each use, because a hang-up or a hot unplug may
//! replace them (`sys::file::poll::operations`).
//!
//! Another user of the system may decide how much data a file holds. So the work under a lock is
//! bounded: a scan counts up to four messages of a socket, or events of an inotify instance, under
//! the kqueue's spin lock. If there are more, the filter's `event` function counts up to 32 of the
//! messages, or calls `FIONREAD`, without that lock.
//!
//! # Field protection
//!
//! - `KnoteTable`, and `next`, `fast_path` and `inner` of each knote: the mutex.
//! - The write position that the pipe of a knote had when the knote was last evaluated
//!   (`pipe_position`): atomic. It is written under the mutex. The timer of rechecks reads it under
//!   the spin lock.
//! - `ReadyState`, and the state and the links of each knote: the spin lock. Its holder may
//!   dereference the pointers in the list. They hold no references, but a knote is taken off the
//!   list before its last reference is dropped. The state is atomic, so that a task without the
//!   lock may test whether a knote is retired, spent, or out of its tree of bound knotes.
//! - The links of a knote in a tree of bound knotes (`engine::close`): the lock of that tree, until
//!   the close probe has taken the knote out. After that, the same memory holds a `callback_head`.
//! - The file that a knote is bound to: the mutex. The timer of rechecks may read it under the spin
//!   lock, because a knote leaves the list of rechecks under that lock before it is unbound.
//! - The partner of a knote, with which it shares what belongs to a descriptor (`engine::pairing`):
//!   the mutex. It is set under the lock of the tree of bound knotes, too, and cleared under the
//!   spin lock. So the owner of the spin lock may use the partner. The wake function tests without
//!   a lock whether there is one.
//! - The timer of a knote: the mutex. Its callback runs without the mutex. It records that the
//!   timer has fired, and activates the knote.
//! - The wait-queue entry of a knote: the wait-queue lock of the source. It is linked and unlinked
//!   under the mutex, or unlinked by its wake function at a wake-up with `POLLFREE`.
//! - `ident`, `filter` and `kqueue` of a knote never change.
//!
//! # Contexts
//!
//! Each entry names a callback, its context, and what it does. On a real-time kernel, what is in
//! hard interrupt context here runs in threads of the kernel, and interrupts are enabled under the
//! locks of event sources.
//!
//! - Wake function of a wait-queue entry: under the wait-queue lock of the source, with interrupts
//!   disabled. Activates the knote, and the one that shares the entry.
//! - Timer of an `EVFILT_TIMER` knote, or of an `EVFILT_WRITE` knote whose low-water mark is not
//!   reached: in hard interrupt context. Activates the knote.
//! - Timer of rechecks: in hard interrupt context. Evaluates up to 64 pipes and activates their
//!   knotes.
//! - Exit of a process: in its last thread or in its tracer, under tasklist_lock and the wait-queue
//!   lock, with interrupts disabled. Activates the knote.
//! - Fork probe: in the forking task, before the child runs, without locks. Creates the knote of a
//!   child and activates knotes.
//! - Exec probe: in the task, under the lock of a shard. Activates knotes.
//! - Signal probe: in the sender, which may be an interrupt, under siglock and the lock of a shard.
//!   Counts the signal and activates knotes.
//! - Mark of a file: in the task that changes the file, maybe under the inode's locks, and under
//!   the lock of the mark. Activates the knote.
//! - Mark of a mount namespace: in the task that mounts, under the lock of the mark. Activates up
//!   to 32 knotes, and queues a work item for the others.
//! - Work item of such a mark: in a kernel thread. Activates the other knotes in bounded steps.
//! - Probes of file offsets (`__f_unlock_pos`, and the lseek operation of block devices): in the
//!   task that moves the offset, with preemption disabled, under the lock of a shard. Activates
//!   knotes.
//! - Close probes: in the closing task, maybe with preemption disabled. Retires the knotes under
//!   the lock of their tree. After the release of that lock, it removes them if it gets the mutex
//!   without waiting and nothing has to sleep. Otherwise it queues them as task work.
//! - Task work: in the closing task, before it returns to user space. Removes a knote, or
//!   searches all knotes that are bound to the file of a closed descriptor.
//! - After a release of the mutex: in the task that has released it. Tries to take the mutex again,
//!   to do the work left over by a task that is being killed.
//! - Delayed work of a probe: in a kernel thread. Unregisters a probe that has no user any more.
//! - irq_work: in hard interrupt context, without locks. (On a real-time kernel it is a work item,
//!   in a kernel thread.) Wakes pollers and sends SIGIO.
//!
//! # Removal
//!
//! A knote is *retired* under the spin lock and then *removed* under the mutex. Each step may be
//! done twice; the second time has no effect. The section "Removal of a knote" of
//! `Documentation/design.md` lists the paths, and says how they exclude each other.
#![warn(clippy::incompatible_msrv)]
#![crate_name = "kqueue"]

mod device;
mod engine;
mod file;
mod filter;
#[allow(
    clippy::all,
    dead_code,
    improper_ctypes,
    missing_docs,
    non_camel_case_types,
    non_upper_case_globals,
    clippy::undocumented_unsafe_blocks,
    unreachable_pub,
    unsafe_op_in_unsafe_fn
)]
mod generated {
    //! The output of bindgen for `rust/bindings.h`.
    use kernel::{bindings::*, ffi};
    include!(env!("KQUEUE_BINDINGS"));
}
mod sys;
mod uapi;

use engine::{kqueue::Kqueue, module_params, shared_state::SharedState};
use kernel::{
    debugfs::{Dir, File},
    fmt,
    prelude::*,
    sync::Arc, //
};
use sys::{file::chardev::Registration, notify::workqueue::ModuleWorkqueue};

module! {
    type: KqueueModule,
    name: "kqueue",
    authors: ["The kqueue for Linux developers"],
    description: "The BSD kqueue event interface",
    license: "GPL",
}

/// The loaded module.
#[pin_data]
struct KqueueModule {
    // The fields are dropped in this order. First no more files can be opened, then the probes are
    // not listed any more, then no work item runs any more, then the shared state is freed.
    #[pin]
    _device: Registration<Kqueue>,
    /// `/sys/kernel/debug/kqueue/probes`, which lists the probes and the number of their watches.
    #[pin]
    _probes: File<Arc<SharedState>>,
    _work: ModuleWorkqueue,
    _shared: StopOnDrop,
}

/// Unregisters all probes when it is dropped, so that no callback of the module runs any more.
struct StopOnDrop(Arc<SharedState>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl kernel::InPlaceModule for KqueueModule {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        pin_init::pin_init_scope(|| {
            module_params::set_defaults();
            let shared = SharedState::new()?;
            let work = ModuleWorkqueue::new(c"kqueue")?;
            let probes = shared.clone();
            Ok(try_pin_init!(Self {
                _shared: StopOnDrop(shared.clone()),
                _work: work,
                _probes <- Dir::new(c"kqueue").read_callback_file(c"probes", probes, &show_probes),
                _device <- Registration::new(c"kqueue", 0o666, shared),
            }? Error))
        })
    }
}

fn show_probes(shared: &Arc<SharedState>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    shared.show_probes(f)
}
