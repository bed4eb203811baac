// SPDX-License-Identifier: GPL-2.0

//! Marks that many watchers of a user have in common.

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

/// Marks that many watchers of a user have in common: one for each object.
#[pin_data]
pub(crate) struct Shares<T: Notify> {
    #[pin]
    group: Group<T>,
    /// By the object's address. One of an object that has ended may be left until another one is
    /// there.
    #[pin]
    marks: Mutex<RBTree<usize, Shared<T>>>,
}

struct Shared<T: Notify> {
    mark: Mark<T>,
    target: Arc<T>,
    shares: usize,
}

/// Who has such marks.
pub(crate) trait Sharing<T: Notify>: Send + Sync + 'static {
    fn shares(&self) -> &Shares<T>;
}

/// One watcher's part in such a mark.
pub(crate) struct Share<T: Notify, S: Sharing<T>> {
    of: Arc<S>,
    object: usize,
    target: Arc<T>,
}

impl<T: Notify> Shares<T> {
    /// No marks yet.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            group <- Group::new(),
            marks <- new_mutex!(RBTree::new(), "fsnotify_shares"),
        })
    }
}

impl<T: Notify, S: Sharing<T>> Share<T, S> {
    /// A part in the mark on the folder that `file` is in now, which is told of `events` in it.
    /// `new` makes the target if there is no such mark.
    ///
    /// # Errors
    ///
    /// What `new` fails with; `ENOENT` if the folder was removed; `EINVAL`, `ENOMEM`.
    pub(crate) fn of_folder(
        of: &Arc<S>,
        file: &File,
        events: u32,
        new: impl FnOnce() -> Result<Arc<T>>,
    ) -> Result<Self> {
        // SAFETY: The file has its name; the folder is kept by the reference. The mark is not told
        // of the folder.
        unsafe {
            let folder = bindings::dget_parent((*file.as_ptr()).__bindgen_anon_1.f_path.dentry);
            let result = NonNull::new((*folder).d_inode)
                .ok_or(ENOENT)
                .and_then(|inode| Self::join(of, Object::Inode(inode), events, new));
            bindings::dput(folder);
            result
        }
    }

    /// The same in the mark on the current task's mount namespace, for as long as that is.
    ///
    /// # Errors
    ///
    /// What `new` fails with; `EINVAL` for a task without one; `ENOMEM`.
    pub(crate) fn of_mounts(
        of: &Arc<S>,
        events: u32,
        new: impl FnOnce() -> Result<Arc<T>>,
    ) -> Result<Self> {
        let namespace = Object::current_mounts()?;
        // SAFETY: Valid while we run.
        unsafe { Self::join(of, namespace, events, new) }
    }

    /// # Safety
    ///
    /// The object is valid; the target is not told of it, if it is an inode.
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

    /// What the mark tells.
    pub(crate) fn target(&self) -> &Arc<T> {
        &self.target
    }
}

impl<T: Notify, S: Sharing<T>> Drop for Share<T, S> {
    fn drop(&mut self) {
        let mut marks = self.of.shares().marks.lock();
        let mut over = None;
        if let Some(shared) = marks.get_mut(&self.object) {
            // If it is another one, ours has ended with its object.
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
