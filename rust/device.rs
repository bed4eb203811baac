// SPDX-License-Identifier: GPL-2.0

//! `/dev/kqueue`. Each open file of it is a kqueue. This file checks the number of an ioctl and the
//! arguments of `KQUEUE_IOC_CREATE`; [`crate::engine::kevent`] checks those of kevent().

use crate::{
    engine::{
        kevent::{change_one, kevent, Request},
        kqueue::Kqueue,
        shared_state::SharedState,
        usercopy,
    },
    sys::file::{
        chardev::{self, Device, PollTable},
        fdtable::{FlushedFdTable, WeakFile},
        poll::PollEvents,
    },
    uapi::{kevent_args_size, short_form, KeventArgs, ShortForm, IOC_CREATE, IOC_KEVENT}, //
};
use core::mem::MaybeUninit;
use kernel::{
    fs::{
        file::flags::{O_CLOEXEC, O_NONBLOCK},
        File, //
    },
    prelude::*,
    seq_file::SeqFile,
    sync::{Arc, ArcBorrow},
    uaccess::{UserPtr, UserSlice}, //
};

impl Device for Kqueue {
    type Ptr = Arc<Kqueue>;
    type Shared = Arc<SharedState>;

    fn open(file: WeakFile, shared: &Arc<SharedState>) -> Result<Arc<Kqueue>> {
        Kqueue::new(file, shared)
    }

    fn release(this: Arc<Kqueue>) {
        Kqueue::release(&this);
    }

    fn flush(this: ArcBorrow<'_, Kqueue>, file: &File, closing: &FlushedFdTable) {
        Kqueue::flush(this, file, closing);
    }

    #[inline(always)]
    fn ioctl(this: ArcBorrow<'_, Kqueue>, _: &File, cmd: u32, arg: usize) -> Result<isize> {
        let mut slot = MaybeUninit::uninit();
        let request = match short_form(cmd) {
            Some((ShortForm::Wait, count)) => Request::collect(&this, arg, count, true),
            Some((ShortForm::Poll, count)) => Request::collect(&this, arg, count, false),
            Some((ShortForm::Change, 1)) => return change_one(this, arg).map(|()| 0),
            Some((ShortForm::Change, count)) => Request::change(&this, arg, count),
            None => {
                let size = match cmd {
                    IOC_KEVENT => size_of::<KeventArgs>(),
                    IOC_CREATE => return create(&this, arg),
                    _ => kevent_args_size(cmd).ok_or(ENOTTY)?,
                };
                let args = read_args(arg, size, &mut slot)?;
                Request::of_args(&this, args, KeventArgs::scratch_of(arg))
            }
        };
        kevent(this, request).map(|count| count as isize)
    }

    fn poll(this: ArcBorrow<'_, Kqueue>, file: &File, table: &PollTable) -> PollEvents {
        // The poller is queued before the state is read, so that no event is missed in between.
        this.poll_fasync().register(file, table);
        match this.announce_poller() {
            (_, true) => PollEvents::HUP,
            (0, false) => PollEvents::NONE,
            (_, false) => PollEvents::IN | PollEvents::RDNORM,
        }
    }

    fn fasync(this: ArcBorrow<'_, Kqueue>, fd: i32, file: &File, on: bool) -> Result {
        this.poll_fasync().fasync(fd, file, on)?;
        let _ = this.announce_poller();
        Ok(())
    }

    fn show_fdinfo(this: ArcBorrow<'_, Kqueue>, m: &SeqFile) {
        this.show(m);
    }
}

/// Makes a new kqueue that belongs to the descriptor table of the current task, and returns its
/// descriptor. The kqueue of the ioctl may belong to any table.
///
/// # Errors
///
/// `EINVAL` for flags other than `O_CLOEXEC` and `O_NONBLOCK`; `EMFILE`, `ENFILE`, `ENOMEM`.
fn create(kqueue: &Kqueue, arg: usize) -> Result<isize> {
    let flags = u32::try_from(arg).map_err(|_| EINVAL)?;
    if flags & !(O_CLOEXEC | O_NONBLOCK) != 0 {
        return Err(EINVAL);
    }
    let fd = chardev::open_anonymous::<Kqueue>(c"[kqueue]", flags, kqueue.shared())?;
    Ok(fd as isize)
}

/// Reads the arguments of a kevent() call.
///
/// # Errors
///
/// `EFAULT`; `E2BIG` if the structure is that of a later version and uses a field that this version
/// does not have.
#[inline]
fn read_args(
    address: usize,
    size: usize,
    slot: &mut MaybeUninit<KeventArgs>,
) -> Result<&KeventArgs> {
    let args = usercopy::read_args(address, slot)?;
    if size > size_of::<KeventArgs>() {
        let mut rest = UserSlice::new(UserPtr::from_addr(address), size).reader();
        rest.skip(size_of::<KeventArgs>())?;
        while !rest.is_empty() {
            if rest.read::<u8>()? != 0 {
                return Err(E2BIG);
            }
        }
    }
    Ok(args)
}
