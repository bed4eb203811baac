// SPDX-License-Identifier: GPL-2.0

//! A probe that is registered only while it has users.
//!
//! Registering a probe patches kernel code, and then every task in the system that reaches the
//! probed code runs the probe. An [`OnDemandProbe`] therefore registers its [`Probe`] with the
//! first user, and unregisters it after the last user has left, with a delay that
//! each probe defines ([`Probe::LINGER_MILLIS`]; for closes in `engine/close/probe.rs`).
//!
//! # Context and locks
//!
//! The mutex `registered` serialises registering and unregistering. It is taken in task context
//! only, outside all other locks of this folder.
//!
//! # Examples
//!
//! ```ignore
//! let probe = Arc::pin_init(OnDemandProbe::new(Fprobe::new(c"do_exit")), GFP_KERNEL)?;
//! probe.acquire()?; // Registers the probe if necessary.
//! probe.release(); // The probe is unregistered after a delay.
//! probe.stop(); // Before unload: unregisters the probe and waits for running calls.
//! ```

use kernel::{
    bindings,
    ffi::c_int,
    fmt,
    new_mutex,
    prelude::*,
    sync::{
        atomic::{ordering, Atomic},
        Mutex, //
    },
    time::msecs_to_jiffies,
    types::Opaque, //
};

use crate::generated;

/// A method of calling a function when a certain event happens in the kernel.
///
/// # Safety
///
/// After `unregister` has returned, the function is not called any more, and no call of it is
/// running.
pub(crate) unsafe trait Probe: Send + Sync + Sized + 'static {
    /// The time in milliseconds for which the probe stays registered after its last user has left.
    const LINGER_MILLIS: u32;

    /// Registers the probe, so that the function is called.
    ///
    /// # Safety
    ///
    /// `on_demand` contains this probe. It stays valid and is not moved before `unregister` has
    /// returned. The probe is not registered.
    unsafe fn register(&self, on_demand: *const OnDemandProbe<Self>) -> Result;

    /// Unregisters the probe and waits for calls that are running. May sleep.
    ///
    /// # Safety
    ///
    /// The probe is registered with the same `on_demand`.
    unsafe fn unregister(&self, on_demand: *const OnDemandProbe<Self>);
}

/// A probe that is registered while it has users.
#[pin_data(PinnedDrop)]
#[repr(C)]
pub(crate) struct OnDemandProbe<P: Probe> {
    // The first field, so that a pointer to it is also a pointer to the structure.
    probe: P,
    /// The delayed work that unregisters the probe.
    #[pin]
    remove: Opaque<bindings::delayed_work>,
    #[pin]
    registered: Mutex<bool>,
    /// [`REGISTERED`], if the probe is registered, and [`USER`] for each user (`selftests/state`,
    /// `on_demand`).
    ///
    /// A task that adds itself finds out in the same step whether the probe is registered. The work
    /// that unregisters the probe clears `REGISTERED` only if there is no user, also in one step.
    /// So a probe that is registered for a user stays registered until that user has left, and no
    /// task finds a probe unregistered that another user keeps registered.
    ///
    /// `REGISTERED` is set with release ordering and read with acquire ordering, so the
    /// registration is complete for a task that reads it. A decrement is relaxed. The last user
    /// queues the work after it, and the locks of timers and workqueues order the two before the
    /// work.
    users: Atomic<usize>,
}

/// The bit of `users` that is set while the probe is registered.
const REGISTERED: usize = 1;
/// What each user adds to `users`.
const USER: usize = 2;

// SAFETY: The work is only passed to functions that do their own locking. The other fields are
// `Send`.
unsafe impl<P: Probe> Send for OnDemandProbe<P> {}
// SAFETY: The work is only passed to functions that do their own locking. The other fields are
// `Sync`.
unsafe impl<P: Probe> Sync for OnDemandProbe<P> {}

impl<P: Probe> OnDemandProbe<P> {
    /// An on-demand probe that is not registered.
    pub(crate) fn new(probe: P) -> impl PinInit<Self> {
        pin_init!(Self {
            probe,
            // SAFETY: The initialiser guarantees that `slot` is valid for writes.
            remove <- Opaque::ffi_init(|slot| unsafe {
                generated::kq_init_delayed_work(slot, Some(Self::remove_if_unused))
            }),
            registered <- new_mutex!(false),
            users: Atomic::new(0),
        })
    }

    /// For statistics: whether the probe is registered, and the number of watches.
    pub(crate) fn show(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let registered = *self.registered.lock();
        // The number is only printed.
        let users = self.users.load(ordering::Relaxed) / USER;
        writeln!(f, "{name} registered: {registered} watches: {users}")
    }

    /// Adds a user. True if the probe is registered. Otherwise the caller registers the probe or
    /// removes the user.
    fn enter(&self) -> bool {
        self.users.fetch_add(USER, ordering::Acquire) & REGISTERED != 0
    }

    /// Adds a user if the probe is registered. Does not sleep.
    pub(super) fn acquire_ready(&self) -> Option<()> {
        if self.enter() {
            return Some(());
        }
        // Meanwhile another task may have registered the probe and left, and the work may have kept
        // the probe for this user. So the work is queued again if this was the last one.
        self.release();
        None
    }

    /// Adds a user and registers the probe if necessary. May sleep.
    ///
    /// # Errors
    ///
    /// The errors of [`Probe::register`].
    pub(crate) fn acquire(&self) -> Result {
        if self.enter() {
            return Ok(());
        }
        let mut registered = self.registered.lock();
        if !*registered {
            // SAFETY: The probe is not registered. The structure is pinned, and `drop` unregisters
            // the probe.
            if let Err(error) = unsafe { self.probe.register(self) } {
                // The probe is not registered, so no work is queued.
                self.users.fetch_sub(USER, ordering::Relaxed);
                return Err(error);
            }
            *registered = true;
            self.users.fetch_add(REGISTERED, ordering::Release);
        }
        Ok(())
    }

    /// Removes a user. If it was the last one, schedules the removal of the probe.
    pub(crate) fn release(&self) {
        if self.users.fetch_sub(USER, ordering::Relaxed) & !REGISTERED == USER {
            // SAFETY: The work was initialised in `new`. `drop` cancels it.
            unsafe {
                bindings::mod_delayed_work_on(
                    bindings::wq_misc_consts_WORK_CPU_UNBOUND as c_int,
                    bindings::system_dfl_wq,
                    self.remove.get(),
                    msecs_to_jiffies(P::LINGER_MILLIS),
                )
            };
        }
    }

    /// The function of the delayed work: unregisters the probe unless it has a user again.
    ///
    /// # Safety
    ///
    /// `work` is within the field `remove` of a live `OnDemandProbe<P>`.
    unsafe extern "C" fn remove_if_unused(work: *mut bindings::work_struct) {
        // SAFETY: `work` is within the field `remove` of an on-demand probe. That probe is alive,
        // because `drop` waits for this function.
        let this = unsafe {
            let remove = kernel::container_of!(work, bindings::delayed_work, work);
            let remove = remove.cast::<Opaque<bindings::delayed_work>>();
            &*kernel::container_of!(remove, OnDemandProbe<P>, remove)
        };
        let mut registered = this.registered.lock();
        if this.users.cmpxchg(REGISTERED, 0, ordering::Full).is_ok() {
            this.unregister(&mut registered);
        }
    }

    /// Unregisters the probe now. It gets no users any more.
    ///
    /// The owner calls this instead of leaving it to `drop`, because a call of the probe that is
    /// running may hold the last reference but one.
    pub(crate) fn stop(&self) {
        // Unregister first. A probe call that fails to add a watch could otherwise queue the work
        // again.
        let mut registered = self.registered.lock();
        if *registered {
            self.users.fetch_sub(REGISTERED, ordering::Relaxed);
        }
        self.unregister(&mut registered);
        drop(registered);
        // SAFETY: The work was initialised in `new`.
        unsafe { bindings::cancel_delayed_work_sync(self.remove.get()) };
    }

    fn unregister(&self, registered: &mut bool) {
        if *registered {
            // SAFETY: `acquire` has registered the probe.
            unsafe { self.probe.unregister(self) };
            *registered = false;
        }
    }
}

#[pinned_drop]
impl<P: Probe> PinnedDrop for OnDemandProbe<P> {
    fn drop(self: Pin<&mut Self>) {
        self.into_ref().stop();
    }
}
