// SPDX-License-Identifier: GPL-2.0

//! kqueue: the BSD event interface.
#![crate_name = "kqueue"]

mod device;
mod filter;
#[allow(
    clippy::all,
    dead_code,
    improper_ctypes,
    missing_docs,
    non_camel_case_types,
    non_upper_case_globals,
    clippy::undocumented_unsafe_blocks,
    unreachable_pub,
    unsafe_op_in_unsafe_fn
)]
mod generated {
    //! What bindgen made of `rust/bindings.h`.
    use kernel::{bindings::*, ffi};
    include!(env!("KQUEUE_BINDINGS"));
}
mod hook;
mod kevent;
mod knote;
mod kqueue;
mod state;
mod table;
mod uapi;

use hook::{chardev::Registration, close::CloseHook, workqueue::OwnQueue};
use kernel::{prelude::*, sync::Arc};
use kqueue::Kqueue;

module! {
    type: KqueueModule,
    name: "kqueue",
    authors: ["The kqueue for Linux developers"],
    description: "The BSD kqueue event interface",
    license: "GPL",
}

/// The loaded module.
#[pin_data]
struct KqueueModule {
    // Dropped in this order: no more files, then nothing more at work, then the hook.
    #[pin]
    _device: Registration<Kqueue>,
    _work: OwnQueue,
    _close_hook: Arc<CloseHook>,
}

impl kernel::InPlaceModule for KqueueModule {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        pin_init::pin_init_scope(|| {
            let close_hook = CloseHook::new()?;
            let work = OwnQueue::new(c"kqueue")?;
            Ok(try_pin_init!(Self {
                _close_hook: close_hook.clone(),
                _work: work,
                _device <- Registration::new(c"kqueue", 0o666, close_hook),
            }? Error))
        })
    }
}
