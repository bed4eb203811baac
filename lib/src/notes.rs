// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

//! Notes of files, processes and mounts.

use crate::abi;
use bitflags::bitflags;

bitflags! {
    /// Changes of a file (`EVFILT_VNODE`).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct FileNotes: u32 {
        /// The last name of the file was removed.
        const DELETE = abi::NOTE_DELETE;
        /// The file was written to, or the entries of the directory changed.
        const WRITE = abi::NOTE_WRITE;
        /// The file grew.
        const EXTEND = abi::NOTE_EXTEND;
        /// The attributes of the file changed.
        const ATTRIB = abi::NOTE_ATTRIB;
        /// The link count of the file changed.
        const LINK = abi::NOTE_LINK;
        /// The file was renamed.
        const RENAME = abi::NOTE_RENAME;
        /// The file system of the file was unmounted.
        const REVOKE = abi::NOTE_REVOKE;
        /// The file was opened.
        const OPEN = abi::NOTE_OPEN;
        /// A descriptor without write access was closed.
        const CLOSE = abi::NOTE_CLOSE;
        /// A descriptor with write access was closed.
        const CLOSE_WRITE = abi::NOTE_CLOSE_WRITE;
        /// The file was read.
        const READ = abi::NOTE_READ;
    }

    /// Events of a process (`EVFILT_PROC`).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct ProcessNotes: u32 {
        /// The process exited, and can be waited for.
        const EXIT = abi::NOTE_EXIT;
        /// The process forked.
        const FORK = abi::NOTE_FORK;
        /// The process executed a program.
        const EXEC = abi::NOTE_EXEC;
        /// The descendants of the process are watched in the same way.
        const TRACK = abi::NOTE_TRACK;
        /// Reported: a child could not be watched.
        const TRACKERR = abi::NOTE_TRACKERR;
        /// Reported: the process is a new child of a tracked process.
        const CHILD = abi::NOTE_CHILD;
    }

    /// Changes of mounts (`EVFILT_FS`).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct MountNotes: u32 {
        /// A file system was mounted.
        const MOUNT = abi::VQ_MOUNT;
        /// A file system was unmounted.
        const UNMOUNT = abi::VQ_UNMOUNT;
    }
}
