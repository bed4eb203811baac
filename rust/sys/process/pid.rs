// SPDX-License-Identifier: GPL-2.0

//! Processes: who is it, has it ended, and what does it do?
//!
//! A process is a thread group. Its identity is that of its leader's `struct pid`, which stays the
//! same when another thread executes a program and takes the leader's place, and which is another
//! one when the number is used again.
//!
//! Its end is told by the wait queue of its `struct pid` that pidfds are polled on
//! ([`crate::sys::file::poll`]); forks, execs and signals by tracepoints ([`crate::sys::probe::tracepoint`]).
//!
//! # Context
//!
//! | Call | Context |
//! |---|---|
//! | `Forks::forked` | the forking task, before the child runs, no locks |
//! | `Execs::executed` | the task, under the watches' spin lock |
//! | `Signals::signalled` | the sender, maybe an interrupt, under siglock and the watches' spin lock |
//!
//! C headers: [`include/linux/pid.h`](srctree/include/linux/pid.h),
//! [`include/trace/events/sched.h`](srctree/include/trace/events/sched.h),
//! [`include/trace/events/signal.h`](srctree/include/trace/events/signal.h)

use super::observer::{Observer, Subject};
use crate::{
    generated,
    sys::{
        file::fdtable::TableId,
        probe::{
            hook::Hook,
            tracepoint::{Event, Tracepoint},
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

/// A process, alive or not: a reference to its `struct pid`.
///
/// # Invariants
///
/// Holds a reference to a valid `struct pid`.
pub(crate) struct Process(NonNull<bindings::pid>);

// SAFETY: A `struct pid` may be used from any thread.
unsafe impl Send for Process {}
// SAFETY: As above.
unsafe impl Sync for Process {}

/// What has become of a process.
#[derive(Clone, Copy)]
pub(crate) enum Life {
    Running,
    /// A zombie.
    Exited(End),
    /// Nothing is left of it; or it never was a process, but a thread.
    Gone,
}

/// The end of a process, as an observer sees it.
#[derive(Clone, Copy)]
pub(crate) struct End {
    /// What wait(2) will give as its status.
    pub(crate) status: i32,
    /// False while it can be waited for only by who traces it, and that is somebody else.
    pub(crate) can_be_waited_for: bool,
    /// The observer may know the status: it may wait for the process, or look at it.
    pub(crate) may_be_known: bool,
}

/// What poll(2) says of a pidfd.
pub(crate) enum PidfdState {
    Running,
    Exited,
    /// It was waited for.
    Gone,
    /// The file is no pidfd.
    Other,
}

impl Process {
    /// The process, thread, or zombie of that number in the current task's pid namespace.
    pub(crate) fn find(number: u64) -> Option<Self> {
        let number = c_int::try_from(number).ok()?;
        // SAFETY: No preconditions; gives a reference or null.
        NonNull::new(unsafe { bindings::find_get_pid(number) }).map(Process)
    }

    /// The process, thread, or zombie that `file` is a pidfd of.
    pub(crate) fn of_pidfd(file: &File) -> Option<Self> {
        // SAFETY: The file is valid, and keeps what it is of; the reference taken is ours.
        NonNull::new(unsafe { generated::kq_pid_get(generated::kq_file_pid(file.as_ptr())) })
            .map(Process)
    }

    /// What poll(2) says of the process or thread that `file` is a pidfd of (`pidfd_poll`). Never sleeps.
    pub(crate) fn poll_pidfd(file: &File) -> PidfdState {
        // SAFETY: The file is valid, and keeps what it is of.
        let Some(pid) = NonNull::new(unsafe { generated::kq_file_pid(file.as_ptr()) }) else {
            return PidfdState::Other;
        };
        let _rcu = rcu::read_lock();
        // SAFETY: RCU keeps the task. What is asked of it is a single word, and the number of its threads.
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
    /// `task` is valid, and was not released.
    unsafe fn of(task: *mut bindings::task_struct) -> Option<Self> {
        // SAFETY: The task is valid, so its process is; the reference taken is ours.
        NonNull::new(unsafe { generated::kq_pid_get(generated::kq_task_tgid(task)) }).map(Process)
    }

    /// True if it is the current one.
    pub(crate) fn is_current(&self) -> bool {
        // SAFETY: The current task is valid. The result is only compared.
        unsafe { generated::kq_task_tgid(bindings::get_current()) == self.0.as_ptr() }
    }

    /// True if its leader has that descriptor table now.
    pub(crate) fn has_table(&self, table: TableId) -> bool {
        let rcu = rcu::read_lock();
        let leader = self.leader(&rcu);
        // SAFETY: Not null, and kept by RCU; the pointer is read at once, and only compared.
        !leader.is_null()
            && TableId::of(unsafe { (&raw const (*leader).files).read_volatile() }) == table
    }

    /// What tells it from all other processes while this value lives.
    pub(crate) fn id(&self) -> usize {
        self.0.addr().get()
    }

    /// The same for one signal to it. What others do with other signals does not concern who
    /// watches this one.
    pub(crate) fn signal_id(&self, number: i32) -> usize {
        signal_id(self.id(), number)
    }

    /// True when it has that number in the current task's pid namespace, now.
    pub(crate) fn has_number(&self, number: u64) -> bool {
        let Ok(number) = c_int::try_from(number) else {
            return false;
        };
        let _rcu = rcu::read_lock();
        // SAFETY: Under RCU. The result is only compared.
        unsafe { bindings::find_vpid(number) == self.0.as_ptr() }
    }

    /// Its number in a pid namespace; `None` where it cannot be seen.
    pub(crate) fn number_in(&self, namespace: &PidNamespace) -> Option<u64> {
        // SAFETY: Both are valid.
        let number = unsafe { bindings::pid_nr_ns(self.0.as_ptr(), namespace.as_ptr()) };
        u64::try_from(number).ok().filter(|number| *number != 0)
    }

    /// The task that leads it. Only followed under RCU.
    fn leader(&self, _rcu: &rcu::Guard) -> *mut bindings::task_struct {
        // SAFETY: Valid by the type's invariant.
        unsafe { bindings::pid_task(self.0.as_ptr(), bindings::pid_type_PIDTYPE_TGID) }
    }

    /// What has become of it, as `observer` sees it.
    pub(crate) fn life(&self, observer: &Observer) -> Life {
        let rcu = rcu::read_lock();
        let leader = NonNull::new(self.leader(&rcu));
        // SAFETY: Kept by RCU.
        leader.map_or(Life::Gone, |leader| unsafe {
            Self::life_of(leader, observer)
        })
    }

    /// # Safety
    ///
    /// RCU keeps the task, which leads a process.
    #[inline(always)]
    unsafe fn life_of(leader: NonNull<bindings::task_struct>, observer: &Observer) -> Life {
        let raw = leader.as_ptr();
        // SAFETY: Kept by RCU, and with it its parents. Those of another process are only compared.
        unsafe {
            if !generated::kq_task_has_exited(raw) {
                return Life::Running;
            }
            let parent = generated::kq_process_parent(raw);
            let tracer = generated::kq_process_tracer(raw);
            let is_traced_away = !tracer.is_null() && !ptr::eq(tracer, parent);
            Life::Exited(End {
                status: generated::kq_process_wait_status(raw),
                can_be_waited_for: !is_traced_away || observer.is(tracer),
                may_be_known: observer.is(parent)
                    || observer.is(tracer)
                    || observer.may_look(Subject::new(leader)),
            })
        }
    }

    /// Checks that `observer`, the current task, may watch the process, if need be for no more than
    /// its end: its child, one that it may look at, or, for the end, one that it could send a
    /// signal. Gives false if it may know no more of it now, and what has become of it.
    ///
    /// # Errors
    ///
    /// `EACCES`, or `ESRCH` if nothing is left of it.
    pub(crate) fn check_access(&self, observer: &Observer, only_end: bool) -> Result<(bool, Life)> {
        let rcu = rcu::read_lock();
        let leader = NonNull::new(self.leader(&rcu)).ok_or(ESRCH)?;
        // SAFETY: Kept by RCU.
        let (subject, parent, life) = unsafe {
            (
                Subject::new(leader),
                generated::kq_process_parent(leader.as_ptr()),
                Self::life_of(leader, observer),
            )
        };
        if (only_end && observer.is(parent)) || observer.may_look(subject) {
            Ok((true, life))
        } else if observer.is(parent) || (only_end && observer.may_signal(subject)) {
            Ok((false, life))
        } else {
            Err(EACCES)
        }
    }

    /// The queue that is woken when it exits, which lives as long as this.
    pub(in crate::sys) fn exit_queue(&self) -> *mut bindings::wait_queue_head {
        // SAFETY: Valid by the type's invariant.
        unsafe { &raw mut (*self.0.as_ptr()).wait_pidfd }
    }
}

impl Clone for Process {
    fn clone(&self) -> Self {
        // INVARIANT: The new value owns the reference taken here.
        // SAFETY: Valid by the type's invariant.
        unsafe { generated::kq_pid_get(self.0.as_ptr()) };
        Process(self.0)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SAFETY: We own a reference by the type's invariant.
        unsafe { bindings::put_pid(self.0.as_ptr()) };
    }
}

/// The highest signal number, which is a real-time one.
pub(crate) const SIGNAL_MAX: i32 = 64;

// So that what tells signals apart is not another process's.
const _: () = assert!(size_of::<bindings::pid>() > SIGNAL_MAX as usize);

/// Each signal to a process has an address of its own, within its `struct pid`.
#[inline]
fn signal_id(process: usize, number: i32) -> usize {
    process.wrapping_add(number as usize)
}

/// Who wants to know of forks.
pub(crate) trait Forks: Send + Sync + 'static {
    /// The process that is watched has made another one, `child`, which does not run yet; the tasks
    /// are those of both.
    fn forked(this: &Arc<Self>, parent: Subject<'_>, child: &Process, first: Subject<'_>);
}

/// Who wants to know of programs being executed.
pub(crate) trait Execs: Send + Sync + 'static {
    /// The process that is watched has executed a program, and has the rights that come with it.
    fn executed(this: ArcBorrow<'_, Self>, task: Subject<'_>);
}

/// Who wants to know of signals.
pub(crate) trait Signals: Send + Sync + 'static {
    /// The signal that is watched was sent to the process, or to that thread of it.
    fn signalled(this: ArcBorrow<'_, Self>, task: Subject<'_>);
}

/// The tracepoint of forks.
pub(crate) struct Fork<T>(PhantomData<T>);
/// The tracepoint of programs being executed.
pub(crate) struct Exec<T>(PhantomData<T>);
/// The tracepoint of signals being sent.
pub(crate) struct Signal<T>(PhantomData<T>);

/// Watches of processes, by [`Process::id`].
pub(crate) type ForkHook<T> = Hook<Tracepoint<Fork<T>>>;
/// As above.
pub(crate) type ExecHook<T> = Hook<Tracepoint<Exec<T>>>;
/// Watches of signals to processes, by [`Process::signal_id`].
pub(crate) type SignalHook<T> = Hook<Tracepoint<Signal<T>>>;

// SAFETY: `function` takes the arguments of `sched_process_fork`, as `rust/helpers.c` asserts.
unsafe impl<T: Forks> Event for Fork<T> {
    type Target = T;
    const NAME: &'static CStr = c"sched_process_fork";

    fn function() -> *mut c_void {
        let function: generated::kq_fork_probe = Some(fork::<T>);
        function.map_or(ptr::null_mut(), |function| function as *mut c_void)
    }
}

/// # Safety
///
/// Called by the tracepoint, with a live hook.
unsafe extern "C" fn fork<T: Forks>(
    hook: *mut c_void,
    parent: *mut bindings::task_struct,
    child: *mut bindings::task_struct,
) {
    // SAFETY: By this function's contract. The tracepoint's tasks are valid.
    let (hook, process, thread) = unsafe {
        let process = generated::kq_task_tgid(parent);
        let thread = ptr::eq(process, generated::kq_task_tgid(child));
        (&*hook.cast::<ForkHook<T>>(), process.addr(), thread)
    };
    if thread || !hook.is_watched(process) {
        return;
    }
    // SAFETY: As above; tasks are not null.
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
    // One by one, since what is called here adds watches.
    let mut after = 0;
    while let Some(target) = hook.next(process, after) {
        after = Arc::as_ptr(&target).addr();
        T::forked(&target, parent, &child, first);
    }
}

// SAFETY: `function` takes the arguments of `sched_process_exec`, as `rust/helpers.c` asserts.
unsafe impl<T: Execs> Event for Exec<T> {
    type Target = T;
    const NAME: &'static CStr = c"sched_process_exec";

    fn function() -> *mut c_void {
        let function: generated::kq_exec_probe = Some(exec::<T>);
        function.map_or(ptr::null_mut(), |function| function as *mut c_void)
    }
}

/// # Safety
///
/// Called by the tracepoint, with a live hook.
unsafe extern "C" fn exec<T: Execs>(
    hook: *mut c_void,
    task: *mut bindings::task_struct,
    _old_pid: bindings::pid_t,
    _program: *mut bindings::linux_binprm,
) {
    // SAFETY: By this function's contract. The tracepoint's task is valid, and not null.
    let (hook, process, task) = unsafe {
        (
            &*hook.cast::<ExecHook<T>>(),
            generated::kq_task_tgid(task).addr(),
            Subject::new(NonNull::new_unchecked(task)),
        )
    };
    if hook.is_watched(process) {
        hook.for_each(process, |target| {
            T::executed(target.as_arc_borrow(), task);
        });
    }
}

// SAFETY: `function` takes the arguments of `signal_generate`, as `rust/helpers.c` asserts.
unsafe impl<T: Signals> Event for Signal<T> {
    type Target = T;
    const NAME: &'static CStr = c"signal_generate";

    fn function() -> *mut c_void {
        let function: generated::kq_signal_probe = Some(signal::<T>);
        function.map_or(ptr::null_mut(), |function| function as *mut c_void)
    }
}

/// # Safety
///
/// Called by the tracepoint, with a live hook.
unsafe extern "C" fn signal<T: Signals>(
    hook: *mut c_void,
    number: c_int,
    _info: *mut bindings::kernel_siginfo,
    task: *mut bindings::task_struct,
    _group: c_int,
    _result: c_int,
) {
    // SAFETY: By this function's contract. The task's siglock is held, so it was not released; it
    // is not null.
    let (hook, object, task) = unsafe {
        (
            &*hook.cast::<SignalHook<T>>(),
            signal_id(generated::kq_task_tgid(task).addr(), number),
            Subject::new(NonNull::new_unchecked(task)),
        )
    };
    if hook.is_watched(object) {
        hook.for_each(object, |target| {
            T::signalled(target.as_arc_borrow(), task);
        });
    }
}
