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

    /// Where the next elements go, at most that many.
    #[inline]
    pub(crate) fn free(&mut self, most: usize) -> Free<'_, T> {
        let elements = self.elements.as_mut_ptr();
        // SAFETY: There are so many behind the others.
        unsafe {
            let at = elements.add(self.len);
            // INVARIANT: As above.
            Free {
                at,
                end: at.add(most.min(N.wrapping_sub(self.len))),
                first: elements,
                len: &mut self.len,
            }
        }
    }

    /// Drops all elements.
    #[inline]
    pub(crate) fn clear(&mut self) {
        self.drain().for_each(drop);
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

/// The free slots of a vector, as they are filled. What was put there is in the vector when this is dropped.
///
/// # Invariants
///
/// From `first` to before `at` are initialised elements of the vector whose length that is, from `at` to before
/// `end` free ones.
pub(crate) struct Free<'a, T> {
    at: *mut MaybeUninit<T>,
    end: *mut MaybeUninit<T>,
    first: *mut MaybeUninit<T>,
    len: &'a mut usize,
}

impl<T> Free<'_, T> {
    /// True if there is no room.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.at == self.end
    }

    /// Adds an element, if there is room.
    #[inline]
    pub(crate) fn push(&mut self, element: T) {
        if !self.is_full() {
            // INVARIANT: One more is initialised.
            // SAFETY: There is a free slot.
            unsafe {
                (*self.at).write(element);
                self.at = self.at.add(1);
            }
        }
    }
}

impl<T> Drop for Free<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: Both are within the same vector.
        *self.len = unsafe { self.at.offset_from(self.first) } as usize;
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
        self.clear();
    }
}
