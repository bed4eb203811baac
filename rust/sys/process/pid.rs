// SPDX-License-Identifier: GPL-2.0

//! Processes: their identity, their state, and notifications of fork, exec and signals.
//!
//! A process is a thread group. Its identity is the `struct pid` of its leader. That identity stays
//! the same when another thread executes a program and becomes the leader. A later process that
//! gets the same number has a different `struct pid`.
//!
//! The exit of a process wakes the wait queue of its `struct pid`, on which pidfds are polled
//! ([`crate::sys::process::exit`]). Forks, execs and signals are reported by tracepoints
//! ([`crate::sys::probe::tracepoint`]).
//!
//! # Context
//!
//! | Call | Context |
//! |---|---|
//! | `ForkTarget::forked` | the forking task, before the child runs, with no locks held |
//! | `ExecTarget::executed` | the executing task, under the spin lock of the watches |
//! | `SignalTarget::signalled` | the sender or an interrupt, under siglock and the watches' lock |
//!
//! C headers: [`include/linux/pid.h`](srctree/include/linux/pid.h),
//! [`include/trace/events/sched.h`](srctree/include/trace/events/sched.h),
//! [`include/trace/events/signal.h`](srctree/include/trace/events/signal.h)

use super::permission::{Observer, Subject};
use crate::{
    generated,
    sys::{
        file::fdtable::FdTableId,
        probe::{
            tracepoint::{TraceEvent, Tracepoint},
            watches::WatchedProbe,
        },
    }, //
};
use core::{
    ffi::CStr,
    marker::PhantomData,
    ptr::{self, NonNull}, //
};
use kernel::{
    bindings,
    ffi::{c_int, c_void},
    fs::File,
    pid_namespace::PidNamespace,
    prelude::*,
    sync::{rcu, Arc, ArcBorrow}, //
};

/// A process, running or exited: a reference to its `struct pid`.
///
/// # Invariants
///
/// It owns a reference to a valid `struct pid`.
pub(crate) struct Process(NonNull<bindings::pid>);

// SAFETY: Any thread may use a `struct pid`.
unsafe impl Send for Process {}
// SAFETY: Any thread may use a `struct pid`.
unsafe impl Sync for Process {}

/// The state of a process.
#[derive(Clone, Copy)]
pub(crate) enum ProcessState {
    Running,
    /// A zombie.
    Exited(ExitState),
    /// The process was reaped, or the number is that of a thread that does not lead a process.
    Gone,
}

/// The exit of a process, as an observer sees it.
#[derive(Clone, Copy)]
pub(crate) struct ExitState {
    /// The status that wait(2) will return.
    pub(crate) status: i32,
    /// False while only a tracer that is another process than the observer can wait for the
    /// process.
    pub(crate) is_waitable: bool,
    /// True if the observer may know the status, because it may wait for the process or observe it.
    pub(crate) may_see_status: bool,
}

/// The state of a pidfd according to poll(2).
pub(crate) enum PidfdState {
    Running,
    Exited,
    /// The process was reaped.
    Gone,
    /// The file is not a pidfd.
    Other,
}

impl Process {
    /// The process, thread or zombie with this number in the pid namespace of the current task.
    pub(crate) fn find(number: u64) -> Option<Self> {
        let number = c_int::try_from(number).ok()?;
        // SAFETY: The function has no preconditions. It returns a reference or null.
        NonNull::new(unsafe { bindings::find_get_pid(number) }).map(Process)
    }

    /// The process, thread or zombie that the pidfd `file` refers to.
    pub(crate) fn of_pidfd(file: &File) -> Option<Self> {
        // SAFETY: The file is valid and keeps its `struct pid`. This value owns the reference that
        // is taken.
        NonNull::new(unsafe { generated::kq_pid_get(generated::kq_file_pid(file.as_ptr())) })
            .map(Process)
    }

    /// The state that poll(2) reports for a pidfd (`pidfd_poll`). Never sleeps.
    pub(crate) fn poll_pidfd(file: &File) -> PidfdState {
        // SAFETY: The file is valid and keeps its `struct pid`.
        let Some(pid) = NonNull::new(unsafe { generated::kq_file_pid(file.as_ptr()) }) else {
            return PidfdState::Other;
        };
        let _rcu = rcu::read_lock();
        // SAFETY: RCU keeps the task. The functions read single words of it.
        unsafe {
            let task = bindings::pid_task(pid.as_ptr(), bindings::pid_type_PIDTYPE_PID);
            if task.is_null() {
                PidfdState::Gone
            } else if generated::kq_task_has_exited(task) {
                PidfdState::Exited
            } else {
                PidfdState::Running
            }
        }
    }

    /// The current process.
    pub(crate) fn current() -> Option<Self> {
        // SAFETY: The current task is valid and has a process.
        unsafe { Self::of(bindings::get_current()) }
    }

    /// # Safety
    ///
    /// `task` is valid and was not released.
    unsafe fn of(task: *mut bindings::task_struct) -> Option<Self> {
        // SAFETY: The task is valid, so its `struct pid` is. This value owns the reference that is
        // taken.
        NonNull::new(unsafe { generated::kq_pid_get(generated::kq_task_tgid(task)) }).map(Process)
    }

    /// True if this is the current process.
    pub(crate) fn is_current(&self) -> bool {
        // SAFETY: The current task is valid. The result is only compared.
        unsafe { generated::kq_task_tgid(bindings::get_current()) == self.0.as_ptr() }
    }

    /// True if the leader of the process uses this descriptor table now.
    pub(crate) fn has_fd_table(&self, fd_table: FdTableId) -> bool {
        let rcu = rcu::read_lock();
        let leader = self.leader(&rcu);
        // SAFETY: The leader is not null, and RCU keeps it. A single load reads the pointer, which
        // is only compared.
        !leader.is_null()
            && FdTableId::of(unsafe { (&raw const (*leader).files).read_volatile() }) == fd_table
    }

    /// A number that is unique among all processes as long as this value lives.
    pub(crate) fn id(&self) -> usize {
        self.0.addr().get()
    }

    /// A number that is unique for this signal to this process. Signals with other numbers
    /// therefore do not run the callbacks of this one.
    pub(crate) fn signal_id(&self, number: i32) -> usize {
        signal_id(self.id(), number)
    }

    /// True if the process has this number in the pid namespace of the current task now.
    pub(crate) fn has_pid(&self, number: u64) -> bool {
        let Ok(number) = c_int::try_from(number) else {
            return false;
        };
        let _rcu = rcu::read_lock();
        // SAFETY: This is an RCU read-side critical section. The result is only compared.
        unsafe { bindings::find_vpid(number) == self.0.as_ptr() }
    }

    /// The number of the process in a pid namespace. `None` if the process is not visible there.
    pub(crate) fn pid_in(&self, namespace: &PidNamespace) -> Option<u64> {
        // SAFETY: Both pointers are valid.
        let number = unsafe { bindings::pid_nr_ns(self.0.as_ptr(), namespace.as_ptr()) };
        u64::try_from(number).ok().filter(|number| *number != 0)
    }

    /// The leader of the process. It may be dereferenced only as long as the RCU guard is held.
    pub(super) fn leader(&self, _rcu: &rcu::Guard) -> *mut bindings::task_struct {
        // SAFETY: The type's invariant guarantees that the pointer is valid.
        unsafe { bindings::pid_task(self.0.as_ptr(), bindings::pid_type_PIDTYPE_TGID) }
    }

    /// The state of the process, as `observer` sees it.
    pub(crate) fn state(&self, observer: &Observer) -> ProcessState {
        let rcu = rcu::read_lock();
        let leader = NonNull::new(self.leader(&rcu));
        // SAFETY: RCU keeps the task.
        leader.map_or(ProcessState::Gone, |leader| unsafe {
            Self::state_of(leader, observer)
        })
    }

    /// # Safety
    ///
    /// RCU keeps the task, which is the leader of a process.
    #[inline(always)]
    pub(super) unsafe fn state_of(
        leader: NonNull<bindings::task_struct>,
        observer: &Observer,
    ) -> ProcessState {
        let raw = leader.as_ptr();
        // SAFETY: RCU keeps the task and its parents. The `struct pid` pointers of the parents are
        // only compared.
        unsafe {
            if !generated::kq_task_has_exited(raw) {
                return ProcessState::Running;
            }
            let parent = generated::kq_process_parent(raw);
            let tracer = generated::kq_process_tracer(raw);
            let is_traced_away = !tracer.is_null() && !ptr::eq(tracer, parent);
            ProcessState::Exited(ExitState {
                status: generated::kq_process_wait_status(raw),
                is_waitable: !is_traced_away || observer.is(tracer),
                may_see_status: observer.is(parent)
                    || observer.is(tracer)
                    || observer.may_observe(Subject::new(leader)),
            })
        }
    }

    /// The wait queue that is woken when the process exits. It lives as long as this value.
    pub(in crate::sys) fn exit_queue(&self) -> *mut bindings::wait_queue_head {
        // SAFETY: The type's invariant guarantees that the pointer is valid.
        unsafe { &raw mut (*self.0.as_ptr()).wait_pidfd }
    }
}

impl Clone for Process {
    fn clone(&self) -> Self {
        // INVARIANT: The new value owns the reference that is taken here.
        // SAFETY: The type's invariant guarantees that the pointer is valid.
        unsafe { generated::kq_pid_get(self.0.as_ptr()) };
        Process(self.0)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SAFETY: The type's invariant guarantees that this value owns a reference.
        unsafe { bindings::put_pid(self.0.as_ptr()) };
    }
}

/// The highest signal number, which is that of a real-time signal.
pub(crate) const SIGNAL_MAX: i32 = 64;

// The numbers of all signals are within the `struct pid`, so they cannot equal those of another
// process.
const _: () = assert!(size_of::<bindings::pid>() > SIGNAL_MAX as usize);

/// The identity of a signal to a process: an address within its `struct pid`.
#[inline]
fn signal_id(process: usize, number: i32) -> usize {
    process.wrapping_add(number as usize)
}

/// The target of fork notifications.
pub(crate) trait ForkTarget: Send + Sync + 'static {
    /// The watched process has created the process `child`, which does not run yet. `parent` and
    /// `first` are the tasks of the two processes.
    fn forked(this: &Arc<Self>, parent: Subject<'_>, child: &Process, first: Subject<'_>);
}

/// The target of exec notifications.
pub(crate) trait ExecTarget: Send + Sync + 'static {
    /// The watched process has executed a program and has the credentials that result from it.
    fn executed(this: ArcBorrow<'_, Self>, task: Subject<'_>);
}

/// The target of signal notifications.
pub(crate) trait SignalTarget: Send + Sync + 'static {
    /// The watched signal was sent to the process or to one of its threads, `task`.
    fn signalled(this: ArcBorrow<'_, Self>, task: Subject<'_>);
}

/// The tracepoint `sched_process_fork`.
pub(crate) struct Fork<T>(PhantomData<T>);
/// The tracepoint `sched_process_exec`.
pub(crate) struct Exec<T>(PhantomData<T>);
/// The tracepoint `signal_generate`.
pub(crate) struct Signal<T>(PhantomData<T>);

/// The fork watches of processes, keyed by [`Process::id`].
pub(crate) type ForkWatches<T> = WatchedProbe<Tracepoint<Fork<T>>>;
/// The exec watches of processes, keyed by [`Process::id`].
pub(crate) type ExecWatches<T> = WatchedProbe<Tracepoint<Exec<T>>>;
/// The watches of signals to processes, keyed by [`Process::signal_id`].
pub(crate) type SignalWatches<T> = WatchedProbe<Tracepoint<Signal<T>>>;

// SAFETY: `function` takes the arguments of `sched_process_fork`, as `rust/helpers.c` asserts.
unsafe impl<T: ForkTarget> TraceEvent for Fork<T> {
    type Target = T;
    const NAME: &'static CStr = c"sched_process_fork";

    fn function() -> *mut c_void {
        let function: generated::kq_fork_probe = Some(fork::<T>);
        function.map_or(ptr::null_mut(), |function| function as *mut c_void)
    }
}

/// # Safety
///
/// The caller is the tracepoint. `watches` points to live watches of this type.
unsafe extern "C" fn fork<T: ForkTarget>(
    watches: *mut c_void,
    parent: *mut bindings::task_struct,
    child: *mut bindings::task_struct,
) {
    // SAFETY: The caller guarantees that the watches are alive. The tasks that a tracepoint passes
    // are valid.
    let (watches, process, thread) = unsafe {
        let process = generated::kq_task_tgid(parent);
        let thread = ptr::eq(process, generated::kq_task_tgid(child));
        (&*watches.cast::<ForkWatches<T>>(), process.addr(), thread)
    };
    if thread || !watches.is_watched(process) {
        return;
    }
    // SAFETY: The tasks are valid and not null.
    let (parent, first, child) = unsafe {
        (
            Subject::new(NonNull::new_unchecked(parent)),
            Subject::new(NonNull::new_unchecked(child)),
            Process::of(child),
        )
    };
    let Some(child) = child else {
        return;
    };
    // The shard must not be locked during the callbacks, because they add watches. Therefore `next`
    // looks up one target at a time.
    let mut after = 0;
    while let Some(target) = watches.next(process, after) {
        after = Arc::as_ptr(&target).addr();
        T::forked(&target, parent, &child, first);
    }
}

// SAFETY: `function` takes the arguments of `sched_process_exec`, as `rust/helpers.c` asserts.
unsafe impl<T: ExecTarget> TraceEvent for Exec<T> {
    type Target = T;
    const NAME: &'static CStr = c"sched_process_exec";

    fn function() -> *mut c_void {
        let function: generated::kq_exec_probe = Some(exec::<T>);
        function.map_or(ptr::null_mut(), |function| function as *mut c_void)
    }
}

/// # Safety
///
/// The caller is the tracepoint. `watches` points to live watches of this type.
unsafe extern "C" fn exec<T: ExecTarget>(
    watches: *mut c_void,
    task: *mut bindings::task_struct,
    _old_pid: bindings::pid_t,
    _program: *mut bindings::linux_binprm,
) {
    // SAFETY: The caller guarantees that the watches are alive. The task that a tracepoint passes
    // is valid and not null.
    let (watches, process, task) = unsafe {
        (
            &*watches.cast::<ExecWatches<T>>(),
            generated::kq_task_tgid(task).addr(),
            Subject::new(NonNull::new_unchecked(task)),
        )
    };
    if watches.is_watched(process) {
        watches.for_each(process, |target| {
            T::executed(target.as_arc_borrow(), task);
        });
    }
}

// SAFETY: `function` takes the arguments of `signal_generate`, as `rust/helpers.c` asserts.
unsafe impl<T: SignalTarget> TraceEvent for Signal<T> {
    type Target = T;
    const NAME: &'static CStr = c"signal_generate";

    fn function() -> *mut c_void {
        let function: generated::kq_signal_probe = Some(signal::<T>);
        function.map_or(ptr::null_mut(), |function| function as *mut c_void)
    }
}

/// # Safety
///
/// The caller is the tracepoint. `watches` points to live watches of this type.
unsafe extern "C" fn signal<T: SignalTarget>(
    watches: *mut c_void,
    number: c_int,
    _info: *mut bindings::kernel_siginfo,
    task: *mut bindings::task_struct,
    _group: c_int,
    _result: c_int,
) {
    // SAFETY: The caller guarantees that the watches are alive. The task is not null. Its siglock
    // is held, so it was not released.
    let (watches, object, task) = unsafe {
        (
            &*watches.cast::<SignalWatches<T>>(),
            signal_id(generated::kq_task_tgid(task).addr(), number),
            Subject::new(NonNull::new_unchecked(task)),
        )
    };
    if watches.is_watched(object) {
        watches.for_each(object, |target| {
            T::signalled(target.as_arc_borrow(), task);
        });
    }
}
