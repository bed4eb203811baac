// SPDX-License-Identifier: GPL-2.0

//! How many knotes a user may have, and how many timers there may be.
//!
//! A kqueue counts for the user who opened it, as a file counts for its opener. In a user namespace, who may have
//! the numbers of many users, it counts for the owner of that too, and so on outwards.

use crate::{
    filter::Filter,
    hook::params::{self, Uids},
    objects::Objects, //
};
use core::sync::atomic::{AtomicUsize, Ordering};
use kernel::{
    new_mutex,
    prelude::*,
    rbtree::RBTree,
    sync::{Arc, Mutex}, //
};

/// All users who have a kqueue, by number, with how many they have.
#[pin_data]
pub(crate) struct Users {
    #[pin]
    users: Mutex<RBTree<u32, Entry>>,
}

/// What is known of a user.
struct Entry {
    kqueues: usize,
    knotes: Arc<AtomicUsize>,
    objects: Arc<Objects>,
}

/// One user's count of knotes, held by each of their kqueues. (A number of Rust's own: those of the `kernel` crate
/// are calls, and nothing but Rust sees it.)
pub(crate) struct User {
    users: Arc<Users>,
    uid: u32,
    knotes: Arc<AtomicUsize>,
    objects: Arc<Objects>,
    /// The owner of the user namespace, if the user is in one of somebody else's.
    owner: Option<Arc<User>>,
}

impl Users {
    /// Nobody yet.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Users { users <- new_mutex!(RBTree::new()) }),
            GFP_KERNEL,
        )
    }

    /// The current task opens a kqueue: `uids` are its user and the owners of the user namespaces that it is in,
    /// from the inside out.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn enter(self: &Arc<Self>, uids: &Uids) -> Result<User> {
        let (first, owners) = uids.split_first().ok_or(EINVAL)?;
        let mut owner = None;
        for uid in owners.iter().rev() {
            let user = self.enter_one(*uid, owner.take())?;
            owner = Some(Arc::new(user, GFP_KERNEL_ACCOUNT)?);
        }
        self.enter_one(*first, owner)
    }

    fn enter_one(self: &Arc<Self>, uid: u32, owner: Option<Arc<User>>) -> Result<User> {
        let mut users = self.users.lock();
        let (knotes, objects) = if let Some(entry) = users.get_mut(&uid) {
            entry.kqueues += 1;
            (entry.knotes.clone(), entry.objects.clone())
        } else {
            let knotes = Arc::new(AtomicUsize::new(0), GFP_KERNEL)?;
            let objects = Arc::pin_init(Objects::new(), GFP_KERNEL_ACCOUNT)?;
            let entry = Entry {
                kqueues: 1,
                knotes: knotes.clone(),
                objects: objects.clone(),
            };
            users.try_create_and_insert(uid, entry, GFP_KERNEL)?;
            (knotes, objects)
        };
        Ok(User {
            users: self.clone(),
            uid,
            knotes,
            objects,
            owner,
        })
    }
}

/// The timers of all users (`kq_ncallouts`).
static TIMERS: AtomicUsize = AtomicUsize::new(0);

/// One more, if that is not too many.
fn take(count: &AtomicUsize, most: usize) -> Option<()> {
    if count.fetch_add(1, Ordering::Relaxed) >= most {
        leave(count);
        return None;
    }
    Some(())
}

fn leave(count: &AtomicUsize) {
    count.fetch_sub(1, Ordering::Relaxed);
}

impl User {
    /// The objects that the user watches.
    pub(crate) fn objects(&self) -> &Arc<Objects> {
        &self.objects
    }

    /// The user and those whom their doings count for too.
    pub(crate) fn with_owners(&self) -> impl Iterator<Item = &User> {
        core::iter::successors(Some(self), |user| user.owner.as_deref())
    }

    /// Takes a place for one more knote of that filter.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if the user has as many as they may, `ENOMEM` if there are as many timers as there may be.
    #[inline]
    pub(crate) fn take_place(&self, filter: Filter) -> Result {
        take(&self.knotes, params::max_user_knotes()).ok_or(ENOSPC)?;
        if filter == Filter::Timer {
            take(&TIMERS, params::max_timers())
                .ok_or(ENOMEM)
                .inspect_err(|_| leave(&self.knotes))?;
        }
        Ok(())
    }

    /// Gives it back.
    #[inline]
    pub(crate) fn leave_place(&self, filter: Filter) {
        if filter == Filter::Timer {
            leave(&TIMERS);
        }
        leave(&self.knotes);
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let mut users = self.users.users.lock();
        if let Some(entry) = users.get_mut(&self.uid) {
            entry.kqueues -= 1;
            if entry.kqueues == 0 {
                users.remove(&self.uid);
            }
        }
    }
}
