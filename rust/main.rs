// SPDX-License-Identifier: GPL-2.0

//! kqueue: the BSD event interface.
//!
//! `/dev/kqueue` is a misc device; each open file of it is a [`Kqueue`](kqueue::Kqueue), and one
//! ioctl is `kevent()`. `Documentation/design.md` tells the story of a call and of an event; this
//! is what the code relies on.
//!
//! # Locking
//!
//! From the outermost in:
//!
//! 1. `Locks::knotes`, a mutex. Held by who registers, scans or removes. Filters run under it, and
//!    they call `->poll` and `->unlocked_ioctl`, which may sleep as long as it likes: who is being killed waits for the
//!    mutex no longer (`sys::lock::killable`), and what such a task had to remove is done by the owner of the mutex when it
//!    releases that (`Kqueue::settle`). Events are copied out under it, but with page faults off
//!    (`engine::usercopy`).
//!    Under it, but not under each other: the mutex of all edges between kqueues (`nesting`), that
//!    of all users (`limit`), that of a probe's registration (`sys::probe::hook`), and those of a user's marks
//!    (`sys::notify::fsnotify`), with fsnotify's own in them.
//! 2. The locks of event sources: a wait queue's (for processes under tasklist_lock), siglock.
//!    Not ours, but their wake-ups run under them and go on to 3 and 4.
//! 3. The lock of a part of the bindings (`engine::close`) or of a shard of watches (`sys::probe::hook`), or of a mark's
//!    target (`sys::notify::fsnotify`), in that a folder's or a mount namespace's watchers; in it that of what was heard of a
//!    process, a file, its contents or mounts (`filter`). Spin locks, all but those of bindings and marks with interrupts off. By itself,
//!    that of a user's watched objects (`objects`).
//! 4. `Locks::ready`, a spin lock, interrupts off. No reference is dropped under it. A scan polls many kinds of files
//!    under it (`filter::poll_fast`). Some of these have a lock of 2, or one under which a lock of 2 may be taken: the
//!    wait queue's of a pipe (`sys::file::pipe`), those of a socket's queues (`sys::file::socket`), and the lock of this kind of a
//!    kqueue in a kqueue. A scan tries such a lock and does not wait for it; while it has the lock it takes no other one
//!    but the second queue's of a UDP socket, which it tries as well. Sleepers are woken under it (`engine::sleepers`): the
//!    scheduler's locks nest in it.
//!    The kqueue's timer is set under it (`engine::recheck`): the lock of an hrtimer base nests in it, under which no
//!    timer's function runs.
//!
//! Who sleeps looks whether something is pending, and queues, in one round of 4; who makes something pending wakes
//! one in the same round. A scan, which has the mutex that the other one will want, wakes when it is done with 4.
//! Pollers and SIGIO are told from an irq_work, under nothing (`sys::notify::notifier`); so a kqueue in a kqueue nests no
//! locks of one kind.
//!
//! Who has 3 or 4 is in an RCU read-side critical section. Some of what is read under them relies on that: the table of
//! descriptors (`sys::file::fdtable`), a sleeper's task.
//!
//! # State of others
//!
//! What is private to another subsystem is read only of what is positively known to be of a kind
//! (by its family, type and protocol, by its operations or what it is polled with) whose locking
//! rule is named where it is read, and was checked against that subsystem's source. All else is
//! asked by its public operations, `->poll`, or `FIONREAD` where those who answer take their own
//! locks and cannot be kept waiting, or counts as 1. That holds for sockets (`sys::file::socket` has the
//! list), pipes (`sys::file::pipe`), eventfds (`sys::file::eventfd`), timerfds (`sys::file::timerfd`), terminals and inotify
//! (`sys::file::ioctl`), and pidfds, whose process is in their inode as long as that is there (`sys::process::pid`). A file's
//! operations are read once for what is done with them, as a hang-up or a hot unplug may replace them
//! (`sys::file::poll::operations`). How much is looked at under a lock is bounded, as others may choose how much there is:
//! a scan counts four messages of each socket under the spin lock, and 32 without it.
//!
//! # Field protection
//!
//! | What | By |
//! |---|---|
//! | `Table`, every knote's place in it, and its `Body` | the mutex |
//! | the mark of a knote's pipe (`pipe_mark`) | atomic; written under the mutex, read while the knote is to be rechecked |
//! | `Ready` and every knote's state and links | the spin lock. Who has it, and finds a knote in the list, may use that. That a knote is retired or unlinked may be seen without it: the state is atomic |
//! | a knote's links in a tree of bindings (`engine::close`) | the lock of that tree, until the close probe has taken it out; then they are the memory of a task work |
//! | the file that a knote is bound to | the mutex, or the spin lock while the knote is to be rechecked; does not change while it is in a tree |
//! | a knote's timer | the mutex; that it has fired, its function tells without |
//! | a knote's wait-queue entry | the source's wait-queue lock; linked and unlinked under the mutex |
//! | `Knote::ident`, `filter`, `kqueue` | never change |
//!
//! # Contexts
//!
//! | Callback | Context | Does |
//! |---|---|---|
//! | wake function of a wait-queue entry | under the source's wait-queue lock, interrupts off | activates |
//! | timer | hard interrupt | activates |
//! | exit of a process | its last thread, under tasklist_lock and the wait queue's, interrupts off | activates |
//! | fork probe | the forking task, before the child runs, no locks | makes a child's knote, activates |
//! | exec probe | the task, under a shard's lock | activates |
//! | signal probe | the sender, maybe an interrupt, under siglock and a shard's | counts, activates |
//! | mark of a file | who changes it, maybe under the inode's locks, and the mark's | activates |
//! | mark of mounts | who mounts, under the mark's lock | activates a few, queues `telling` |
//! | `telling` work | kernel thread | activates the others, in rounds |
//! | probe of offsets | who moves it, preemption off, under a shard's lock | activates |
//! | close probes, that of descriptors opened with `O_PATH` too | the closing task, maybe with preemption off, under a lock of the bindings | retires, queues the knote as task work |
//! | task work | the closing task, before it returns to userspace | removes; finishes a walk of the probe |
//! | release of the mutex | its owner | removes what a task that was killed has left |
//! | irq_work | hard interrupt, no locks | wakes pollers, SIGIO |
//!
//! # Removal
//!
//! A knote ends in two steps. It is *retired* under the spin lock: off the list, never queued
//! again (`State::delete`). Then, under the mutex, it is *removed*: out of the table, and its source
//! is detached or dropped, which waits for callbacks in flight. Both may be done twice.
//!
//! - Path A, `EV_DELETE`: both at once.
//! - Path B, `EV_ONESHOT` was reported: both at once, within the scan.
//! - Path C, the descriptor was closed: retired by the close probe, removed by task work. A scan
//!   or a registration that comes between finds the number unbound, and removes it itself.
//! - Path D, the kqueue's last descriptor in its table was closed (`->flush`), or its file was
//!   released: the table is emptied.
//!
//! | | A | B | C | D |
//! |---|---|---|---|---|
//! | A, B | the mutex | the mutex | retire: the spin lock; removed by whoever is first | the mutex |
//! | C | | | the spin lock, then the mutex | D finds it in the table, or C comes later and finds no source |
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
    //! What bindgen made of `rust/bindings.h`.
    use kernel::{bindings::*, ffi};
    include!(env!("KQUEUE_BINDINGS"));
}
mod sys;
mod uapi;

use engine::{kqueue::Kqueue, params, shared::Shared};
use kernel::{
    debugfs::{Dir, File},
    fmt,
    prelude::*,
    sync::Arc, //
};
use sys::{file::chardev::Registration, notify::workqueue::OwnQueue};

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
    // Dropped in this order: no more files, then nothing more at work, then what they shared.
    #[pin]
    _device: Registration<Kqueue>,
    /// `/sys/kernel/debug/kqueue/hooks`: which probes there are, and for how many watches.
    #[pin]
    _hooks: File<Arc<Shared>>,
    _work: OwnQueue,
    _shared: StopOnDrop,
}

/// Ends all that may call the module, when it is dropped.
struct StopOnDrop(Arc<Shared>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl kernel::InPlaceModule for KqueueModule {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        pin_init::pin_init_scope(|| {
            params::set_defaults();
            let shared = Shared::new()?;
            let work = OwnQueue::new(c"kqueue")?;
            let hooks = shared.clone();
            Ok(try_pin_init!(Self {
                _shared: StopOnDrop(shared.clone()),
                _work: work,
                _hooks <- Dir::new(c"kqueue").read_callback_file(c"hooks", hooks, &show_hooks),
                _device <- Registration::new(c"kqueue", 0o666, shared),
            }? Error))
        })
    }
}

fn show_hooks(shared: &Arc<Shared>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    shared.show_hooks(f)
}
