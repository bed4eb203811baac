// SPDX-License-Identifier: GPL-2.0

//! The filters define what each kind of event source means by "ready" and by `data`.
//!
//! Filters are policy. The mechanisms that they use are in [`crate::sys`]. The kinds of files are
//! in [`crate::file`]. Each filter is a row of the table of filters below, and its type is in a
//! file of this folder. The other files (`descriptor`, `fast_path`, `offset_watch`,
//! `probes_and_marks`) are shared by filters.

mod aio;
mod descriptor;
mod except;
mod fast_path;
mod fs;
mod offset_watch;
mod probes_and_marks;
mod process;
mod read;
mod signal;
mod timer;
mod user;
mod vnode;
mod write;

pub(crate) use crate::file::FileKind;
pub(crate) use fast_path::FastPath;
pub(crate) use probes_and_marks::{FilterProbes, UserMarks};

use crate::{
    engine::{
        filter_ops::{AttachArgs, Attached, FilterOps, Report}, //
        knote::{KnoteInner, LockedKnote, UnderMutex},
    },
    sys::{
        file::poll::PollEvents,
        memory::user_scratch::UserScratch,
        notify::fsnotify::mask, //
    },
    uapi::*, //
};
use kernel::prelude::*;

/// Defines [`Filter`] from rows `Name = EVFILT_NUMBER => type that implements FilterOps`. Each
/// method of `Filter` selects the row of the filter, and calls a function of that type or returns
/// one of its constants. [`FilterOps`] documents these functions and constants.
macro_rules! filters {
    ($($name:ident = $number:ident => $ops:ty,)*) => {
        /// A filter of the ABI. The discriminants are the `EVFILT_*` numbers.
        #[derive(Clone, Copy, PartialEq, Eq)]
        #[repr(i8)]
        pub(crate) enum Filter {
            $($name = $number as i8,)*
        }

        // The rows are in the order of the numbers, which begin at -1. (`!n` is `-1 - n`.)
        const _: () = {
            let numbers = [$($number),*];
            assert!(numbers.len() <= 16);
            let mut row = 0;
            while row < numbers.len() {
                assert!(numbers[row] == !(row as i16));
                row += 1;
            }
        };

        impl Filter {
            /// Returns the filter with that number, if there is one.
            #[inline]
            pub(crate) fn from_raw(raw: i16) -> Option<Self> {
                match raw {
                    $($number => Some(Filter::$name),)*
                    _ => None,
                }
            }

            /// The number of the filter.
            #[inline]
            pub(crate) fn raw(self) -> i16 {
                i16::from(self as i8)
            }

            /// The index of the row of the filter: 0 for the number -1, 1 for -2, and so on.
            #[inline(always)]
            const fn row(self) -> usize {
                // `& 15` tells the compiler that the index is valid for an array of 16 elements.
                !(self as i8) as usize & 15
            }

            /// True if the ident is a descriptor.
            #[inline(always)]
            pub(crate) fn is_descriptor(self) -> bool {
                match self {
                    $(Filter::$name => <$ops>::IS_DESCRIPTOR,)*
                }
            }

            /// True if the descriptor may be one that was opened with `O_PATH`.
            #[inline(always)]
            pub(crate) fn accepts_o_path(self) -> bool {
                match self {
                    $(Filter::$name => <$ops>::ACCEPTS_O_PATH,)*
                }
            }

            /// True if a knote stays until its last event has been reported, even if its ident (a
            /// PID) names another process by then.
            #[inline(always)]
            pub(crate) fn stays_after_pid_reuse(self) -> bool {
                match self {
                    $(Filter::$name => <$ops>::STAYS_AFTER_PID_REUSE,)*
                }
            }

            /// The filter with which knotes of the same descriptor form a pair.
            #[inline(always)]
            pub(crate) fn partner(self) -> Option<Self> {
                match self {
                    $(Filter::$name => <$ops>::PARTNER,)*
                }
            }

            /// The poll events that activate a knote of [`Filter::partner`].
            #[inline(always)]
            pub(crate) fn partner_wake_events(self) -> PollEvents {
                match self.partner() {
                    Some(partner) => partner.wake_events(),
                    None => PollEvents::NONE,
                }
            }

            /// True if each knote has a timer.
            #[inline(always)]
            pub(crate) fn has_timer(self) -> bool {
                match self {
                    $(Filter::$name => <$ops>::HAS_TIMER,)*
                }
            }

            /// True if a change only stores parameters in the knote. Then the engine applies it
            /// under the spin lock.
            #[inline(always)]
            pub(crate) fn change_affects_knote_only(self) -> bool {
                match self {
                    $(Filter::$name => <$ops>::CHANGE_AFFECTS_KNOTE_ONLY,)*
                }
            }

            /// True if the filter is called after an event was delivered.
            #[inline(always)]
            pub(crate) fn handles_delivery(self) -> bool {
                match self {
                    $(Filter::$name => <$ops>::HANDLES_DELIVERY,)*
                }
            }

            /// The memory of a knote and of its attachment, in units of
            /// [`UNIT`](crate::engine::knote_limit::UNIT).
            // This is a table in memory, because the compiler turns a match with many results into
            // comparisons.
            #[inline(always)]
            pub(crate) fn charge_units(self) -> u64 {
                const UNITS: [u8; 16] = {
                    let mut units = [0; 16];
                    $(units[Filter::$name.row()] = <$ops>::CHARGE_UNITS;)*
                    units
                };
                UNITS[self.row()].into()
            }

            /// Calls [`FilterOps::wake_events`] of this filter.
            #[inline(always)]
            pub(crate) fn wake_events(self) -> PollEvents {
                match self {
                    $(Filter::$name => <$ops>::wake_events(),)*
                }
            }

            /// Calls [`FilterOps::attach`] of this filter.
            ///
            /// # Errors
            ///
            /// Those of the filter.
            #[inline(always)]
            pub(crate) fn attach(
                self,
                args: AttachArgs<'_>,
                under_mutex: &mut UnderMutex,
            ) -> Result<Attached> {
                // Each row builds its own `AttachArgs` from the fields, so that the compiler can
                // keep the fields in registers. The rows whose source is in the knote
                // are tested first.
                let AttachArgs { knote, change, file, primary, fd_table } = args;
                match self {
                    $(Filter::$name if <$ops>::SOURCE_IS_IN_KNOTE => {
                        let args = AttachArgs { knote, change, file, primary, fd_table };
                        <$ops>::attach(args, under_mutex)
                    })*
                    $(Filter::$name => {
                        let args = AttachArgs { knote, change, file, primary, fd_table };
                        <$ops>::attach(args, under_mutex)
                    })*
                }
            }

            /// Calls [`FilterOps::touch`] of this filter.
            ///
            /// # Errors
            ///
            /// Those of the filter.
            #[inline(always)]
            pub(crate) fn touch(self, locked: &mut LockedKnote<'_>, change: &Kevent) -> Result {
                match self {
                    $(Filter::$name => <$ops>::touch(locked.reborrow(), change),)*
                }
            }

            /// Calls [`FilterOps::touch_params`] of this filter.
            #[inline(always)]
            pub(crate) fn touch_params(self, inner: &mut KnoteInner, change: &Kevent) {
                match self {
                    $(Filter::$name => <$ops>::touch_params(inner, change),)*
                }
            }

            /// Calls [`FilterOps::discards_pending`] of this filter.
            #[inline(always)]
            pub(crate) fn discards_pending(self, change: &Kevent) -> bool {
                match self {
                    $(Filter::$name => <$ops>::discards_pending(change),)*
                }
            }

            /// Calls [`FilterOps::event`] of this filter.
            #[inline(always)]
            pub(crate) fn event(
                self,
                locked: &mut LockedKnote<'_>,
                scratch: UserScratch,
            ) -> Option<Report> {
                // The fields are copied one by one, because the compiler would otherwise keep all
                // reports in memory.
                let Report { flags, fflags, data } = match self {
                    $(Filter::$name => <$ops>::event(locked.reborrow(), scratch)?,)*
                };
                Some(Report { flags, fflags, data })
            }

            /// Calls [`FilterOps::select_fast_path`] of this filter.
            #[inline(always)]
            pub(crate) fn select_fast_path(self, inner: &KnoteInner) -> FastPath {
                match self {
                    $(Filter::$name => <$ops>::select_fast_path(inner),)*
                }
            }

            /// Calls [`FilterOps::needs_recheck`] of this filter.
            #[inline(always)]
            pub(crate) fn needs_recheck(self, inner: &KnoteInner) -> bool {
                match self {
                    $(Filter::$name => <$ops>::needs_recheck(inner),)*
                }
            }

            /// Calls [`FilterOps::delivered`] of this filter.
            #[inline(always)]
            pub(crate) fn delivered(self, locked: &mut LockedKnote<'_>, event: &Kevent) -> bool {
                match self {
                    $(Filter::$name => <$ops>::delivered(locked.reborrow(), event),)*
                }
            }

            /// Calls [`FilterOps::can_be_renewed`] of this filter.
            #[inline(always)]
            pub(crate) fn can_be_renewed(self, inner: &KnoteInner) -> bool {
                match self {
                    $(Filter::$name => <$ops>::can_be_renewed(inner),)*
                }
            }

            /// Calls [`FilterOps::is_renewable`] of this filter.
            #[inline(always)]
            pub(crate) fn is_renewable(self, locked: &LockedKnote<'_>) -> bool {
                match self {
                    $(Filter::$name => <$ops>::is_renewable(locked),)*
                }
            }

            /// Calls [`FilterOps::undelivered`] of this filter.
            #[inline(always)]
            pub(crate) fn undelivered(self, inner: &mut KnoteInner, event: &Kevent) {
                match self {
                    $(Filter::$name => <$ops>::undelivered(inner, event),)*
                }
            }

            /// Calls [`FilterOps::matches_ident`] of this filter.
            #[inline(always)]
            pub(crate) fn matches_ident(self, inner: &KnoteInner, ident: u64) -> bool {
                match self {
                    $(Filter::$name => <$ops>::matches_ident(inner, ident),)*
                }
            }

            /// Calls [`FilterOps::watches_same`] of this filter.
            pub(crate) fn watches_same(self, inner: &KnoteInner, other: &KnoteInner) -> bool {
                match self {
                    $(Filter::$name => <$ops>::watches_same(inner, other),)*
                }
            }
        }
    };
}

// The table of filters (`sysfilt_ops[]`) in the order of their numbers.
filters! {
    Read = EVFILT_READ => read::Read,
    Write = EVFILT_WRITE => write::Write,
    Aio = EVFILT_AIO => aio::Aio,
    Vnode = EVFILT_VNODE => vnode::Vnode,
    Proc = EVFILT_PROC => process::Proc,
    Signal = EVFILT_SIGNAL => signal::Signal,
    Timer = EVFILT_TIMER => timer::Timer,
    Except = EVFILT_EXCEPT => except::Except,
    User = EVFILT_USER => user::User,
    Fs = EVFILT_FS => fs::Fs,
    Procdesc = EVFILT_PROCDESC => process::Procdesc,
}

/// The fsnotify events that report a change of the entries of a directory.
const ENTRIES: u32 = mask::CREATE | mask::DELETE | mask::MOVED_FROM | mask::MOVED_TO;

/// Checks that a filter supports all notes of a change. A change may contain notes that occur only
/// in events, because programs pass events in again as changes. The filters for descriptors,
/// signals and user events do not call this. They accept any `fflags`, which select nothing there;
/// in an event of a socket they may be its error.
///
/// # Errors
///
/// `EINVAL` if the change has a note that is not in `notes`.
fn check_notes(change: &Kevent, notes: u32) -> Result {
    if change.fflags & !notes != 0 {
        return Err(EINVAL);
    }
    Ok(())
}
