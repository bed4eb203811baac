// SPDX-License-Identifier: GPL-2.0

//! The size of the events that wait in an inotify instance.
//!
//! The private data of an inotify file is a `struct fsnotify_group`, which is public. Its list of
//! events is guarded by its `notification_lock`, which tasks take with interrupts enabled, and
//! which they release before they wake the pollers (`inotify_poll`, `inotify_read`,
//! `inotify_ioctl`, `fsnotify_insert_event`). The length of an event's name is in a structure that
//! is private to `fs/notify/inotify` and is declared a second time. The declaration is
//! [verified](super::layout_check) with one instance: its public overflow event has the expected
//! mask and watch descriptor, which precede the length, at least one of its events has a name, and
//! the size of its events equals the result of `FIONREAD`.

use super::{ioctl, layout_check::LayoutCheck, poll::PollFunction};
use crate::{
    generated::{self, *},
    sys::memory::{field::Field, user_scratch::UserScratch},
};
use core::{ffi::c_void, ptr};
use kernel::{
    bindings::{list_head, spinlock_t},
    fs::{file::LocalFile, File},
};

const LOCK: Field<spinlock_t> = Field::at(kq_offset_KQ_GROUP_LOCK);
const EVENTS: Field<list_head> = Field::at(kq_offset_KQ_GROUP_EVENTS);
const OVERFLOW_EVENT: Field<*const c_void> = Field::at(kq_offset_KQ_GROUP_OVERFLOW_EVENT);
const MASK: Field<u32> = Field::at(kq_offset_KQ_INOTIFY_MASK);
const WATCH: Field<i32> = Field::at(kq_offset_KQ_INOTIFY_WD);
const NAME_LEN: Field<u32> = Field::at(kq_offset_KQ_INOTIFY_NAME_LEN);

/// The size of an event without its name (`struct inotify_event`). The size of the name is rounded
/// up to a multiple of it.
const EVENT_SIZE: u64 = 16;

/// The mask of the overflow event (`FS_Q_OVERFLOW`). Its watch descriptor is -1
/// (`inotify_new_group`).
const Q_OVERFLOW: u32 = 0x4000;

static LAYOUT: LayoutCheck = LayoutCheck::new();
static POLL: PollFunction = PollFunction::new(c"inotify_poll");

/// One word for statistics: how the module obtains the size.
pub(crate) fn state() -> &'static str {
    LAYOUT.state_or("from FIONREAD")
}

/// True if `file` is an inotify instance. May sleep.
pub(crate) fn is(file: &LocalFile) -> bool {
    POLL.is_of(file)
}

/// The size of the events in `group`, and whether one of them has a name. `None` if there are more
/// than `most`.
///
/// # Safety
///
/// `group` is the group of an inotify instance, and its `notification_lock` is held.
unsafe fn size(group: *const c_void, most: usize) -> Option<(u64, bool)> {
    let (mut size, mut has_name) = (0, false);
    // SAFETY: The lock of the list is held, so its events are not freed. The link is the first
    // field of an event. If the layout of an event differs, the address still refers to kernel
    // memory: an event contains at least the declared fields in some order. In that case the size
    // is only compared.
    unsafe {
        let head = EVENTS.of(group);
        let mut event = (*head).next.cast_const();
        let mut count = 0;
        while !ptr::eq(event, head) {
            if count == most {
                return None;
            }
            count += 1;
            size += EVENT_SIZE;
            // The name ends with at least one zero.
            let name = u64::from(NAME_LEN.read(event));
            if name != 0 {
                has_name = true;
                size += (name + 1).next_multiple_of(EVENT_SIZE);
            }
            event = (*event).next;
        }
    }
    Some((size, has_name))
}

/// The size of the events of `file`. `None` if it is not an inotify instance, if the layout is not
/// verified, if the lock is taken, or if there are more than a few events. Never sleeps and does
/// not wait. Interrupts are disabled.
pub(crate) fn try_readable(file: &File) -> Option<i64> {
    /// The maximum number of events. It is small because interrupts are disabled meanwhile.
    const TRY_COUNT_MAX: usize = 4;
    if !LAYOUT.is_verified_for(file) {
        return None;
    }
    // SAFETY: The verification holds for inotify instances only. The group of an instance lives as
    // long as its file. The lock is only tried, because the caller holds a lock that interrupts
    // take, and because tasks hold the lock with interrupts enabled.
    unsafe {
        let group = (*file.as_ptr()).private_data;
        let lock = LOCK.of(group).cast_mut();
        if !generated::kq_spin_trylock(lock) {
            return None;
        }
        let size = size(group, TRY_COUNT_MAX);
        generated::kq_spin_unlock(lock);
        i64::try_from(size?.0).ok()
    }
}

/// The size of the events of `file`, which is an inotify instance, by `FIONREAD`. `None` if the
/// scratch memory is not mapped. May sleep.
pub(crate) fn readable(file: &File, scratch: UserScratch) -> Option<i64> {
    /// The maximum number of events for the verification.
    const VERIFY_MAX: usize = 64;
    let reported = ioctl::readable(file, scratch)?;
    if reported > 0 && !LAYOUT.is_verified_for(file) && LAYOUT.is_undecided() && is(file) {
        // SAFETY: The file is an inotify instance, whose group and whose overflow event live as
        // long as the file. No other spin lock is held.
        let (is_overflow, counted) = unsafe {
            let group = (*file.as_ptr()).private_data;
            let event = OVERFLOW_EVENT.read(group);
            let is_overflow = MASK.read(event) == Q_OVERFLOW && WATCH.read(event) == -1;
            let lock = LOCK.of(group).cast_mut();
            let flags = generated::kq_spin_lock_irqsave(lock);
            let counted = size(group, VERIFY_MAX);
            generated::kq_spin_unlock_irqrestore(lock, flags);
            (is_overflow, counted)
        };
        // The overflow event does not change. Other events come and go, so a difference of the
        // sizes must not rule the declaration out for all.
        if !is_overflow {
            LAYOUT.record(file, false);
        } else if counted == u64::try_from(reported).ok().map(|size| (size, true))
            && ioctl::readable(file, scratch) == Some(reported)
        {
            LAYOUT.record(file, true);
        }
    }
    Some(reported)
}
