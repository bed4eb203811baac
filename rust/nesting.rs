// SPDX-License-Identifier: GPL-2.0

//! Kqueues that watch kqueues: no circles, and no long chains.
//!
//! One mutex guards all edges of the graph. It is taken under a kqueue's own mutex, when an
//! `EVFILT_READ` on a kqueue is attached or detached, and nothing is taken under it.

use crate::kqueue::Kqueue;
use kernel::{
    new_mutex,
    prelude::*,
    sync::{Arc, Mutex}, //
};

/// How many kqueues a chain may have, from the watched to the last that watches.
const CHAIN_MAX: usize = 5;

/// What the mutex guards, besides every kqueue's `Links`.
pub(crate) struct Graph {
    /// The number of the last walk.
    walk: u64,
}

/// All edges.
#[pin_data]
pub(crate) struct Nesting {
    #[pin]
    pub(crate) graph: Mutex<Graph>,
}

/// A kqueue's edges.
pub(crate) struct Links {
    watchers: KVec<Arc<Kqueue>>,
    watched: KVec<Arc<Kqueue>>,
    /// The last walk that has been here, and what it found to be the longest chain from here on.
    visited: (u64, usize),
}

/// One kqueue watches another; ends when dropped.
pub(crate) struct Edge {
    nesting: Arc<Nesting>,
    watcher: Arc<Kqueue>,
    watched: Arc<Kqueue>,
}

#[derive(Clone, Copy)]
enum Direction {
    ToWatchers,
    ToWatched,
}

impl Links {
    /// No edges.
    pub(crate) fn new() -> Self {
        Links {
            watchers: KVec::new(),
            watched: KVec::new(),
            visited: (0, 0),
        }
    }

    fn towards(&mut self, direction: Direction) -> &mut KVec<Arc<Kqueue>> {
        match direction {
            Direction::ToWatchers => &mut self.watchers,
            Direction::ToWatched => &mut self.watched,
        }
    }

    fn drop_one(&mut self, direction: Direction, kqueue: &Arc<Kqueue>) -> Option<Arc<Kqueue>> {
        let links = self.towards(direction);
        let at = links.iter().position(|other| Arc::ptr_eq(other, kqueue))?;
        links.remove(at).ok()
    }
}

impl Graph {
    /// The length of the longest chain that begins at `from`, itself included. Each kqueue is
    /// walked once. The depth of the recursion is that length: at most [`CHAIN_MAX`].
    fn longest(&mut self, from: &Kqueue, direction: Direction) -> usize {
        let walk = self.walk;
        let links = from.links.access_mut(self);
        if links.visited.0 == walk {
            return links.visited.1;
        }
        let mut longest = 0;
        let mut i = 0;
        while let Some(next) = from
            .links
            .access_mut(self)
            .towards(direction)
            .get(i)
            .cloned()
        {
            longest = longest.max(self.longest(&next, direction));
            i += 1;
        }
        from.links.access_mut(self).visited = (walk, longest + 1);
        longest + 1
    }

    fn is_reachable(&mut self, from: &Kqueue, to: &Kqueue) -> bool {
        let walk = self.walk;
        let links = from.links.access_mut(self);
        if links.visited.0 == walk {
            return false;
        }
        links.visited = (walk, 0);
        if core::ptr::eq(from, to) {
            return true;
        }
        let mut i = 0;
        while let Some(next) = from.links.access_mut(self).watched.get(i).cloned() {
            if self.is_reachable(&next, to) {
                return true;
            }
            i += 1;
        }
        false
    }
}

impl Nesting {
    /// No edges.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Nesting { graph <- new_mutex!(Graph { walk: 0 }) }),
            GFP_KERNEL,
        )
    }

    /// `watcher` begins to watch `watched`.
    ///
    /// # Errors
    ///
    /// `ELOOP` if that closed a circle, or made too long a chain; `ENOMEM`.
    pub(crate) fn connect(
        self: &Arc<Self>,
        watcher: Arc<Kqueue>,
        watched: Arc<Kqueue>,
    ) -> Result<Edge> {
        let mut graph = self.graph.lock();
        graph.walk += 1;
        if graph.is_reachable(&watched, &watcher) {
            return Err(ELOOP);
        }
        graph.walk += 1;
        let above = graph.longest(&watcher, Direction::ToWatchers);
        graph.walk += 1;
        let below = graph.longest(&watched, Direction::ToWatched);
        if above + below > CHAIN_MAX {
            return Err(ELOOP);
        }
        let links = watcher.links.access_mut(&mut graph);
        links.watched.push(watched.clone(), GFP_KERNEL_ACCOUNT)?;
        let links = watched.links.access_mut(&mut graph);
        if let Err(error) = links.watchers.push(watcher.clone(), GFP_KERNEL_ACCOUNT) {
            let links = watcher.links.access_mut(&mut graph);
            links.drop_one(Direction::ToWatched, &watched);
            return Err(error.into());
        }
        Ok(Edge {
            nesting: self.clone(),
            watcher,
            watched,
        })
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        let mut graph = self.nesting.graph.lock();
        let links = self.watcher.links.access_mut(&mut graph);
        let watched = links.drop_one(Direction::ToWatched, &self.watched);
        let links = self.watched.links.access_mut(&mut graph);
        let watcher = links.drop_one(Direction::ToWatchers, &self.watcher);
        // References are dropped without the lock: they may be the last.
        drop(graph);
        drop((watched, watcher));
    }
}
