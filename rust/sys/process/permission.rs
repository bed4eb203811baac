// SPDX-License-Identifier: GPL-2.0

//! The permission of a task to observe a process.
//!
//! The rights of a process change when it executes a set-user-ID program or changes its
//! credentials. Therefore an [`Observer`] keeps the credentials that the watching task had when it
//! began to watch, and the permission is checked at each event against the process as it is then.
//! The rule is that of ptrace (`__ptrace_may_access()`), which also governs reads of `/proc/PID`.
//! The real, effective and saved user ids and group ids of the process equal those of the watcher,
//! the permitted capabilities of the process are a subset of the watcher's, and the program of the
//! process is dumpable. Otherwise the watcher needs `CAP_SYS_PTRACE` in the user namespace of the
//! process. A security module can only be asked about the current task, so its opinion of the
//! process is not available at an event. Whether the security module lets the watcher use the
//! capability is determined when the watch begins.
//!
//! A process may always observe itself as long as it runs the program that began to watch.
//!
//! # Context
//!
//! [`Observer::may_observe`] may be called in any context but NMI, for a task whose memory is
//! valid. It opens its own RCU read-side critical section, in which the kernel keeps credentials,
//! the state of the executed program (`task->exec_state`), and user namespaces.
//!
//! C headers: [`include/linux/cred.h`](srctree/include/linux/cred.h),
//! [`include/linux/sched/exec_state.h`](srctree/include/linux/sched/exec_state.h)

use super::pid::{Process, ProcessState};
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

/// A value that `self_exec_id` never has.
const NO_EXEC_ID: u64 = u64::MAX;

/// A task that is the subject of an event or of a permission check.
///
/// # Invariants
///
/// The memory of the task is valid for `'a`.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a>(NonNull<bindings::task_struct>, PhantomData<&'a ()>);

impl<'a> Subject<'a> {
    /// # Safety
    ///
    /// The task's memory is valid for `'a`.
    #[inline]
    pub(crate) unsafe fn new(task: NonNull<bindings::task_struct>) -> Self {
        // INVARIANT: The caller upholds this function's safety contract.
        Subject(task, PhantomData)
    }

    /// A number that identifies the executed program. It changes when the process executes a
    /// program, and child processes inherit it.
    #[inline]
    fn exec_id(self) -> u64 {
        // SAFETY: The type's invariant guarantees that the task is valid. The field is written in
        // single stores and read in a single load. The load needs no ordering, because the number
        // is only compared. An event that happens while the process executes a program may belong
        // to either program.
        unsafe { (&raw const (*self.0.as_ptr()).self_exec_id).read_volatile() }
    }
}

/// The rights of a watcher with respect to one process.
#[derive(Clone)]
pub(crate) struct Observer {
    watcher: Arc<WatcherRights>,
    /// The `exec_id` of the watcher if it watches itself, [`NO_EXEC_ID`] otherwise.
    exec_id: u64,
}

/// The rights of a watcher that do not depend on the watched process.
pub(crate) struct WatcherRights {
    credentials: ARef<Credential>,
    /// False if a security module denies the watcher the use of `CAP_SYS_PTRACE`. The security
    /// module is asked once. The answer is used until the credentials change or another task
    /// watches something with the same `last`.
    may_use_capability: bool,
    /// The process of the watcher.
    process: Process,
    /// The pid namespace in which the watcher sees its child processes.
    namespace: ARef<PidNamespace>,
}

impl WatcherRights {
    /// The rights of the current task.
    ///
    /// # Errors
    ///
    /// `ESRCH` if the task has no process; `ENOMEM`.
    fn current() -> Result<Arc<Self>> {
        let process = Process::current().ok_or(ESRCH)?;
        // SAFETY: The function has no preconditions. It returns a reference that this function
        // owns.
        let credentials = unsafe {
            let raw = generated::kq_current_cred_get().cast_mut();
            ARef::<Credential>::from_raw(NonNull::new_unchecked(raw.cast()))
        };
        let raw = credentials.as_ptr();
        // SAFETY: The reference keeps the credentials and their namespace valid.
        let may_use_capability = unsafe {
            !has_capability(raw, CAP_SYS_PTRACE)
                || generated::kq_current_is_capable((*raw).user_ns, CAP_SYS_PTRACE)
        };
        let task: &Task = current!();
        let watcher = WatcherRights {
            credentials,
            may_use_capability,
            process,
            namespace: task.get_pid_ns().ok_or(ESRCH)?,
        };
        Ok(Arc::new(watcher, GFP_KERNEL_ACCOUNT)?)
    }

    /// True if this is the current task with its present credentials. (Credentials are immutable; a
    /// task gets new ones. The pid namespace of a process never changes.)
    fn is_current(&self) -> bool {
        // SAFETY: The current task is valid. Only the task itself changes its credentials.
        let credentials = unsafe { (*bindings::get_current()).cred };
        ptr::eq(credentials, self.credentials.as_ptr()) && self.process.is_current()
    }
}

impl Observer {
    /// The current task as an observer of `process`. `last` caches the rights of the watcher for
    /// the next call.
    ///
    /// # Errors
    ///
    /// `ESRCH` if the task has no process; `ENOMEM`.
    pub(crate) fn current(
        process: &Process,
        last: &mut Option<Arc<WatcherRights>>,
    ) -> Result<Self> {
        let watcher = match last {
            Some(watcher) if watcher.is_current() => watcher.clone(),
            _ => last.insert(WatcherRights::current()?).clone(),
        };
        let exec_id = if watcher.process.id() == process.id() {
            // SAFETY: The current task is valid.
            unsafe { Subject::new(NonNull::new_unchecked(bindings::get_current())) }.exec_id()
        } else {
            NO_EXEC_ID
        };
        Ok(Observer { watcher, exec_id })
    }

    /// The pid namespace in which the watcher sees its child processes.
    pub(crate) fn namespace(&self) -> &PidNamespace {
        &self.watcher.namespace
    }

    /// The process of the watcher.
    pub(crate) fn process(&self) -> &Process {
        &self.watcher.process
    }

    /// True if the watcher is this process. (The pointer is only compared.)
    pub(in crate::sys) fn is(&self, process: *mut bindings::pid) -> bool {
        self.watcher.process.id() == process.addr()
    }

    /// Checks that this observer, which is the current task, may watch `process`. It may if the
    /// process is its child or if it may observe the process. If it watches for the exit only
    /// (`only_exit`), the permission to send the process a signal suffices.
    ///
    /// Returns the state of the process. The first value is false if the observer may learn nothing
    /// more about the process at present.
    ///
    /// # Errors
    ///
    /// `EACCES` if the observer lacks the permission; `ESRCH` if the process was reaped.
    pub(crate) fn check_access(
        &self,
        process: &Process,
        only_exit: bool,
    ) -> Result<(bool, ProcessState)> {
        let rcu = rcu::read_lock();
        let leader = NonNull::new(process.leader(&rcu)).ok_or(ESRCH)?;
        // SAFETY: RCU keeps the task.
        let (subject, parent, state) = unsafe {
            (
                Subject::new(leader),
                generated::kq_process_parent(leader.as_ptr()),
                Process::state_of(leader, self),
            )
        };
        if (only_exit && self.is(parent)) || self.may_observe(subject) {
            Ok((true, state))
        } else if self.is(parent) || (only_exit && self.may_signal(subject)) {
            Ok((false, state))
        } else {
            Err(EACCES)
        }
    }

    /// True if the watcher may observe the task, given the present credentials of the task.
    #[inline]
    pub(crate) fn may_observe(&self, subject: Subject<'_>) -> bool {
        // Child processes inherit the program of their parent until they execute another one.
        subject.exec_id() == self.exec_id || self.is_allowed_by_ptrace_rule(subject)
    }

    #[inline(never)]
    fn is_allowed_by_ptrace_rule(&self, subject: Subject<'_>) -> bool {
        let _rcu = rcu::read_lock();
        let own = self.watcher.credentials.as_ptr();
        // SAFETY: The type's invariant guarantees that the task is valid. RCU keeps its
        // credentials, which hold a reference to their namespace. The watcher's reference keeps its
        // own credentials valid. Credentials are immutable.
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
        let mut exec = generated::kq_exec_rights::default();
        // SAFETY: The task is valid. RCU keeps the state of the executed program and its namespace.
        unsafe {
            generated::kq_task_exec_rights(subject.0.as_ptr(), &raw mut exec);
            exec.dumpable || self.is_capable_in(exec.user_ns)
        }
    }

    /// True if the watcher may use `CAP_SYS_PTRACE` in `namespace`.
    ///
    /// # Safety
    ///
    /// The namespace is valid.
    unsafe fn is_capable_in(&self, namespace: *mut bindings::user_namespace) -> bool {
        // SAFETY: The watcher's reference keeps its credentials valid. The caller guarantees that
        // the namespace is valid.
        self.watcher.may_use_capability
            && unsafe { is_capable(self.watcher.credentials.as_ptr(), namespace, CAP_SYS_PTRACE) }
    }

    /// True if the current task, which is the observer, may send a signal to the task.
    fn may_signal(&self, subject: Subject<'_>) -> bool {
        let _rcu = rcu::read_lock();
        let own = self.watcher.credentials.as_ptr();
        // SAFETY: The type's invariant guarantees that the task is valid. RCU keeps its
        // credentials, which hold a reference to their namespace. The watcher's reference keeps its
        // own credentials valid. Credentials are immutable.
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

/// True if the effective set of the credentials contains the capability.
///
/// # Safety
///
/// The credentials are valid.
unsafe fn has_capability(credentials: *const bindings::cred, capability: c_int) -> bool {
    // SAFETY: The caller upholds this function's safety contract.
    unsafe { (*credentials).cap_effective.val & (1 << capability) != 0 }
}

/// True if the credentials give the capability in `namespace`: the capability is effective in that
/// namespace or in an ancestor, or the user is the owner of the namespace. (This is
/// `cap_capable()`, which is not exported. `ns_capable()` checks the current task only.)
///
/// # Safety
///
/// Both pointers are valid.
unsafe fn is_capable(
    credentials: *const bindings::cred,
    mut namespace: *mut bindings::user_namespace,
    capability: c_int,
) -> bool {
    // SAFETY: The caller guarantees that the pointers are valid. Each namespace holds a reference
    // to its parent, and the initial namespace has level 0.
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
        has_capability(credentials, capability)
    }
}
