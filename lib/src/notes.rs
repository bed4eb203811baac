// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

//! Notes of files, processes and mounts.

use crate::abi;
use bitflags::bitflags;

bitflags! {
    /// Changes of a file (`EVFILT_VNODE`).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct FileNotes: u32 {
        /// Its last name was removed.
        const DELETE = abi::NOTE_DELETE;
        /// It was written to; entries of a directory changed.
        const WRITE = abi::NOTE_WRITE;
        /// It grew.
        const EXTEND = abi::NOTE_EXTEND;
        /// Its attributes changed.
        const ATTRIB = abi::NOTE_ATTRIB;
        /// Its link count changed.
        const LINK = abi::NOTE_LINK;
        /// It was renamed.
        const RENAME = abi::NOTE_RENAME;
        /// Its file system was unmounted.
        const REVOKE = abi::NOTE_REVOKE;
        /// It was opened.
        const OPEN = abi::NOTE_OPEN;
        /// A descriptor without write access was closed.
        const CLOSE = abi::NOTE_CLOSE;
        /// A descriptor with write access was closed.
        const CLOSE_WRITE = abi::NOTE_CLOSE_WRITE;
        /// It was read.
        const READ = abi::NOTE_READ;
    }

    /// Events of a process (`EVFILT_PROC`).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct ProcessNotes: u32 {
        /// It exited, and can be waited for.
        const EXIT = abi::NOTE_EXIT;
        /// It forked.
        const FORK = abi::NOTE_FORK;
        /// It executed a program.
        const EXEC = abi::NOTE_EXEC;
        /// Its descendants are watched in the same way.
        const TRACK = abi::NOTE_TRACK;
        /// Reported: a child could not be watched.
        const TRACKERR = abi::NOTE_TRACKERR;
        /// Reported: it is a new child of a tracked process.
        const CHILD = abi::NOTE_CHILD;
    }

    /// Changes of mounts (`EVFILT_FS`).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct MountNotes: u32 {
        /// One was mounted.
        const MOUNT = abi::VQ_MOUNT;
        /// One was unmounted.
        const UNMOUNT = abi::VQ_UNMOUNT;
    }
}
