// SPDX-License-Identifier: GPL-2.0

//! Marks that are shared by many watchers of one user.
//!
//! The mutex `marks` protects the table of marks and is held while a mark is created. A mark that
//! is removed from the table is dropped outside the mutex.

use super::{
    mark::{Group, Mark, Object},
    Notify,
};
use core::ptr::NonNull;
use kernel::{
    bindings,
    fs::File,
    new_mutex,
    prelude::*,
    rbtree::RBTree,
    sync::{Arc, Mutex},
};

/// The shared marks of one user, one for each object.
#[pin_data]
pub(crate) struct SharedMarks<T: Notify> {
    #[pin]
    group: Group<T>,
    /// The marks, keyed by the address of the object. The mark of an object that was freed may
    /// remain until another object has the address.
    #[pin]
    marks: Mutex<RBTree<usize, SharedEntry<T>>>,
}

struct SharedEntry<T: Notify> {
    mark: Mark<T>,
    target: Arc<T>,
    users: usize,
}

/// The owner of the shared marks of a user.
pub(crate) trait SharedMarksOwner<T: Notify>: Send + Sync + 'static {
    fn shared_marks(&self) -> &SharedMarks<T>;
}

/// A watcher's share of a mark. The mark is dropped with its last share.
pub(crate) struct SharedMark<T: Notify, S: SharedMarksOwner<T>> {
    owner: Arc<S>,
    object: usize,
    target: Arc<T>,
}

impl<T: Notify> SharedMarks<T> {
    /// A table without marks.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            group <- Group::new(),
            marks <- new_mutex!(RBTree::new(), "fsnotify_shares"),
        })
    }
}

impl<T: Notify, S: SharedMarksOwner<T>> SharedMark<T, S> {
    /// A share of the mark on the directory that contains `file` now. The mark reports `events` in
    /// that directory. `new` creates the target if there is no such mark.
    ///
    /// # Errors
    ///
    /// The errors of `new`; `ENOENT` if the directory was removed; `EINVAL`, `ENOMEM`.
    pub(crate) fn of_parent(
        owner: &Arc<S>,
        file: &File,
        events: u32,
        new: impl FnOnce() -> Result<Arc<T>>,
    ) -> Result<Self> {
        // SAFETY: The file has a dentry, and the reference keeps the directory. The events of the
        // mark are not about the directory itself.
        unsafe {
            let parent = bindings::dget_parent((*file.as_ptr()).__bindgen_anon_1.f_path.dentry);
            let result = NonNull::new((*parent).d_inode)
                .ok_or(ENOENT)
                .and_then(|inode| Self::get_or_create(owner, Object::Inode(inode), events, new));
            bindings::dput(parent);
            result
        }
    }

    /// A share of the mark on the mount namespace of the current task. The mark ends with the
    /// namespace.
    ///
    /// # Errors
    ///
    /// The errors of `new`; `EINVAL` for a task without a mount namespace; `ENOMEM`.
    pub(crate) fn of_mounts(
        owner: &Arc<S>,
        events: u32,
        new: impl FnOnce() -> Result<Arc<T>>,
    ) -> Result<Self> {
        let namespace = Object::current_mounts()?;
        // SAFETY: The current task keeps its mount namespace.
        unsafe { Self::get_or_create(owner, namespace, events, new) }
    }

    /// # Safety
    ///
    /// The object is valid. If it is an inode, the events of the mark are not about that inode
    /// itself.
    unsafe fn get_or_create(
        owner: &Arc<S>,
        object: Object,
        events: u32,
        new: impl FnOnce() -> Result<Arc<T>>,
    ) -> Result<Self> {
        let shared_marks = owner.shared_marks();
        let address = object.address();
        let mut marks = shared_marks.marks.lock();
        let (target, ended) = match marks.get_mut(&address) {
            Some(shared) if shared.mark.is_attached() => {
                shared.users += 1;
                (shared.target.clone(), None)
            }
            _ => {
                let target = new()?;
                let shared = SharedEntry {
                    // SAFETY: The caller upholds this function's safety contract.
                    mark: unsafe { Mark::add(&shared_marks.group, object, events, &target)? },
                    target: target.clone(),
                    users: 1,
                };
                let ended = marks.try_create_and_insert(address, shared, GFP_KERNEL_ACCOUNT)?;
                (target, ended)
            }
        };
        drop(marks);
        drop(ended);
        Ok(SharedMark {
            owner: owner.clone(),
            object: address,
            target,
        })
    }

    /// The target of the mark.
    pub(crate) fn target(&self) -> &Arc<T> {
        &self.target
    }
}

impl<T: Notify, S: SharedMarksOwner<T>> Drop for SharedMark<T, S> {
    fn drop(&mut self) {
        let mut marks = self.owner.shared_marks().marks.lock();
        let mut ended = None;
        if let Some(shared) = marks.get_mut(&self.object) {
            // If this is another mark, ours has ended with its object.
            if Arc::ptr_eq(&shared.target, &self.target) {
                shared.users -= 1;
                if shared.users == 0 {
                    ended = marks.remove_node(&self.object);
                }
            }
        }
        drop(marks);
        drop(ended);
    }
}
