//! Admission control: callers that were recently valid do not wait behind unknown ones.
//!
//! Checking a caller costs a request to another service. Each of the two groups has its own limit on
//! concurrent checks and on waiting callers, so a flood of invalid tokens fills only the queue of unknown
//! callers.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// Which queue a caller waits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Was valid when last checked.
    Known,
    /// All other callers.
    Unknown,
}

/// The bounds of one queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Maximum number of callers that wait or are being checked; further ones are rejected.
    pub waiting: usize,
    /// Maximum number of concurrent checks.
    pub concurrent: usize,
}

/// The two queues.
#[derive(Debug)]
pub struct Admission {
    known: Queue,
    unknown: Queue,
}

#[derive(Debug)]
struct Queue {
    places: Arc<Semaphore>,
    turns: Arc<Semaphore>,
}

/// A place in a queue, returned on drop.
#[derive(Debug)]
pub struct Place {
    _place: OwnedSemaphorePermit,
    turns: Arc<Semaphore>,
}

/// The right to run a check, returned on drop.
#[derive(Debug)]
pub struct Turn<'a> {
    _turn: Option<SemaphorePermit<'a>>,
}

impl Admission {
    /// With empty queues.
    pub fn new(known: Bounds, unknown: Bounds) -> Self {
        Self {
            known: Queue::new(known),
            unknown: Queue::new(unknown),
        }
    }

    /// A place, unless the caller's queue is full.
    pub fn enter(&self, caller: Caller) -> Option<Place> {
        let queue = match caller {
            Caller::Known => &self.known,
            Caller::Unknown => &self.unknown,
        };
        let place = Arc::clone(&queue.places).try_acquire_owned().ok()?;
        Some(Place {
            _place: place,
            turns: Arc::clone(&queue.turns),
        })
    }
}

impl Queue {
    fn new(bounds: Bounds) -> Self {
        Self {
            places: Arc::new(Semaphore::new(bounds.waiting)),
            turns: Arc::new(Semaphore::new(bounds.concurrent)),
        }
    }
}

impl Place {
    /// Waits until it is this caller's turn.
    pub async fn turn(&self) -> Turn<'_> {
        // The semaphore is never closed.
        Turn {
            _turn: self.turns.acquire().await.ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::task::TaskTracker;

    use super::*;

    fn admission() -> Arc<Admission> {
        let bounds = |waiting, concurrent| Bounds {
            waiting,
            concurrent,
        };
        Arc::new(Admission::new(bounds(16, 2), bounds(3, 1)))
    }

    #[test]
    fn a_full_queue_leaves_the_other_alone() {
        let admission = admission();
        let mut places = Vec::new();
        while let Some(place) = admission.enter(Caller::Unknown) {
            places.push(place);
        }
        assert_eq!(places.len(), 3);
        assert!(admission.enter(Caller::Known).is_some());
        places.pop();
        assert!(admission.enter(Caller::Unknown).is_some());
    }

    #[tokio::test]
    async fn turns_of_the_unknown_are_not_those_of_the_known() {
        let admission = admission();
        let first = admission.enter(Caller::Unknown).unwrap();
        let asking = first.turn().await;
        let second = admission.enter(Caller::Unknown).unwrap();
        let tasks = TaskTracker::new();
        let waits = tasks.spawn(async move {
            second.turn().await;
        });
        admission.enter(Caller::Known).unwrap().turn().await;
        assert!(!waits.is_finished());
        drop(asking);
        waits.await.unwrap();
    }
}
