// SPDX-License-Identifier: GPL-2.0

//! The module's hooks that are checked, and what they find around them.

#[path = "../../../rust/hook/sleepers.rs"]
#[allow(dead_code, clippy::undocumented_unsafe_blocks)]
pub(crate) mod sleepers;

pub(crate) mod knote {
    //! Keys, which prove nothing here.

    use std::marker::PhantomData;

    pub(crate) struct Key<L>(pub(crate) PhantomData<L>);
}
