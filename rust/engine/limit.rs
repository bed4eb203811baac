// SPDX-License-Identifier: GPL-2.0

//! How many knotes and timers a user may have.
//!
//! A kqueue counts for the user who opened it, as a file counts for its opener. In a user namespace
//! it counts also for the user who made the namespace, and for those of the namespaces around it.
//! So a user who has a range of user numbers may have no more by that. (This does not hold for
//! root, whose namespaces are those of the system.)
//!
//! Memory is counted: a knote that takes more of it counts as several.

use super::{objects::Objects, ops::Filter, params};
use crate::sys::process::user;
use core::{
    iter::successors,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering}, //
};
use kernel::{
    new_mutex,
    prelude::*,
    rbtree::{RBTree, RBTreeNode},
    sync::{Arc, Mutex}, //
};

/// The memory of a knote and of the bookkeeping for its file, in bytes: the unit of all counts.
pub(crate) const UNIT: usize = 160;

/// All users for whom a kqueue counts, by number, with the number of their places in chains of
/// [`User`]s.
#[pin_data]
pub(crate) struct Users {
    #[pin]
    users: Mutex<RBTree<u32, Entry>>,
}

/// What is known of a user.
struct Entry {
    members: usize,
    account: Arc<Account>,
}

/// What a user has. (These are Rust's own atomics, since those of the `kernel` crate are calls, and
/// C does not see these.)
struct Account {
    /// The number of units of memory that count for the user, and in the bits above them, in steps
    /// of [`TIMER`], the number of timers. A timer counts in both, by one atomic operation.
    held: AtomicU64,
    /// The objects that the user watches.
    objects: Arc<Objects>,
}

/// A user for whom a kqueue counts.
pub(crate) struct User {
    users: Arc<Users>,
    uid: u32,
    account: Arc<Account>,
    /// The other users for whom it counts.
    above: Option<Arc<User>>,
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

    /// The current task opens a kqueue.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn current(self: &Arc<Self>) -> Result<Arc<User>> {
        let mut above = None;
        for uid in user::namespace_owners().filter(|uid| *uid != 0) {
            above = self.add_user(uid, above)?;
        }
        // The last user was added just now, so there is one.
        self.add_user(user::current_uid(), above)?.ok_or(ENOMEM)
    }

    /// Adds a user for whom it counts, unless it counts for that user already.
    fn add_user(self: &Arc<Self>, uid: u32, above: Option<Arc<User>>) -> Result<Option<Arc<User>>> {
        if User::chain(above.as_deref()).any(|user| user.uid == uid) {
            return Ok(above);
        }
        let account = self.account(uid)?;
        // When this is dropped, the user leaves.
        let user = User {
            users: self.clone(),
            uid,
            account,
            above,
        };
        Ok(Some(Arc::new(user, GFP_KERNEL_ACCOUNT)?))
    }

    /// The account of the user of that number, which gets one member more.
    fn account(&self, uid: u32) -> Result<Arc<Account>> {
        if let Some(account) = Self::find_account(&mut self.users.lock(), uid) {
            return Ok(account);
        }
        // The allocation may take long, and others wait for the mutex.
        let account = Account {
            held: AtomicU64::new(0),
            objects: Arc::pin_init(Objects::new(), GFP_KERNEL_ACCOUNT)?,
        };
        let account = Arc::new(account, GFP_KERNEL_ACCOUNT)?;
        let entry = Entry {
            members: 1,
            account: account.clone(),
        };
        let node = RBTreeNode::new(uid, entry, GFP_KERNEL_ACCOUNT)?;
        let mut users = self.users.lock();
        if let Some(account) = Self::find_account(&mut users, uid) {
            return Ok(account);
        }
        users.insert(node);
        Ok(account)
    }

    fn find_account(users: &mut RBTree<u32, Entry>, uid: u32) -> Option<Arc<Account>> {
        let entry = users.get_mut(&uid)?;
        entry.members += 1;
        Some(entry.account.clone())
    }
}

/// The timers of all users (`kq_ncallouts`).
static TIMERS: AtomicUsize = AtomicUsize::new(0);

/// One timer, as it counts in [`Account::held`]. The units below it stand for memory that exists,
/// so their number never reaches it: 2^40 units are 160 TiB. If a user without limits has 2^24
/// timers, their number wraps around. The number of units does not change by that, and the number
/// of timers is right again once there are fewer.
const TIMER: u64 = 1 << 40;

/// Which counts of an account are within the limits.
#[derive(Clone, Copy)]
struct WithinLimits {
    units: bool,
    timers: bool,
}

impl Account {
    /// Adds `amount` to the count.
    #[inline(always)]
    fn add(&self, amount: u64) -> WithinLimits {
        let held = self
            .held
            .fetch_add(amount, Ordering::Relaxed)
            .wrapping_add(amount);
        WithinLimits {
            units: held & (TIMER - 1) <= params::max_user_knotes() as u64,
            timers: held / TIMER <= params::max_user_timers() as u64,
        }
    }

    #[inline(always)]
    fn subtract(&self, amount: u64) {
        self.held.fetch_sub(amount, Ordering::Relaxed);
    }
}

impl User {
    /// The objects that the user watches.
    pub(crate) fn objects(&self) -> &Arc<Objects> {
        &self.account.objects
    }

    /// The user and all others for whom the same kqueue counts.
    pub(crate) fn with_owners(&self) -> impl Iterator<Item = &User> {
        Self::chain(Some(self))
    }

    /// [`User::with_owners`], also for no user.
    #[inline]
    fn chain(user: Option<&User>) -> impl Iterator<Item = &User> {
        successors(user, |user| user.above.as_deref())
    }

    /// Takes a place for one more knote of that filter.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if the user has as many as they may, `ENOMEM` if there are as many timers as there
    /// may be.
    #[inline(always)]
    pub(crate) fn charge_knote(&self, filter: Filter) -> Result {
        if filter.has_timer() {
            self.charge_timer(filter.weight())
        } else {
            self.charge(filter.weight())
        }
    }

    /// Gives back the place of a knote.
    #[inline(always)]
    pub(crate) fn uncharge_knote(&self, filter: Filter) {
        if filter.has_timer() {
            self.uncharge_timer(filter.weight());
        } else {
            self.uncharge(filter.weight());
        }
    }

    /// Takes places for that many units of memory.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if the user has as many as they may.
    #[inline(always)]
    fn charge(&self, units: u64) -> Result {
        if self.add(units).units {
            return Ok(());
        }
        self.uncharge(units);
        Err(ENOSPC)
    }

    /// Takes a place for a timer and that many units of memory.
    ///
    /// # Errors
    ///
    /// As for [`User::charge_knote`].
    #[inline]
    fn charge_timer(&self, units: u64) -> Result {
        let fits = self.add(units + TIMER);
        let timers = TIMERS.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        if fits.units & fits.timers & (timers <= params::max_timers()) {
            return Ok(());
        }
        self.check_timer_excess(units, fits)
    }

    /// There are too many timers, or too many units. The administrator may have more timers.
    #[cold]
    fn check_timer_excess(&self, units: u64, fits: WithinLimits) -> Result {
        if !fits.units {
            self.uncharge_timer(units);
            return Err(ENOSPC);
        }
        if user::may_exceed_limits() {
            return Ok(());
        }
        self.uncharge_timer(units);
        Err(ENOMEM)
    }

    #[inline(always)]
    fn uncharge_timer(&self, units: u64) {
        self.uncharge(units + TIMER);
        TIMERS.fetch_sub(1, Ordering::Relaxed);
    }

    #[inline(always)]
    fn add(&self, amount: u64) -> WithinLimits {
        let fits = self.account.add(amount);
        match &self.above {
            None => fits,
            Some(above) => above.add_to_all(amount, fits),
        }
    }

    /// For the user and those above. All counts are increased, since all are decreased again.
    #[cold]
    fn add_to_all(&self, amount: u64, below: WithinLimits) -> WithinLimits {
        Self::chain(Some(self)).fold(below, |so_far, user| {
            let fits = user.account.add(amount);
            WithinLimits {
                units: so_far.units && fits.units,
                timers: so_far.timers && fits.timers,
            }
        })
    }

    #[inline(always)]
    fn uncharge(&self, amount: u64) {
        self.account.subtract(amount);
        if let Some(above) = &self.above {
            above.subtract_from_all(amount);
        }
    }

    #[cold]
    fn subtract_from_all(&self, amount: u64) {
        for user in Self::chain(Some(self)) {
            user.account.subtract(amount);
        }
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let mut users = self.users.users.lock();
        let is_last = users.get_mut(&self.uid).is_some_and(|entry| {
            entry.members -= 1;
            entry.members == 0
        });
        let unused = if is_last {
            users.remove_node(&self.uid)
        } else {
            None
        };
        // Its memory is freed without the mutex.
        drop(users);
        drop(unused);
    }
}

/// Memory that counts for a user and is not that of a knote; given back when dropped.
pub(crate) struct Charge {
    user: Arc<User>,
    units: u64,
}

impl Charge {
    /// Counts that many bytes.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if the user has as much as they may.
    pub(crate) fn new(user: &Arc<User>, bytes: usize) -> Result<Self> {
        let units = (bytes / UNIT) as u64;
        // Zero units always fit, even if the limit was set below the present count.
        if units > 0 {
            user.charge(units)?;
        }
        Ok(Charge {
            user: user.clone(),
            units,
        })
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.user.uncharge(self.units);
    }
}

/// A timer that counts for a user and is not that of an `EVFILT_TIMER` knote; given back when
/// dropped.
pub(crate) struct TimerCharge(Arc<User>);

impl TimerCharge {
    /// # Errors
    ///
    /// `ENOMEM` if there are as many timers as there may be.
    pub(crate) fn new(user: &Arc<User>) -> Result<Self> {
        user.charge_timer(0)?;
        Ok(TimerCharge(user.clone()))
    }
}

impl Drop for TimerCharge {
    fn drop(&mut self) {
        self.0.uncharge_timer(0);
    }
}
