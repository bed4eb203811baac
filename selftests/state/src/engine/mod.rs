// SPDX-License-Identifier: GPL-2.0

//! The parts of the module's engine that are checked, and what they find around them.

pub(crate) mod kqueue;
#[path = "../../../../rust/engine/sleepers.rs"]
#[allow(dead_code, clippy::undocumented_unsafe_blocks)]
pub(crate) mod sleepers;
#[path = "../../../../rust/engine/state.rs"]
#[allow(dead_code)]
pub(crate) mod state;

pub(crate) mod locks {
    //! Keys, which prove nothing here.

    use std::marker::PhantomData;

    pub(crate) struct LockToken<L>(pub(crate) PhantomData<L>);
}
