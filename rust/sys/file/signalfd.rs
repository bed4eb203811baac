// SPDX-License-Identifier: GPL-2.0

//! The pending signals of a signalfd.
//!
//! A signalfd is readable if one of its signals is pending for the current task or its process
//! (`signalfd_poll`). The set of its signals is in a structure that is private to `fs/signalfd.c`
//! and is declared here a second time. The declaration is [verified](super::layout_check) with one
//! signalfd whose set is not empty and equals that in its fdinfo text. The pending signals are read
//! under siglock of the current task, as `signalfd_poll` does: `__send_signal_locked` wakes the
//! pollers first, and adds the signal before it releases that lock.

use super::{
    layout_check::LayoutCheck,
    poll::PollFunction,
    read_fdinfo::{self, Base},
};
use crate::{generated, sys::memory::field::read_once};
use kernel::{
    bindings,
    fs::{file::LocalFile, File},
};

/// `struct signalfd_ctx`: the signals that the signalfd does not report.
#[repr(C)]
struct Context {
    others: bindings::sigset_t,
}

/// The flag of the action of a signal that the kernel forces on a task. A signalfd does not report
/// such a signal. (`SA_IMMUTABLE` in `include/linux/signal_types.h`.)
const SA_IMMUTABLE: u64 = 0x0080_0000;

static LAYOUT: LayoutCheck = LayoutCheck::new();
static POLL: PollFunction = PollFunction::new(c"signalfd_poll");

/// One word for statistics: how the module obtains the set of signals.
pub(crate) fn state() -> &'static str {
    LAYOUT.state()
}

/// True if `file` is a signalfd. May sleep.
pub(crate) fn is(file: &LocalFile) -> bool {
    POLL.is_of(file)
}

/// The context of a signalfd.
///
/// # Safety
///
/// `file` is a signalfd.
unsafe fn context(file: &File) -> *const Context {
    // SAFETY: The private data of a signalfd is its context as long as the file is open. If the
    // layout differs, the address still refers to kernel memory: a context contains a set of
    // signals, so it is not smaller than this structure. In that case the value is only compared.
    unsafe { (*file.as_ptr()).private_data.cast::<Context>() }
}

/// Verifies the layout with `file`, unless that was done before or is not possible. May sleep.
pub(crate) fn verify_layout(file: &File) {
    const KEY: &[u8] = b"sigmask:";
    if LAYOUT.is_verified_for(file) || !is(file) {
        return;
    }
    let Some(reported) = read_fdinfo::number(file, KEY, Base::Sixteen) else {
        return;
    };
    // SAFETY: The file is a signalfd. The set is read in single loads.
    let set = unsafe {
        let words = &raw const (*context(file)).others.sig;
        let mut set = 0;
        for word in 0..size_of::<bindings::sigset_t>() / size_of::<usize>() {
            let word_bits = usize::BITS as usize;
            let others = read_once(words.cast::<usize>().add(word));
            set |= (!others as u64) << (word * word_bits);
        }
        set
    };
    // A program may change the set all the time, so a difference must not rule the declaration out
    // for all.
    let unchanged = read_fdinfo::number(file, KEY, Base::Sixteen) == Some(reported);
    if reported != 0 && unchanged && set == reported {
        LAYOUT.record(file, true);
    }
}

/// True if a signal of the signalfd `file` is pending for the current task. `None` if the layout is
/// not verified, or if siglock is taken: a signal may be sent under that lock. Never sleeps and
/// does not wait. Interrupts are disabled.
pub(crate) fn try_is_ready(file: &File) -> Option<bool> {
    if !LAYOUT.is_verified_for(file) {
        return None;
    }
    let task = kernel::current!().as_ptr();
    // SAFETY: The current task is in a system call, so it has its `sighand` and its `signal`, which
    // no other task replaces. (Only exec replaces `sighand`, in the task itself.)
    let (sighand, signal) = unsafe { ((*task).sighand, (*task).signal) };
    // SAFETY: The lock is valid, and interrupts are disabled.
    if !unsafe { generated::kq_spin_trylock(&raw mut (*sighand).siglock) } {
        return None;
    }
    // SAFETY: The verification holds for signalfds only. Another task may change the set
    // concurrently, so each word is read in a single load. The pending signals and the actions are
    // guarded by siglock, which is held until it is released here once.
    unsafe {
        let is_ready = (0..size_of::<bindings::sigset_t>() / size_of::<usize>()).any(|word| {
            let in_set = |set: *const bindings::sigset_t| read_once(set.cast::<usize>().add(word));
            let pending = in_set(&raw const (*task).pending.signal)
                | in_set(&raw const (*signal).shared_pending.signal);
            let mut left = pending & !in_set(&raw const (*context(file)).others);
            // A signal is skipped if it is forced on the task, which is rare.
            while left != 0 {
                let number = word * usize::BITS as usize + left.trailing_zeros() as usize;
                let action = (&raw const (*sighand).action).cast::<bindings::k_sigaction>();
                let flags = read_once(&raw const (*action.add(number)).sa.sa_flags);
                if flags as u64 & SA_IMMUTABLE == 0 {
                    return true;
                }
                left &= left - 1;
            }
            false
        });
        generated::kq_spin_unlock(&raw mut (*sighand).siglock);
        Some(is_ready)
    }
}

/// The wait queue that a signalfd is polled on by the current task.
pub(crate) fn wait_queue() -> *mut bindings::wait_queue_head {
    // SAFETY: As in `try_is_ready`.
    unsafe { &raw mut (*(*kernel::current!().as_ptr()).sighand).signalfd_wqh }
}
