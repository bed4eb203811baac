// SPDX-License-Identifier: GPL-2.0

//! A pinned box whose static type does not name the type of its content.
//!
//! A `KBox<dyn Any>` is two pointers wide, and an enum is as large as its largest variant. An
//! [`ErasedBox`] is one pointer wide. The header of the allocation identifies the type.

use core::{
    any::TypeId,
    marker::PhantomPinned,
    ptr::NonNull, //
};
use kernel::prelude::*;
use pin_init::PinInit;

/// The description of the content, which precedes it.
#[repr(C)]
struct Header {
    kind: TypeId,
    /// # Safety
    ///
    /// The pointer comes from a box of an `Inner<T>` of this type, and the function takes the
    /// ownership of the box.
    drop: unsafe fn(NonNull<Header>),
}

/// The allocation: the header and the value.
#[pin_data]
#[repr(C)]
struct Inner<T> {
    // The first field, so that a pointer to it is also a pointer to the structure.
    header: Header,
    #[pin]
    value: T,
    #[pin]
    _pin: PhantomPinned,
}

/// A box of a pinned value of some type.
///
/// # Invariants
///
/// It owns a box of an `Inner<T>` whose header describes `T`.
pub(crate) struct ErasedBox(NonNull<Header>);

// SAFETY: The constructors require that the value is `Send`.
unsafe impl Send for ErasedBox {}
// SAFETY: The constructors require that the value is `Sync`.
unsafe impl Sync for ErasedBox {}

impl ErasedBox {
    /// Moves an existing value into a box.
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
    /// `ENOMEM`, and the errors of the initialiser.
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
        // SAFETY: The value is not moved out of the box before it is dropped.
        let inner = KBox::into_raw(unsafe { Pin::into_inner_unchecked(inner) });
        // INVARIANT: The header was just initialised for `T`.
        // SAFETY: The pointer of a box is not null.
        Ok(ErasedBox(unsafe { NonNull::new_unchecked(inner.cast()) }))
    }

    /// A mutable reference to the value, if it is of type `T`.
    #[inline]
    pub(crate) fn as_mut<T: 'static>(&mut self) -> Option<Pin<&mut T>> {
        // SAFETY: The type's invariant guarantees this.
        if unsafe { self.0.as_ref() }.kind != TypeId::of::<T>() {
            return None;
        }
        // SAFETY: The value is of this type and pinned. The result borrows from `self`.
        Some(unsafe { Pin::new_unchecked(&mut (*self.0.as_ptr().cast::<Inner<T>>()).value) })
    }

    /// A shared reference to the value, if it is of type `T`.
    #[inline]
    pub(crate) fn as_ref<T: 'static>(&self) -> Option<Pin<&T>> {
        // SAFETY: The type's invariant guarantees this.
        if unsafe { self.0.as_ref() }.kind != TypeId::of::<T>() {
            return None;
        }
        // SAFETY: The value is of this type and pinned. The result borrows from `self`.
        Some(unsafe { Pin::new_unchecked(&(*self.0.as_ptr().cast::<Inner<T>>()).value) })
    }

    /// # Safety
    ///
    /// The pointer comes from a box of an `Inner<T>`. The caller passes the ownership of the box to
    /// this function.
    unsafe fn drop_as<T>(inner: NonNull<Header>) {
        // SAFETY: The caller upholds this function's safety contract.
        drop(unsafe { KBox::from_raw(inner.as_ptr().cast::<Inner<T>>()) });
    }
}

impl Drop for ErasedBox {
    fn drop(&mut self) {
        // SAFETY: The type's invariant guarantees that this value owns the box. Nothing uses the
        // box afterwards.
        unsafe { (self.0.as_ref().drop)(self.0) };
    }
}
