// SPDX-License-Identifier: GPL-2.0

//! Watches for `EVFILT_READ` whether a regular file, a directory or a block device has contents
//! between the offset and the end.
//!
//! # Against registration
//!
//! A registration adds the mark and the watch of the offset, which ends with a full barrier, and
//! then reads the size and the offset. For the offset, the probe has the other barrier
//! ([`crate::sys::probe::seek`]). For the size, fsnotify has none: a task that writes stores the
//! size, releases the lock of the inode, and looks for marks. On x86 the release is a full barrier.
//! On arm64 the look may come before the store, so a write that takes place during the registration
//! may be missed. The same holds for inotify followed by read(2). The next change is reported.

use super::ENTRIES;
use crate::{
    engine::{
        knote::Knote,
        object_watches::{ObjectCharge, ObjectKind},
    },
    sys::{
        file::offset,
        lock::raw_spin::IrqLock,
        notify::fsnotify::{self, mask, EventScope, InodeSnapshot, Mark, MarkCount, Notify},
        probe::{
            seek::{SeekProbe, SeekTarget},
            watches::Watch,
        },
    }, //
};
use kernel::{
    fs::File,
    prelude::*,
    static_lock_class,
    sync::{aref::ARef, Arc, ArcBorrow}, //
};

pub(crate) static MARKS: MarkCount = MarkCount::new();

/// The recorded state of a file.
struct Record {
    /// The offset was not at the end.
    has_contents: bool,
    /// The knote was activated after the last evaluation.
    activated: bool,
}

/// Waits until a file has contents between its offset and its end.
#[pin_data]
pub(crate) struct OffsetWatcher {
    knote: ARef<Knote>,
    file: ARef<File>,
    #[pin]
    record: IrqLock<Record>,
}

impl OffsetWatcher {
    /// Records the state for a scan that evaluates the knote. Later changes are compared with this
    /// state. Returns the number of bytes from the offset to the end.
    #[inline]
    fn record_state(&self) -> i64 {
        let mut record = self.record.lock();
        let distance = offset::bytes_to_end(&self.file);
        record.activated = false;
        record.has_contents = distance != 0;
        distance
    }

    /// Activates the knote after a change, unless it was activated since the last evaluation. If
    /// `any` is false, it is activated only if the offset was at the end before and is not now.
    fn handle_change(&self, any: bool) {
        let is_new = {
            let mut record = self.record.lock();
            let before = record.has_contents;
            record.has_contents = offset::bytes_to_end(&self.file) != 0;
            let is_new = (any || (record.has_contents && !before)) && !record.activated;
            record.activated |= is_new;
            is_new
        };
        if is_new {
            self.knote.activate();
        }
    }
}

impl Notify for OffsetWatcher {
    const SCOPE: EventScope = EventScope::Inode;

    fn marks() -> &'static MarkCount {
        &MARKS
    }

    /// A write or a truncation activates the knote, whatever the recorded state is.
    fn notify(this: ArcBorrow<'_, Self>, _: u32, _: InodeSnapshot) {
        this.handle_change(true);
    }
}

impl SeekTarget for OffsetWatcher {
    /// Moving the offset activates the knote only if the offset was at the end and moved back.
    fn moved(this: ArcBorrow<'_, Self>) {
        this.handle_change(false);
    }
}

/// The event sources of such a file: a mark of the inode and a watch of the offset.
pub(super) struct OffsetWatch {
    _mark: Mark<OffsetWatcher>,
    _watch: Watch<SeekProbe<OffsetWatcher>>,
    watcher: Arc<OffsetWatcher>,
    _charges: [ObjectCharge; 2],
}

impl OffsetWatch {
    /// Records the state for a scan that evaluates the knote. Later changes are compared with it.
    /// Returns the number of bytes from the offset to the end. Never sleeps, so the caller may hold
    /// the spin lock of the kqueue: a watcher activates its knote only after it has released its
    /// own lock.
    #[inline]
    pub(super) fn record_state(&self) -> i64 {
        self.watcher.record_state()
    }

    pub(super) fn new(file: &File, knote: &Knote) -> Result<Self> {
        // fsnotify does not report writes to files that have no visible place in a file system.
        if !fsnotify::is_in_mounted_fs(file) {
            return Err(EINVAL);
        }
        let kqueue = knote.kqueue();
        let user = kqueue.user();
        let inode = (fsnotify::address(file), 0);
        let open = (file.as_ptr().addr(), 0);
        let charges = [
            user.charge_watch(ObjectKind::Inode, inode)?,
            user.charge_watch(ObjectKind::OpenFile, open)?,
        ];
        let record = Record {
            has_contents: false,
            activated: false,
        };
        let watcher = Arc::pin_init(
            pin_init!(OffsetWatcher {
                knote: knote.into(),
                file: file.into(),
                record <- IrqLock::new(record, c"kqueue_offset", static_lock_class!()),
            }),
            GFP_KERNEL_ACCOUNT,
        )?;
        let marks = &user.objects().marks.offsets;
        Ok(OffsetWatch {
            _mark: Mark::new(marks, file, mask::MODIFY | ENTRIES, &watcher)?,
            _watch: kqueue.shared().probes.seeks.watch(file, &watcher)?,
            watcher,
            _charges: charges,
        })
    }
}
