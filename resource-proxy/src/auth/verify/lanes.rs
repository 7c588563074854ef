//! How many questions the authorization server is asked at once, and how many may wait.
//!
//! Two lanes: tokens that were good a moment ago, and those that nobody has seen. A flood of
//! made-up tokens fills its own lane only.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Which queue a question stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// The token was good a moment ago.
    Known,
    /// Nobody has seen the token.
    Unknown,
}

#[derive(Debug)]
pub(super) struct Lanes {
    known: Queue,
    unknown: Queue,
}

#[derive(Debug)]
struct Queue {
    /// Places to wait, those that are asked included.
    places: Arc<Semaphore>,
    turns: Arc<Semaphore>,
}

/// A place in a queue, given back on drop.
#[derive(Debug)]
pub(super) struct Place {
    _place: OwnedSemaphorePermit,
    turns: Arc<Semaphore>,
}

impl Lanes {
    pub(super) fn new() -> Self {
        Self {
            known: Queue::new(2048, 32),
            unknown: Queue::new(256, 16),
        }
    }

    /// A place, unless the queue is full.
    pub(super) fn place(&self, lane: Lane) -> Option<Place> {
        let queue = match lane {
            Lane::Known => &self.known,
            Lane::Unknown => &self.unknown,
        };
        let place = Arc::clone(&queue.places).try_acquire_owned().ok()?;
        Some(Place {
            _place: place,
            turns: Arc::clone(&queue.turns),
        })
    }
}

impl Queue {
    fn new(places: usize, turns: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(places)),
            turns: Arc::new(Semaphore::new(turns)),
        }
    }
}

impl Place {
    /// Waits until it is this question's turn; it lasts until the permit is dropped.
    pub(super) async fn turn(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        // The semaphores are never closed.
        self.turns.acquire().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_lane_leaves_the_other_alone() {
        let lanes = Lanes::new();
        let mut places = Vec::new();
        while let Some(place) = lanes.place(Lane::Unknown) {
            places.push(place);
        }
        assert_eq!(places.len(), 256);
        assert!(lanes.place(Lane::Known).is_some());
        places.pop();
        assert!(lanes.place(Lane::Unknown).is_some());
    }
}
