// SPDX-License-Identifier: GPL-2.0

//! How many knotes a user may have.
//!
//! A kqueue counts for the user who opened it, as a file counts for its opener.

use crate::hook::params;
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
}

/// One user's count of knotes, held by each of their kqueues. (A number of Rust's own: those of the `kernel` crate
/// are calls, and nothing but Rust sees it.)
pub(crate) struct User {
    users: Arc<Users>,
    uid: u32,
    knotes: Arc<AtomicUsize>,
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

    /// The user of that number opens a kqueue.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn enter(self: &Arc<Self>, uid: u32) -> Result<User> {
        let mut users = self.users.lock();
        let knotes = if let Some(entry) = users.get_mut(&uid) {
            entry.kqueues += 1;
            entry.knotes.clone()
        } else {
            let knotes = Arc::new(AtomicUsize::new(0), GFP_KERNEL)?;
            let entry = Entry {
                kqueues: 1,
                knotes: knotes.clone(),
            };
            users.try_create_and_insert(uid, entry, GFP_KERNEL)?;
            knotes
        };
        Ok(User {
            users: self.clone(),
            uid,
            knotes,
        })
    }
}

impl User {
    /// Takes a place for one more knote.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if the user has as many as they may.
    pub(crate) fn take_place(&self) -> Result {
        if self.knotes.fetch_add(1, Ordering::Relaxed) >= params::max_user_knotes() {
            self.leave_place();
            return Err(ENOSPC);
        }
        Ok(())
    }

    /// Gives one back.
    pub(crate) fn leave_place(&self) {
        self.knotes.fetch_sub(1, Ordering::Relaxed);
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
