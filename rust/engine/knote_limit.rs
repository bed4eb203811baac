// SPDX-License-Identifier: GPL-2.0

//! The limits on the knotes and timers of a user. Their values are parameters of the module
//! ([`super::module_params`], where `set_defaults` has the default values).
//!
//! The knotes of a kqueue are charged to the user who opened the kqueue. If that user is in a user
//! namespace, the knotes are also charged to the owner of the namespace and to the owners of its
//! ancestors. So a user cannot exceed the limit by means of a range of user ids in a namespace.
//! (Root as an owner is not charged, because the namespaces of root are those of the system.)
//!
//! The unit of the limit is memory. A knote that needs more memory than a plain one counts as
//! several units.

use super::{filter_ops::Filter, module_params, object_watches::WatchedObjects};
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

/// The unit of all charges, in bytes. It is the memory of a knote and of the bookkeeping for its
/// file.
pub(crate) const UNIT: usize = 160;

/// The accounts of all users who are charged for a kqueue, by user id.
#[pin_data]
pub(crate) struct Users {
    #[pin]
    users: Mutex<RBTree<u32, Entry>>,
}

/// The account of a user, and the number of [`User`]s that refer to it.
struct Entry {
    members: usize,
    account: Arc<Account>,
}

/// What is charged to a user. (The atomics are those of `core`, because C code does not access
/// them, and the atomics of the `kernel` crate are function calls.)
struct Account {
    /// The low bits are the number of units of memory that are charged to the user. The high bits,
    /// in steps of [`TIMER`], are the number of timers. One atomic operation charges both for a
    /// timer. Relaxed ordering suffices, because each operation is a read-modify-write operation
    /// whose own result is compared with the limit, and the number guards no other memory.
    held: AtomicU64,
    /// The objects that the user watches.
    objects: Arc<WatchedObjects>,
}

/// A user who is charged for a kqueue.
pub(crate) struct User {
    users: Arc<Users>,
    uid: u32,
    account: Arc<Account>,
    /// The next owner of a user namespace who is charged too.
    above: Option<Arc<User>>,
}

impl Users {
    /// No users.
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

    /// The users who are charged for a kqueue that the current task opens.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn current(self: &Arc<Self>) -> Result<Arc<User>> {
        let mut above = None;
        for uid in user::namespace_owners().filter(|uid| *uid != 0) {
            above = self.add_user(uid, above)?;
        }
        // The chain is not empty, because a user was just added.
        self.add_user(user::current_uid(), above)?.ok_or(ENOMEM)
    }

    /// Adds a user to the chain `above`, unless the chain contains that user already.
    fn add_user(self: &Arc<Self>, uid: u32, above: Option<Arc<User>>) -> Result<Option<Arc<User>>> {
        if User::chain(above.as_deref()).any(|user| user.uid == uid) {
            return Ok(above);
        }
        let account = self.account(uid)?;
        // Dropping this value decreases the number of members.
        let user = User {
            users: self.clone(),
            uid,
            account,
            above,
        };
        Ok(Some(Arc::new(user, GFP_KERNEL_ACCOUNT)?))
    }

    /// The account of the user with this id. Increases the number of its members.
    fn account(&self, uid: u32) -> Result<Arc<Account>> {
        if let Some(account) = Self::find_account(&mut self.users.lock(), uid) {
            return Ok(account);
        }
        // Memory is allocated without the mutex, because the allocation may take long.
        let account = Account {
            held: AtomicU64::new(0),
            objects: Arc::pin_init(WatchedObjects::new(), GFP_KERNEL_ACCOUNT)?,
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

/// The timers of all users (`kq_ncallouts`). The accesses are relaxed for the same reason as those
/// of [`Account::held`].
static TIMERS: AtomicUsize = AtomicUsize::new(0);

/// One timer, as [`Account::held`] counts it. The number of units in the low bits never reaches
/// this value, because the units stand for existing memory and 2^40 units are 160 TiB. If a user
/// without limits has 2^24 timers, the number of timers wraps around. That does not change the
/// number of units, and the number of timers is right again when there are fewer.
const TIMER: u64 = 1 << 40;

/// The counts of an account that are within the limits.
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
            units: held & (TIMER - 1) <= module_params::max_user_knotes() as u64,
            timers: held / TIMER <= module_params::max_user_timers() as u64,
        }
    }

    #[inline(always)]
    fn subtract(&self, amount: u64) {
        self.held.fetch_sub(amount, Ordering::Relaxed);
    }
}

impl User {
    /// The objects that the user watches.
    pub(crate) fn objects(&self) -> &Arc<WatchedObjects> {
        &self.account.objects
    }

    /// The user and all other users who are charged for the same kqueue.
    pub(crate) fn with_owners(&self) -> impl Iterator<Item = &User> {
        Self::chain(Some(self))
    }

    /// [`User::with_owners`] for an optional user.
    #[inline]
    fn chain(user: Option<&User>) -> impl Iterator<Item = &User> {
        successors(user, |user| user.above.as_deref())
    }

    /// Charges one more knote of this filter.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if the limit of the user is reached, `ENOMEM` if a limit on timers is reached.
    #[inline(always)]
    pub(crate) fn charge_knote(&self, filter: Filter) -> Result {
        if filter.has_timer() {
            self.charge_timer(filter.charge_units())
        } else {
            self.charge(filter.charge_units())
        }
    }

    /// Uncharges a knote.
    #[inline(always)]
    pub(crate) fn uncharge_knote(&self, filter: Filter) {
        if filter.has_timer() {
            self.uncharge_timer(filter.charge_units());
        } else {
            self.uncharge(filter.charge_units());
        }
    }

    /// Charges units of memory.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if the limit of the user is reached.
    #[inline(always)]
    fn charge(&self, units: u64) -> Result {
        if self.add(units).units {
            return Ok(());
        }
        self.uncharge(units);
        Err(ENOSPC)
    }

    /// Charges a timer and units of memory.
    ///
    /// # Errors
    ///
    /// The errors of [`User::charge_knote`].
    #[inline]
    fn charge_timer(&self, units: u64) -> Result {
        let fits = self.add(units + TIMER);
        let timers = TIMERS.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        if fits.units & fits.timers & (timers <= module_params::max_timers()) {
            return Ok(());
        }
        self.check_timer_excess(units, fits)
    }

    /// The rest of [`User::charge_timer`] if a limit was exceeded. A privileged task may exceed the
    /// limits on timers.
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

    /// [`User::add`] for this user and the owners above. It charges all of them even if one exceeds
    /// a limit, because uncharging applies to all of them as well.
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
        // The memory is freed without the mutex.
        drop(users);
        drop(unused);
    }
}

/// A charge for memory that is not that of a knote. Dropping it uncharges the memory.
pub(crate) struct Charge {
    user: Arc<User>,
    units: u64,
}

impl Charge {
    /// Charges `bytes` to the user.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if the limit of the user is reached.
    pub(crate) fn new(user: &Arc<User>, bytes: usize) -> Result<Self> {
        let units = (bytes / UNIT) as u64;
        // Zero units are always allowed, even if the limit was set below the present count.
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

/// A charge for a timer that is not that of an `EVFILT_TIMER` knote. Dropping it uncharges the
/// timer.
pub(crate) struct TimerCharge(Arc<User>);

impl TimerCharge {
    /// # Errors
    ///
    /// `ENOMEM` if a limit on timers is reached.
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
