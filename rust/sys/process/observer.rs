// SPDX-License-Identifier: GPL-2.0

//! Who watches a process, and what they may know of it by now.
//!
//! A process changes: it executes a set-user-ID program, or takes another user's rights. So who
//! watches one is kept as they were when they began, and asked at each event whether they may look
//! at the process as it is then. The rule is that of ptrace (`__ptrace_may_access()`), as by what
//! may be read in `/proc/PID`: the user and group are the same in all three places, the
//! capabilities are a subset, and the program is one that its owner may look at; or the watcher has
//! `CAP_SYS_PTRACE` where the process is. What security modules say of a process cannot be asked
//! for somebody who is not the current task; whether they let the watcher use the capability is.
//!
//! A process may always know of itself, as long as it is the program that began to watch.
//!
//! # Context
//!
//! [`Observer::may_look`] may be called in any context but NMI, for a task whose memory is valid:
//! it is in an RCU read-side critical section of its own, in which the kernel keeps credentials,
//! what is known of the executed program (`task->exec_state`), and user namespaces.
//!
//! C headers: [`include/linux/cred.h`](srctree/include/linux/cred.h),
//! [`include/linux/sched/exec_state.h`](srctree/include/linux/sched/exec_state.h)

use super::pid::Process;
use crate::generated;
use core::{marker::PhantomData, ptr, ptr::NonNull};
use kernel::{
    bindings,
    cred::Credential,
    current,
    ffi::c_int,
    pid_namespace::PidNamespace,
    prelude::*,
    sync::{aref::ARef, rcu, Arc},
    task::Task, //
};

const CAP_KILL: c_int = bindings::CAP_KILL as c_int;
const CAP_SYS_PTRACE: c_int = bindings::CAP_SYS_PTRACE as c_int;

/// No program has that number (`self_exec_id`).
const NO_PROGRAM: u64 = u64::MAX;

/// A task that something is told of, or asked about.
///
/// # Invariants
///
/// Its memory is valid for `'a`.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a>(NonNull<bindings::task_struct>, PhantomData<&'a ()>);

impl<'a> Subject<'a> {
    /// # Safety
    ///
    /// The task's memory is valid for `'a`.
    #[inline]
    pub(crate) unsafe fn new(task: NonNull<bindings::task_struct>) -> Self {
        // INVARIANT: By this function's contract.
        Subject(task, PhantomData)
    }

    /// A number that changes when the process executes a program, and that its children have from
    /// it.
    #[inline]
    fn program(self) -> u64 {
        // SAFETY: Valid by the type's invariant, and read at once, as it is written.
        unsafe { (&raw const (*self.0.as_ptr()).self_exec_id).read_volatile() }
    }
}

/// Who watches.
#[derive(Clone)]
pub(crate) struct Observer {
    watcher: Arc<Watcher>,
    /// If it watches itself, the program that does.
    program: u64,
}

/// What is known of a watcher, whatever it watches.
pub(crate) struct Watcher {
    credentials: ARef<Credential>,
    /// False if a security module keeps it from using `CAP_SYS_PTRACE`. The module is asked once, until
    /// the credentials change or another task watches something with the same `last`.
    may_use_capability: bool,
    /// Its process.
    process: Process,
    /// Where its children are named.
    namespace: ARef<PidNamespace>,
}

impl Watcher {
    /// The current task.
    ///
    /// # Errors
    ///
    /// `ESRCH` if it is no process. `ENOMEM`.
    fn current() -> Result<Arc<Self>> {
        let process = Process::current().ok_or(ESRCH)?;
        // SAFETY: No preconditions. The reference is ours.
        let credentials = unsafe {
            let raw = generated::kq_current_cred_get().cast_mut();
            ARef::<Credential>::from_raw(NonNull::new_unchecked(raw.cast()))
        };
        let raw = credentials.as_ptr();
        // SAFETY: Credentials are valid while there is a reference, and so is their namespace.
        let may_use_capability = unsafe {
            !has(raw, CAP_SYS_PTRACE)
                || generated::kq_current_is_capable((*raw).user_ns, CAP_SYS_PTRACE)
        };
        let task: &Task = current!();
        let watcher = Watcher {
            credentials,
            may_use_capability,
            process,
            namespace: task.get_pid_ns().ok_or(ESRCH)?,
        };
        Ok(Arc::new(watcher, GFP_KERNEL_ACCOUNT)?)
    }

    /// True if it is the current task, as it is now. (Credentials do not change: a task gets others.
    /// The namespace that a process is in is its own for good.)
    fn is_current(&self) -> bool {
        // SAFETY: The current task is valid, and its credentials are changed by itself only.
        let credentials = unsafe { (*bindings::get_current()).cred };
        ptr::eq(credentials, self.credentials.as_ptr()) && self.process.is_current()
    }
}

impl Observer {
    /// The current task, which begins to watch `process`. What was known of it is kept in `last`, for the
    /// next time.
    ///
    /// # Errors
    ///
    /// `ESRCH` if it is no process. `ENOMEM`.
    pub(crate) fn current(process: &Process, last: &mut Option<Arc<Watcher>>) -> Result<Self> {
        let watcher = match last {
            Some(watcher) if watcher.is_current() => watcher.clone(),
            _ => last.insert(Watcher::current()?).clone(),
        };
        let program = if watcher.process.id() == process.id() {
            // SAFETY: The current task is valid.
            unsafe { Subject::new(NonNull::new_unchecked(bindings::get_current())) }.program()
        } else {
            NO_PROGRAM
        };
        Ok(Observer { watcher, program })
    }

    /// Where the children of the watcher are named.
    pub(crate) fn namespace(&self) -> &PidNamespace {
        &self.watcher.namespace
    }

    /// The process that it is.
    pub(crate) fn process(&self) -> &Process {
        &self.watcher.process
    }

    /// True if it is that process. (The pointer is only compared.)
    pub(in crate::sys) fn is(&self, process: *mut bindings::pid) -> bool {
        self.watcher.process.id() == process.addr()
    }

    /// True if it may know what the task does, as it is now.
    #[inline]
    pub(crate) fn may_look(&self, subject: Subject<'_>) -> bool {
        // Children of the process have the program from it, until they execute another.
        subject.program() == self.program || self.has_right_to(subject)
    }

    #[inline(never)]
    fn has_right_to(&self, subject: Subject<'_>) -> bool {
        let _rcu = rcu::read_lock();
        let own = self.watcher.credentials.as_ptr();
        // SAFETY: The task is valid by its type's invariant, and RCU keeps its credentials, and
        // with them their namespace. Ours are valid while there is a reference. They do not change.
        let (alike, theirs) = unsafe {
            let theirs = generated::kq_task_cred(subject.0.as_ptr());
            let users = [(*theirs).uid, (*theirs).euid, (*theirs).suid];
            let groups = [(*theirs).gid, (*theirs).egid, (*theirs).sgid];
            let permitted = (*theirs).cap_permitted.val;
            let is_one = |user: bindings::kuid_t, group: bindings::kgid_t, capabilities: u64| {
                users.iter().all(|id| id.val == user.val)
                    && groups.iter().all(|id| id.val == group.val)
                    && permitted & !capabilities == 0
            };
            let alike = ptr::eq((*own).user_ns, (*theirs).user_ns)
                && (is_one((*own).uid, (*own).gid, (*own).cap_permitted.val)
                    || is_one((*own).euid, (*own).egid, (*own).cap_effective.val));
            (alike, (*theirs).user_ns)
        };
        // SAFETY: RCU keeps the namespace.
        if !alike && !unsafe { self.is_capable_in(theirs) } {
            return false;
        }
        let mut look = generated::kq_exec_look::default();
        // SAFETY: The task is valid. RCU keeps what is known of the program, and its namespace.
        unsafe {
            generated::kq_task_exec_look(subject.0.as_ptr(), &raw mut look);
            look.dumpable || self.is_capable_in(look.user_ns)
        }
    }

    /// True if it has `CAP_SYS_PTRACE` in `namespace`.
    ///
    /// # Safety
    ///
    /// The namespace is valid.
    unsafe fn is_capable_in(&self, namespace: *mut bindings::user_namespace) -> bool {
        // SAFETY: Ours are valid while there is a reference; by this function's contract.
        self.watcher.may_use_capability
            && unsafe { is_capable(self.watcher.credentials.as_ptr(), namespace, CAP_SYS_PTRACE) }
    }

    /// True if the current task, which is the observer, might send a signal to the task.
    pub(in crate::sys) fn may_signal(&self, subject: Subject<'_>) -> bool {
        let _rcu = rcu::read_lock();
        let own = self.watcher.credentials.as_ptr();
        // SAFETY: As in `has_right_to`.
        unsafe {
            let theirs = generated::kq_task_cred(subject.0.as_ptr());
            let (real, saved) = ((*theirs).uid.val, (*theirs).suid.val);
            [(*own).uid.val, (*own).euid.val]
                .iter()
                .any(|user| *user == real || *user == saved)
                || generated::kq_current_is_capable((*theirs).user_ns, CAP_KILL)
        }
    }
}

/// True if the capability is among those in effect.
///
/// # Safety
///
/// The credentials are valid.
unsafe fn has(credentials: *const bindings::cred, capability: c_int) -> bool {
    // SAFETY: By this function's contract.
    unsafe { (*credentials).cap_effective.val & (1 << capability) != 0 }
}

/// True if who has those credentials has the capability in `namespace`: there or in one above, or
/// because it is theirs. (`cap_capable()`, which is not exported, and `ns_capable()` is about the
/// current task.)
///
/// # Safety
///
/// Both are valid.
unsafe fn is_capable(
    credentials: *const bindings::cred,
    mut namespace: *mut bindings::user_namespace,
    capability: c_int,
) -> bool {
    // SAFETY: By this function's contract; a namespace has a reference to that above it, and the
    // first has level 0.
    unsafe {
        let own = (*credentials).user_ns;
        while !ptr::eq(namespace, own) {
            if (*namespace).level <= (*own).level {
                return false;
            }
            if ptr::eq((*namespace).parent, own)
                && (*namespace).owner.val == (*credentials).euid.val
            {
                return true;
            }
            namespace = (*namespace).parent;
        }
        has(credentials, capability)
    }
}
