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
pub(crate) struct Shares<T: Notify> {
    #[pin]
    group: Group<T>,
    /// The marks, keyed by the address of the object. The mark of an object that was freed may
    /// remain until another object has the address.
    #[pin]
    marks: Mutex<RBTree<usize, Shared<T>>>,
}

struct Shared<T: Notify> {
    mark: Mark<T>,
    target: Arc<T>,
    shares: usize,
}

/// The owner of the shared marks of a user.
pub(crate) trait Sharing<T: Notify>: Send + Sync + 'static {
    fn shares(&self) -> &Shares<T>;
}

/// A watcher's share of a mark. The mark is dropped with its last share.
pub(crate) struct Share<T: Notify, S: Sharing<T>> {
    of: Arc<S>,
    object: usize,
    target: Arc<T>,
}

impl<T: Notify> Shares<T> {
    /// A table without marks.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            group <- Group::new(),
            marks <- new_mutex!(RBTree::new(), "fsnotify_shares"),
        })
    }
}

impl<T: Notify, S: Sharing<T>> Share<T, S> {
    /// A share of the mark on the directory that contains `file` now. The mark reports `events` in
    /// that directory. `new` creates the target if there is no such mark.
    ///
    /// # Errors
    ///
    /// The errors of `new`; `ENOENT` if the directory was removed; `EINVAL`, `ENOMEM`.
    pub(crate) fn of_folder(
        of: &Arc<S>,
        file: &File,
        events: u32,
        new: impl FnOnce() -> Result<Arc<T>>,
    ) -> Result<Self> {
        // SAFETY: The file has a dentry, and the reference keeps the directory. The events of the
        // mark are not about the directory itself.
        unsafe {
            let folder = bindings::dget_parent((*file.as_ptr()).__bindgen_anon_1.f_path.dentry);
            let result = NonNull::new((*folder).d_inode)
                .ok_or(ENOENT)
                .and_then(|inode| Self::join(of, Object::Inode(inode), events, new));
            bindings::dput(folder);
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
        of: &Arc<S>,
        events: u32,
        new: impl FnOnce() -> Result<Arc<T>>,
    ) -> Result<Self> {
        let namespace = Object::current_mounts()?;
        // SAFETY: The current task keeps its mount namespace.
        unsafe { Self::join(of, namespace, events, new) }
    }

    /// # Safety
    ///
    /// The object is valid. If it is an inode, the events of the mark are not about that inode
    /// itself.
    unsafe fn join(
        of: &Arc<S>,
        object: Object,
        events: u32,
        new: impl FnOnce() -> Result<Arc<T>>,
    ) -> Result<Self> {
        let shares = of.shares();
        let address = object.address();
        let mut marks = shares.marks.lock();
        let (target, ended) = match marks.get_mut(&address) {
            Some(shared) if shared.mark.is_attached() => {
                shared.shares += 1;
                (shared.target.clone(), None)
            }
            _ => {
                let target = new()?;
                let shared = Shared {
                    // SAFETY: The caller upholds this function's safety contract.
                    mark: unsafe { Mark::add(&shares.group, object, events, &target)? },
                    target: target.clone(),
                    shares: 1,
                };
                let ended = marks.try_create_and_insert(address, shared, GFP_KERNEL_ACCOUNT)?;
                (target, ended)
            }
        };
        drop(marks);
        drop(ended);
        Ok(Share {
            of: of.clone(),
            object: address,
            target,
        })
    }

    /// The target of the mark.
    pub(crate) fn target(&self) -> &Arc<T> {
        &self.target
    }
}

impl<T: Notify, S: Sharing<T>> Drop for Share<T, S> {
    fn drop(&mut self) {
        let mut marks = self.of.shares().marks.lock();
        let mut over = None;
        if let Some(shared) = marks.get_mut(&self.object) {
            // If this is another mark, ours has ended with its object.
            if Arc::ptr_eq(&shared.target, &self.target) {
                shared.shares -= 1;
                if shared.shares == 0 {
                    over = marks.remove_node(&self.object);
                }
            }
        }
        drop(marks);
        drop(over);
    }
}
