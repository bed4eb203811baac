// SPDX-License-Identifier: GPL-2.0

//! The state that all kqueues share.

use super::{
    close::BoundKnotes,
    filter_ops::FilterProbes, //
    knote::Slabs,
    knote_limit::Users,
    nesting::Nesting,
};
use kernel::{fmt, prelude::*, sync::Arc};

/// The state that all kqueues share.
pub(crate) struct SharedState {
    pub(crate) bound_knotes: Arc<BoundKnotes>,
    pub(crate) nesting: Arc<Nesting>,
    pub(crate) users: Arc<Users>,
    /// The slab caches of the knotes.
    pub(crate) knotes: Slabs,
    /// The probes of the filters.
    pub(crate) probes: FilterProbes,
}

impl SharedState {
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Arc<Self>> {
        let shared = SharedState {
            bound_knotes: BoundKnotes::new()?,
            nesting: Nesting::new()?,
            users: Users::new()?,
            knotes: Slabs::new()?,
            probes: FilterProbes::new()?,
        };
        Ok(Arc::new(shared, GFP_KERNEL)?)
    }

    /// Prints one line for each probe, with its state and the number of its watches.
    pub(crate) fn show_probes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bound_knotes.show(f)?;
        self.probes.show(f)
    }

    /// Unregisters all probes, and waits for handlers that are running. No kqueue is open any more.
    pub(crate) fn stop(&self) {
        self.bound_knotes.stop();
        self.probes.stop();
    }
}
