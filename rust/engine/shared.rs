// SPDX-License-Identifier: GPL-2.0

//! What all kqueues share.

use super::{
    close::BoundKnotes,
    knote_memory::Slabs,
    limit::Users,
    nesting::Nesting,
    ops::FilterProbes, //
};
use kernel::{fmt, prelude::*, sync::Arc};

/// What all kqueues share.
pub(crate) struct Shared {
    pub(crate) bound_knotes: Arc<BoundKnotes>,
    pub(crate) nesting: Arc<Nesting>,
    pub(crate) users: Arc<Users>,
    /// Where knotes are made.
    pub(crate) knotes: Slabs,
    /// What the filters share.
    pub(crate) probes: FilterProbes,
}

impl Shared {
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Arc<Self>> {
        let shared = Shared {
            bound_knotes: BoundKnotes::new()?,
            nesting: Nesting::new()?,
            users: Users::new()?,
            knotes: Slabs::new()?,
            probes: FilterProbes::new()?,
        };
        Ok(Arc::new(shared, GFP_KERNEL)?)
    }

    /// One line for each probe: whether it is registered, and how many watch.
    pub(crate) fn show_probes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bound_knotes.show(f)?;
        self.probes.show(f)
    }

    /// Takes all probes away, and waits for those that run. No kqueue is open any more.
    pub(crate) fn stop(&self) {
        self.bound_knotes.stop();
        self.probes.stop();
    }
}
