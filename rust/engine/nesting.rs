// SPDX-License-Identifier: GPL-2.0

//! Kqueues that watch kqueues. Cycles are refused, and the number of paths is limited.
//!
//! An event of a kqueue propagates along all *paths* up from it: to the kqueues that watch it, and
//! to those that watch these. The task that triggers the event pays for all of them, and it may be
//! a bystander. So at most [`PATHS_MAX`] paths lead up from a kqueue. To enforce this limit when an
//! edge is added, all kqueues below the edge are visited. Therefore a kqueue that is watched has at
//! most [`PATHS_MAX`] paths down as well. (A kqueue that is not watched may have more, since no
//! path leads through it.) Each kqueue stores the numbers of its paths in both directions, so that
//! adding or removing an edge visits only the kqueues on these paths.
//!
//! So a chain has at most [`PATHS_MAX`] links. A chain costs no more than an equal number of other
//! paths: each kqueue on it is notified in an interrupt of its own
//! ([`crate::sys::notify::poll_fasync`]), an evaluation of one kqueue evaluates no other, and no
//! kqueue is released within the release of another. The walks keep their path in preallocated
//! memory and are not recursive.
//!
//! One mutex guards all edges of the graph. It is taken under a kqueue's own mutex when an
//! `EVFILT_READ` knote for another kqueue is attached or detached. No other lock is taken under it.

use super::kqueue::Kqueue;
use core::{
    cell::Cell,
    ops::Neg,
    sync::atomic::{AtomicUsize, Ordering}, //
};
use kernel::{
    new_mutex,
    prelude::*,
    rbtree::{RBTree, RBTreeNodeReservation},
    sync::{Arc, Mutex}, //
};

/// The maximum number of paths that lead up from a kqueue, and down from a kqueue that is watched.
/// Each part of a path that begins at the kqueue counts as a path, so this also limits the number
/// of edges.
const PATHS_MAX: usize = 512;

/// The data that the mutex guards, besides the `NestingLinks` of each kqueue.
pub(crate) struct Graph {
    /// The number of the next edge.
    next: u64,
    /// Memory for the path of a walk, with room for the longest path. It is empty between walks.
    stack: Cell<KVec<Step>>,
}

/// A kqueue on the path of a walk.
struct Step {
    at: Arc<Kqueue>,
    /// The walk continues with the first edge that has at least this number.
    next: u64,
}

/// The graph of all edges.
#[pin_data]
pub(crate) struct Nesting {
    #[pin]
    pub(crate) graph: Mutex<Graph>,
}

/// The edges of one kqueue, by number.
pub(crate) struct NestingLinks {
    up: Side,
    down: Side,
}

/// The edges in one direction, either to the watchers or to the watched kqueues.
struct Side {
    edges: RBTree<u64, Arc<Kqueue>>,
    /// The number of paths. Only the owner of the mutex reads and writes it, so the accesses are
    /// relaxed. (It is atomic because a walk has only shared references.)
    paths: AtomicUsize,
}

/// An edge between a watching kqueue and a watched one. It exists until this value is dropped.
pub(crate) struct Edge {
    nesting: Arc<Nesting>,
    number: u64,
    watcher: Arc<Kqueue>,
    watched: Arc<Kqueue>,
}

#[derive(Clone, Copy)]
enum Direction {
    Up,
    Down,
}

impl Direction {
    fn reverse(self) -> Self {
        match self {
            Direction::Up => Direction::Down,
            Direction::Down => Direction::Up,
        }
    }
}

/// The result of a walk.
#[derive(Default)]
struct WalkOutcome {
    /// The walk has met the forbidden kqueue.
    cycle: bool,
    /// A kqueue has too many paths now.
    too_many: bool,
}

impl Side {
    fn new() -> Self {
        Side {
            edges: RBTree::new(),
            paths: AtomicUsize::new(0),
        }
    }

    fn paths(&self) -> usize {
        self.paths.load(Ordering::Relaxed)
    }
}

impl NestingLinks {
    /// No edges.
    pub(crate) fn new() -> Self {
        NestingLinks {
            up: Side::new(),
            down: Side::new(),
        }
    }

    fn side(&self, direction: Direction) -> &Side {
        match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        }
    }

    fn has_too_many_paths(&self) -> bool {
        let (up, down) = (self.up.paths(), self.down.paths());
        up > PATHS_MAX || (up > 0 && down > PATHS_MAX)
    }
}

/// A walk from a kqueue along all paths in one direction.
struct Walk<'a> {
    graph: &'a Graph,
    direction: Direction,
    /// The number by which the walk changes the number of paths in the reverse direction, once for
    /// each path that leads to a kqueue, beginning with the first kqueue. May be negative.
    delta: isize,
    /// The walk must not meet this kqueue, since that would be a cycle.
    forbidden: &'a Kqueue,
}

impl Walk<'_> {
    /// Walks along all paths. There are at most [`PATHS_MAX`] paths, so no path is longer.
    fn run(&self, from: &Arc<Kqueue>) -> WalkOutcome {
        let mut outcome = WalkOutcome::default();
        if (from.edges.access(self.graph).side(self.direction).edges).is_empty() {
            self.visit(from, &mut outcome);
            return outcome;
        }
        let mut stack = self.graph.stack.take();
        let mut at = Some(from.clone());
        loop {
            if let Some(at) = at {
                self.visit(&at, &mut outcome);
                // There is room.
                let _ = stack.push_within_capacity(Step { at, next: 0 });
            }
            let Some(step) = stack.last_mut() else {
                break;
            };
            let edges = &step.at.edges.access(self.graph).side(self.direction).edges;
            at = edges.cursor_lower_bound(&step.next).map(|cursor| {
                let (number, kqueue) = cursor.current();
                step.next = number + 1;
                kqueue.clone()
            });
            if at.is_none() {
                stack.pop();
            }
        }
        self.graph.stack.set(stack);
        outcome
    }

    fn visit(&self, at: &Kqueue, outcome: &mut WalkOutcome) {
        let links = at.edges.access(self.graph);
        let backwards = &links.side(self.direction.reverse()).paths;
        let paths = backwards
            .load(Ordering::Relaxed)
            .saturating_add_signed(self.delta);
        backwards.store(paths, Ordering::Relaxed);
        outcome.cycle |= core::ptr::eq(at, self.forbidden);
        outcome.too_many |= links.has_too_many_paths();
    }
}

/// The numbers of paths that an edge adds, up from the watched kqueue and down from the watcher.
#[derive(Clone, Copy)]
struct PathDelta {
    up: isize,
    down: isize,
}

impl Graph {
    fn path_delta(&self, watcher: &Kqueue, watched: &Kqueue) -> PathDelta {
        let paths = |side: &Side| side.paths().saturating_add(1) as isize;
        PathDelta {
            up: paths(&watcher.edges.access(self).up),
            down: paths(&watched.edges.access(self).down),
        }
    }

    /// Adds `delta` to the counts of all kqueues above and below the edge. Returns the outcomes of
    /// both walks.
    fn apply(
        &self,
        watcher: &Arc<Kqueue>,
        watched: &Arc<Kqueue>,
        delta: PathDelta,
    ) -> (WalkOutcome, WalkOutcome) {
        let walk = |from: &Arc<Kqueue>, direction, delta, forbidden| {
            let walk = Walk {
                graph: self,
                direction,
                delta,
                forbidden,
            };
            walk.run(from)
        };
        (
            walk(watcher, Direction::Up, delta.down, watched),
            walk(watched, Direction::Down, delta.up, watcher),
        )
    }
}

impl Neg for PathDelta {
    type Output = Self;

    fn neg(self) -> Self {
        PathDelta {
            up: self.up.saturating_neg(),
            down: self.down.saturating_neg(),
        }
    }
}

impl Nesting {
    /// No edges.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Arc<Self>> {
        let stack = Cell::new(KVec::with_capacity(PATHS_MAX + 1, GFP_KERNEL)?);
        Arc::pin_init(
            pin_init!(Nesting { graph <- new_mutex!(Graph { next: 0, stack }) }),
            GFP_KERNEL,
        )
    }

    /// Calls `with` with the number of edges that lead up from the kqueue. At least that many
    /// knotes hold references to the file of the kqueue during the call. (A knote whose descriptor
    /// was closed drops its edge before its reference.)
    pub(crate) fn with_watchers<R>(&self, kqueue: &Kqueue, with: impl FnOnce(usize) -> R) -> R {
        let graph = self.graph.lock();
        with(kqueue.edges.access(&*graph).up.edges.values().count())
    }

    /// Adds an edge, because `watcher` begins to watch `watched`.
    ///
    /// # Errors
    ///
    /// `ELOOP` if the edge would close a cycle; `ENOSPC` for too many paths; `ENOMEM`.
    pub(crate) fn connect(
        self: &Arc<Self>,
        watcher: Arc<Kqueue>,
        watched: Arc<Kqueue>,
    ) -> Result<Edge> {
        let up = RBTreeNodeReservation::new(GFP_KERNEL_ACCOUNT)?;
        let down = RBTreeNodeReservation::new(GFP_KERNEL_ACCOUNT)?;
        let mut graph = self.graph.lock();
        // This limits the walk down from the watched kqueue.
        if watched.edges.access(&*graph).down.paths() > PATHS_MAX {
            return Err(ENOSPC);
        }
        let delta = graph.path_delta(&watcher, &watched);
        let (above, below) = graph.apply(&watcher, &watched, delta);
        let error = if above.cycle || below.cycle {
            Some(ELOOP)
        } else if above.too_many || below.too_many {
            Some(ENOSPC)
        } else {
            None
        };
        if let Some(error) = error {
            let _ = graph.apply(&watcher, &watched, -delta);
            return Err(error);
        }
        let number = graph.next;
        graph.next += 1;
        let links = watched.edges.access_mut(&mut graph);
        links.up.edges.insert(up.into_node(number, watcher.clone()));
        let links = watcher.edges.access_mut(&mut graph);
        links
            .down
            .edges
            .insert(down.into_node(number, watched.clone()));
        Ok(Edge {
            nesting: self.clone(),
            number,
            watcher,
            watched,
        })
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        let mut graph = self.nesting.graph.lock();
        let links = self.watched.edges.access_mut(&mut graph);
        let up = links.up.edges.remove_node(&self.number);
        let links = self.watcher.edges.access_mut(&mut graph);
        let down = links.down.edges.remove_node(&self.number);
        let delta = graph.path_delta(&self.watcher, &self.watched);
        let _ = graph.apply(&self.watcher, &self.watched, -delta);
        // The references are dropped without the lock, since they may be the last ones.
        drop(graph);
        drop((up, down));
    }
}
