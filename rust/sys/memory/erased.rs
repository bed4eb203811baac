// SPDX-License-Identifier: GPL-2.0

//! A box of something, of which the pointer does not tell what it is.
//!
//! `KBox<dyn Any>` would be two pointers, and an enum as large as the largest of its variants.

use core::{
    any::TypeId,
    marker::PhantomPinned,
    ptr::NonNull, //
};
use kernel::prelude::*;
use pin_init::PinInit;

/// What is in the box, in front of it.
#[repr(C)]
struct Header {
    kind: TypeId,
    /// # Safety
    ///
    /// The pointer is that of a box of that kind, given up to the function.
    drop: unsafe fn(NonNull<Header>),
}

/// Header and value.
#[pin_data]
#[repr(C)]
struct Inner<T> {
    // First, so that a pointer to it is a pointer to the whole.
    header: Header,
    #[pin]
    value: T,
    #[pin]
    _pin: PhantomPinned,
}

/// The box, whose content is pinned.
///
/// # Invariants
///
/// Owns a box of an `Inner<T>` whose header says `T`.
pub(crate) struct Erased(NonNull<Header>);

// SAFETY: What is put in is `Send`.
unsafe impl Send for Erased {}
// SAFETY: What is put in is `Sync`.
unsafe impl Sync for Erased {}

impl Erased {
    /// A value that is there already, in a box.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn of<T: Send + Sync + 'static>(
        value: T,
        flags: kernel::alloc::Flags,
    ) -> Result<Self> {
        Self::new::<T, core::convert::Infallible>(value, flags)
    }

    /// Initialises a value in a box.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, and what the initialiser fails with.
    pub(crate) fn new<T: Send + Sync + 'static, E>(
        value: impl PinInit<T, E>,
        flags: kernel::alloc::Flags,
    ) -> Result<Self>
    where
        Error: From<E>,
    {
        let inner = KBox::try_pin_init(
            try_pin_init!(Inner {
                header: Header {
                    kind: TypeId::of::<T>(),
                    drop: Self::drop_as::<T>,
                },
                value <- value,
                _pin: PhantomPinned,
            }? Error),
            flags,
        )?;
        // SAFETY: It is not moved out of the box before it is dropped.
        let inner = KBox::into_raw(unsafe { Pin::into_inner_unchecked(inner) });
        // INVARIANT: As just written.
        // SAFETY: A box's pointer is not null.
        Ok(Erased(unsafe { NonNull::new_unchecked(inner.cast()) }))
    }

    /// The value, if it is of that type.
    #[inline]
    pub(crate) fn as_mut<T: 'static>(&mut self) -> Option<Pin<&mut T>> {
        // SAFETY: By the type's invariant.
        if unsafe { self.0.as_ref() }.kind != TypeId::of::<T>() {
            return None;
        }
        // SAFETY: It is of that type, borrowed as we are, and pinned.
        Some(unsafe { Pin::new_unchecked(&mut (*self.0.as_ptr().cast::<Inner<T>>()).value) })
    }

    /// The same, to look at.
    #[inline]
    pub(crate) fn as_ref<T: 'static>(&self) -> Option<Pin<&T>> {
        // SAFETY: By the type's invariant.
        if unsafe { self.0.as_ref() }.kind != TypeId::of::<T>() {
            return None;
        }
        // SAFETY: It is of that type, borrowed as we are, and pinned.
        Some(unsafe { Pin::new_unchecked(&(*self.0.as_ptr().cast::<Inner<T>>()).value) })
    }

    /// # Safety
    ///
    /// The pointer is that of a box of an `Inner<T>`, given up to this.
    unsafe fn drop_as<T>(inner: NonNull<Header>) {
        // SAFETY: By this function's contract.
        drop(unsafe { KBox::from_raw(inner.as_ptr().cast::<Inner<T>>()) });
    }
}

impl Drop for Erased {
    fn drop(&mut self) {
        // SAFETY: By the type's invariant; nobody uses it after this.
        unsafe { (self.0.as_ref().drop)(self.0) };
    }
}
