// SPDX-License-Identifier: GPL-2.0

//! A vector of few elements, on the stack.

use core::{
    marker::PhantomData,
    mem::MaybeUninit,
    ops::{Deref, DerefMut},
};

/// At most `N` elements.
///
/// # Invariants
///
/// The first `len` elements are initialised; `len` is at most `N`.
pub(crate) struct ArrayVec<T, const N: usize> {
    len: usize,
    elements: [MaybeUninit<T>; N],
}

impl<T, const N: usize> ArrayVec<T, N> {
    /// No elements; nothing is cleared.
    #[inline]
    pub(crate) fn new() -> Self {
        ArrayVec {
            len: 0,
            elements: [const { MaybeUninit::uninit() }; N],
        }
    }

    /// Adds an element if there is room.
    ///
    /// # Errors
    ///
    /// Gives it back if there is none.
    #[inline]
    pub(crate) fn push(&mut self, element: T) -> Result<(), T> {
        let Some(slot) = self.elements.get_mut(self.len) else {
            return Err(element);
        };
        slot.write(element);
        // INVARIANT: It was just written, and `len` was less than `N`.
        self.len = self.len.wrapping_add(1);
        Ok(())
    }

    /// Takes all elements out, in their order.
    #[inline]
    pub(crate) fn drain(&mut self) -> Drain<'_, T> {
        // INVARIANT: They are the other's from here on.
        let len = core::mem::replace(&mut self.len, 0);
        let elements = self.elements.as_ptr().cast::<T>();
        Drain {
            next: elements,
            // SAFETY: There are at least that many.
            end: unsafe { elements.add(len) },
            _vector: PhantomData,
        }
    }
}

/// The elements of a vector, as they are taken out.
///
/// # Invariants
///
/// Those from `next` to before `end` are initialised and owned by this.
pub(crate) struct Drain<'a, T> {
    next: *const T,
    end: *const T,
    _vector: PhantomData<&'a mut T>,
}

impl<T> Iterator for Drain<'_, T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        const { assert!(size_of::<T>() > 0) };
        if self.next == self.end {
            return None;
        }
        let at = self.next;
        // INVARIANT: The element is the caller's from here on.
        // SAFETY: It is initialised, and ours; the next one is at the end at most.
        unsafe {
            self.next = at.add(1);
            Some(at.read())
        }
    }
}

impl<T> Drop for Drain<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.for_each(drop);
    }
}

impl<T, const N: usize> Deref for ArrayVec<T, N> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: By the type's invariant.
        unsafe { core::slice::from_raw_parts(self.elements.as_ptr().cast(), self.len) }
    }
}

impl<T, const N: usize> DerefMut for ArrayVec<T, N> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: By the type's invariant.
        unsafe { core::slice::from_raw_parts_mut(self.elements.as_mut_ptr().cast(), self.len) }
    }
}

impl<T, const N: usize> Drop for ArrayVec<T, N> {
    #[inline]
    fn drop(&mut self) {
        self.drain().for_each(drop);
    }
}
