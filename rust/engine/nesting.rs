// SPDX-License-Identifier: GPL-2.0

//! Kqueues that watch kqueues: no cycles, and a limited number of paths.
//!
//! An event of a kqueue propagates along all *paths* up from it: to the kqueues that watch it, and
//! to those that watch these. The task that triggers the event pays for that, and may be a
//! bystander, so at most [`PATHS_MAX`] paths lead up from a kqueue. To check that when an edge is
//! added, all kqueues below the edge are visited. So a kqueue that is watched may not have more
//! paths down, either. (A kqueue that is not watched may, as no path leads through it.) Each kqueue
//! knows the numbers of its paths in both directions, so that adding and removing an edge visits no
//! more kqueues than these.
//!
//! So a chain has at most [`PATHS_MAX`] links. A long chain costs no more than as many other paths:
//! each kqueue on it is notified in an interrupt of its own ([`crate::sys::notify::notifier`]), an
//! evaluation of one kqueue evaluates no other, and no kqueue is released within the release of
//! another. The walks keep their way in memory, and are not recursive.
//!
//! One mutex guards all edges of the graph. It is taken under a kqueue's own mutex, when an
//! `EVFILT_READ` on a kqueue is attached or detached, and nothing is taken under it.

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

/// How many paths may lead up from a kqueue, and down from one that is watched. A path may end
/// anywhere, so they have no more edges than that.
const PATHS_MAX: usize = 512;

/// What the mutex guards, besides every kqueue's `Links`.
pub(crate) struct Graph {
    /// The number of the next edge.
    next: u64,
    /// Memory for the way of a walk, with room for the longest. Empty between walks.
    stack: Cell<KVec<Step>>,
}

/// A kqueue on the way of a walk.
struct Step {
    at: Arc<Kqueue>,
    /// The edge that comes next has this number, or a higher one.
    next: u64,
}

/// All edges.
#[pin_data]
pub(crate) struct Nesting {
    #[pin]
    pub(crate) graph: Mutex<Graph>,
}

/// A kqueue's edges, by number.
pub(crate) struct Links {
    up: Side,
    down: Side,
}

/// The edges in one direction: to the watchers, or to the watched kqueues.
struct Side {
    edges: RBTree<u64, Arc<Kqueue>>,
    /// The number of paths. Only the owner of the mutex writes it.
    paths: AtomicUsize,
}

/// One kqueue watches another, until this is dropped.
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
    /// The walk has met the kqueue that it must not meet.
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

impl Links {
    /// No edges.
    pub(crate) fn new() -> Self {
        Links {
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
    /// How many paths backwards each kqueue on the walk, including the first, gets for each path
    /// that leads there. May be negative.
    delta: isize,
    /// The kqueue that must not be met.
    forbidden: &'a Kqueue,
}

impl Walk<'_> {
    /// There are at most [`PATHS_MAX`] paths, so no way is longer.
    fn run(&self, from: &Arc<Kqueue>) -> WalkOutcome {
        let mut outcome = WalkOutcome::default();
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
            let edges = &step.at.links.access(self.graph).side(self.direction).edges;
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
        let links = at.links.access(self.graph);
        let backwards = &links.side(self.direction.reverse()).paths;
        let paths = backwards
            .load(Ordering::Relaxed)
            .saturating_add_signed(self.delta);
        backwards.store(paths, Ordering::Relaxed);
        outcome.cycle |= core::ptr::eq(at, self.forbidden);
        outcome.too_many |= links.has_too_many_paths();
    }
}

/// How many paths an edge adds: up from the watched kqueue, and down from the watcher.
#[derive(Clone, Copy)]
struct PathDelta {
    up: isize,
    down: isize,
}

impl Graph {
    fn path_delta(&self, watcher: &Kqueue, watched: &Kqueue) -> PathDelta {
        let paths = |side: &Side| side.paths().saturating_add(1) as isize;
        PathDelta {
            up: paths(&watcher.links.access(self).up),
            down: paths(&watched.links.access(self).down),
        }
    }

    /// Counts these paths on all kqueues above and below the edge. Returns the results of both
    /// walks.
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
    /// knotes have a reference to its file during the call. (A knote whose descriptor was closed
    /// drops its reference after its edge.)
    pub(crate) fn with_watchers<R>(&self, kqueue: &Kqueue, with: impl FnOnce(usize) -> R) -> R {
        let graph = self.graph.lock();
        with(kqueue.links.access(&*graph).up.edges.values().count())
    }

    /// `watcher` begins to watch `watched`.
    ///
    /// # Errors
    ///
    /// `ELOOP` if that would close a cycle; `ENOSPC` for too many paths; `ENOMEM`.
    pub(crate) fn connect(
        self: &Arc<Self>,
        watcher: Arc<Kqueue>,
        watched: Arc<Kqueue>,
    ) -> Result<Edge> {
        let up = RBTreeNodeReservation::new(GFP_KERNEL_ACCOUNT)?;
        let down = RBTreeNodeReservation::new(GFP_KERNEL_ACCOUNT)?;
        let mut graph = self.graph.lock();
        // So a walk down from it is short enough.
        if watched.links.access(&*graph).down.paths() > PATHS_MAX {
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
        let links = watched.links.access_mut(&mut graph);
        links.up.edges.insert(up.into_node(number, watcher.clone()));
        let links = watcher.links.access_mut(&mut graph);
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
        let links = self.watched.links.access_mut(&mut graph);
        let up = links.up.edges.remove_node(&self.number);
        let links = self.watcher.links.access_mut(&mut graph);
        let down = links.down.edges.remove_node(&self.number);
        let delta = graph.path_delta(&self.watcher, &self.watched);
        let _ = graph.apply(&self.watcher, &self.watched, -delta);
        // References are dropped without the lock, since they may be the last ones.
        drop(graph);
        drop((up, down));
    }
}
