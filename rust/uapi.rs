// SPDX-License-Identifier: GPL-2.0

//! The ABI of `/dev/kqueue` as Rust sees it.
//!
//! The numbers come from `include/uapi/linux/kqueue.h` through bindgen, so the module and the
//! header always agree. This file gives them their Rust types.

use crate::{generated, sys::memory::user_scratch::UserScratch};
use core::mem::offset_of;
use kernel::{
    ioctl::{_IO, _IOC_NR, _IOC_SIZE, _IOC_TYPE, _IOR, _IOW},
    prelude::*, //
};

/// One event (`struct kevent`). It is a change when the program passes it in, and a report when the
/// program receives it.
#[derive(Clone, Copy, Default)]
#[repr(transparent)]
pub(crate) struct Kevent(generated::kqueue_event);

// The fields have 8 + 2 + 2 + 4 + 8 + 8 bytes, each at a multiple of its size. So there is no
// padding.
const _: () = assert!(size_of::<Kevent>() == 32);

impl core::ops::Deref for Kevent {
    type Target = generated::kqueue_event;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Kevent {
    /// An event to report.
    pub(crate) fn new(event: generated::kqueue_event) -> Self {
        Self(event)
    }

    /// Clears the flags that only the kernel may set. They are ignored in a change.
    pub(crate) fn clear_system_flags(&mut self) {
        self.0.flags &= !(generated::EV_SYSFLAGS as u16);
    }

    /// True if a flag is set that is not in the ABI header. It requests something that this module
    /// does not support.
    pub(crate) fn has_unknown_flags(&self) -> bool {
        self.has(UNKNOWN_FLAGS)
    }

    /// Converts a change into its receipt: `EV_ERROR` with the errno in `data`, which is 0 for
    /// success.
    pub(crate) fn into_receipt(mut self, errno: i64) -> Self {
        self.0.flags = EV_ERROR;
        self.0.data = errno;
        self
    }

    /// True if the event has `flag`.
    pub(crate) fn has(&self, flag: u16) -> bool {
        self.0.flags & flag != 0
    }
}

/// The flags of a change that are not in the ABI header.
pub(crate) const UNKNOWN_FLAGS: u16 = !(EV_ADD
    | EV_DELETE
    | EV_ENABLE
    | EV_DISABLE
    | EV_ONESHOT
    | EV_CLEAR
    | EV_RECEIPT
    | EV_DISPATCH
    | EV_KEEPUDATA
    | generated::EV_SYSFLAGS as u16);

/// The arguments of one `kevent()` call.
#[derive(Clone, Copy, Default)]
#[repr(transparent)]
pub(crate) struct KeventArgs(generated::kqueue_kevent);

const _: () = assert!(size_of::<KeventArgs>() == 64);

impl core::ops::Deref for KeventArgs {
    type Target = generated::kqueue_kevent;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl KeventArgs {
    /// The address of the scratch memory of arguments at `address`.
    pub(crate) fn scratch_of(address: usize) -> UserScratch {
        UserScratch::new(address.wrapping_add(offset_of!(generated::kqueue_kevent, scratch)))
    }
}

/// `KQUEUE_IOC_CREATE` of the ABI header.
pub(crate) const IOC_CREATE: u32 = _IO(generated::KQUEUE_IOC_MAGIC, 1);

/// `KQUEUE_IOC_KEVENT`, of this version.
pub(crate) const IOC_KEVENT: u32 = _IOW::<KeventArgs>(generated::KQUEUE_IOC_MAGIC, 0);

/// The bits of an ioctl number that contain the number of entries of a list.
const COUNT: u32 = (_IOR::<u8>(0, 0) - _IOR::<()>(0, 0)) * _IOC_SIZE(u32::MAX) as u32;

/// The forms of the call that have no arguments in memory.
pub(crate) enum ShortForm {
    /// `KQUEUE_IOC_WAIT`.
    Wait,
    /// `KQUEUE_IOC_POLL`.
    Poll,
    /// `KQUEUE_IOC_CHANGE`.
    Change,
}

/// The short form of the call and the number of entries of its list, if `cmd` is one.
#[inline(always)]
pub(crate) fn short_form(cmd: u32) -> Option<(ShortForm, usize)> {
    const WAIT: u32 = _IOR::<()>(generated::KQUEUE_IOC_MAGIC, 2);
    const POLL: u32 = _IOR::<()>(generated::KQUEUE_IOC_MAGIC, 3);
    const CHANGE: u32 = _IOW::<()>(generated::KQUEUE_IOC_MAGIC, 4);
    let form = match cmd & !COUNT {
        WAIT => ShortForm::Wait,
        POLL => ShortForm::Poll,
        CHANGE => ShortForm::Change,
        _ => return None,
    };
    Some((form, _IOC_SIZE(cmd)))
}

/// The size of the arguments if `cmd` is `KQUEUE_IOC_KEVENT` of any version.
pub(crate) fn kevent_args_size(cmd: u32) -> Option<usize> {
    let ours = _IOC_TYPE(cmd) == generated::KQUEUE_IOC_MAGIC && _IOC_NR(cmd) == 0;
    let size = _IOC_SIZE(cmd);
    (ours && size >= size_of::<KeventArgs>()).then_some(size)
}

macro_rules! constants {
    ($ty:ty: $($name:ident)*) => {
        $(
            #[doc = concat!("`", stringify!($name), "` of the ABI header.")]
            pub(crate) const $name: $ty = generated::$name as $ty;
        )*
    };
}

constants!(i16:
    EVFILT_READ EVFILT_WRITE EVFILT_EXCEPT EVFILT_AIO EVFILT_PROC EVFILT_PROCDESC EVFILT_SIGNAL
    EVFILT_TIMER EVFILT_USER EVFILT_VNODE EVFILT_FS
);
constants!(u16:
    EV_ADD EV_DELETE EV_ENABLE EV_DISABLE EV_ONESHOT EV_CLEAR EV_RECEIPT EV_DISPATCH EV_KEEPUDATA
    EV_HUP EV_NODATA EV_ERROR EV_EOF
);
constants!(u32:
    NOTE_LOWAT NOTE_OOB
    NOTE_EXIT NOTE_FORK NOTE_EXEC NOTE_TRACK NOTE_TRACKERR NOTE_CHILD
    NOTE_DELETE NOTE_WRITE NOTE_EXTEND NOTE_ATTRIB NOTE_LINK NOTE_RENAME NOTE_REVOKE
    NOTE_OPEN NOTE_CLOSE NOTE_CLOSE_WRITE NOTE_READ
    VQ_MOUNT VQ_UNMOUNT
    NOTE_SECONDS NOTE_MSECONDS NOTE_USECONDS NOTE_NSECONDS NOTE_ABSTIME NOTE_BOOTTIME
    NOTE_FFAND NOTE_FFOR NOTE_FFCOPY NOTE_FFCTRLMASK NOTE_FFLAGSMASK NOTE_TRIGGER
    KQUEUE_TIMEOUT
);
