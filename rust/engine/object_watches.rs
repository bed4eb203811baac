// SPDX-License-Identifier: GPL-2.0

//! The objects that a user watches: the limit on the watches of one object, and the marks of the
//! user.
//!
//! A task that changes a file, sends a signal or mounts a file system pays for each watch of the
//! object. So a user has at most `max_object_watches` watches of each object, just as the limit on
//! inotify instances bounds the watches of a file.

use super::{filter_ops::UserMarks, knote_limit::User, module_params};
use crate::sys::lock::raw_spin::IrqLock;
use kernel::{
    alloc::Flags,
    prelude::*,
    rbtree::{RBTree, RBTreeNode},
    static_lock_class,
    sync::Arc, //
};

/// The kind of object that is watched.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ObjectKind {
    Inode,
    OpenFile,
    Mounts,
    Process,
}

/// The kind of the object, its address, and a number for the part of the object that is watched.
type Key = (ObjectKind, usize, u32);

/// The objects that the kqueues of one user watch.
#[pin_data]
pub(crate) struct WatchedObjects {
    /// The number of watches of each object, which is not 0.
    #[pin]
    watched: IrqLock<RBTree<Key, usize>>,
    #[pin]
    pub(crate) marks: UserMarks,
}

/// A charge for one watch of an object. Dropping it uncharges the watch.
pub(crate) struct ObjectCharge {
    objects: Arc<WatchedObjects>,
    key: Key,
    /// The charge for the owner of the user's namespace.
    _owner: Option<KBox<ObjectCharge>>,
}

impl WatchedObjects {
    /// No objects.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            watched <- IrqLock::new(RBTree::new(), c"kqueue_objects", static_lock_class!()),
            marks <- UserMarks::new(),
        })
    }

    /// Counts one more watch, unless the limit is reached.
    fn count(&self, key: Key, flags: Flags) -> Result {
        let most = module_params::max_object_watches();
        if most == 0 {
            return Err(ENOSPC);
        }
        let more = |count: &mut usize| {
            if *count >= most {
                return Err(ENOSPC);
            }
            *count += 1;
            Ok(())
        };
        if let Some(count) = self.watched.lock().get_mut(&key) {
            return more(count);
        }
        let node = RBTreeNode::new(key, 1, flags)?;
        let mut watched = self.watched.lock();
        // Another task may have added the object meanwhile. Then the node is not needed.
        if let Some(count) = watched.get_mut(&key) {
            let result = more(count);
            drop(watched);
            drop(node);
            return result;
        }
        let replaced = watched.insert(node);
        drop(watched);
        drop(replaced);
        Ok(())
    }
}

impl User {
    /// Charges one more watch of an object. The owner of the charge ensures that the address is not
    /// reused for another object meanwhile. Otherwise the watch would also count for the other
    /// object. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if the user, or the owner of a user namespace that contains the user, has as many
    /// watches of the object as the limit allows; `ENOMEM`.
    pub(crate) fn charge_watch(
        &self,
        kind: ObjectKind,
        object: (usize, u32),
    ) -> Result<ObjectCharge> {
        self.charge_watch_with(kind, object, GFP_KERNEL_ACCOUNT)
    }

    /// [`User::charge_watch`] with memory that is allocated with `flags`, in any context that they
    /// allow.
    ///
    /// # Errors
    ///
    /// The errors of [`User::charge_watch`].
    pub(crate) fn charge_watch_with(
        &self,
        kind: ObjectKind,
        (address, number): (usize, u32),
        flags: Flags,
    ) -> Result<ObjectCharge> {
        let key = (kind, address, number);
        let mut charge = None;
        for user in self.with_owners() {
            // The order of the users does not matter.
            let owner = charge.map(|charge| KBox::new(charge, flags));
            let owner = owner.transpose()?;
            user.objects().count(key, flags)?;
            charge = Some(ObjectCharge {
                objects: user.objects().clone(),
                key,
                _owner: owner,
            });
        }
        charge.ok_or(ENOSPC)
    }
}

impl Drop for ObjectCharge {
    fn drop(&mut self) {
        let mut watched = self.objects.watched.lock();
        let unused = match watched.get_mut(&self.key) {
            Some(1) => watched.remove_node(&self.key),
            Some(count) => {
                *count -= 1;
                None
            }
            None => None,
        };
        drop(watched);
        drop(unused);
    }
}
