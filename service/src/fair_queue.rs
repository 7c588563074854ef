//! A bounded queue for expensive work, fair between those who ask for it.
//!
//! Each source of work is served in turn, however much of it waits: a source with one piece waits for at most one
//! piece of every other source. When the queue is full, the source with most waiting pieces loses its last.
//!
//! Known callers are served before all others, and where several pieces run at once, one turn is kept for them: what runs for the
//! others may take long.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::admission::{Bounds, Caller};

/// The queue; `S` tells the sources apart, such as an address.
#[derive(Debug)]
pub struct FairQueue<S>(Arc<Shared<S>>);

/// The queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too much work is waiting")]
pub struct Full;

/// The right to do one piece of work, passed on when it is dropped.
#[derive(Debug)]
pub struct Turn<S> {
    caller: Caller,
    queue: Option<Arc<Shared<S>>>,
}

#[derive(Debug)]
struct Shared<S> {
    bounds: Bounds,
    state: Mutex<State<S>>,
}

#[derive(Debug)]
struct State<S> {
    running: usize,
    /// Of those, the ones of unknown callers.
    unknown: usize,
    /// The round of the work that was started last.
    round: u64,
    /// In the order of arrival.
    waiting: Vec<Waiting<S>>,
}

#[derive(Debug)]
struct Waiting<S> {
    caller: Caller,
    source: S,
    /// When it is served: the first piece of a source in the next round, its second in the one after that.
    round: u64,
    turn: oneshot::Sender<Turn<S>>,
}

impl<S: Eq> FairQueue<S> {
    /// An empty queue.
    pub fn new(bounds: Bounds) -> Self {
        let state = State {
            running: 0,
            unknown: 0,
            round: 0,
            waiting: Vec::new(),
        };
        Self(Arc::new(Shared {
            bounds,
            state: Mutex::new(state),
        }))
    }

    /// How much work waits.
    pub fn waiting(&self) -> usize {
        self.0.lock().waiting.len()
    }

    /// Waits for a turn.
    ///
    /// # Errors
    /// When the queue is full and no other source has more work in it.
    pub async fn turn(&self, caller: Caller, source: S) -> Result<Turn<S>, Full> {
        let waiting = {
            let mut state = self.0.lock();
            if state.may_run(caller, self.0.bounds.concurrent) {
                state.begin(caller);
                return Ok(Turn::new(caller, &self.0));
            }
            state.enter(caller, source, self.0.bounds.waiting)?
        };
        waiting.await.map_err(|_| Full)
    }
}

impl<S> Turn<S> {
    fn new(caller: Caller, queue: &Arc<Shared<S>>) -> Self {
        Self {
            caller,
            queue: Some(Arc::clone(queue)),
        }
    }

    /// Whose it is.
    pub fn caller(&self) -> Caller {
        self.caller
    }
}

impl<S: Eq> State<S> {
    fn enter(
        &mut self,
        caller: Caller,
        source: S,
        places: usize,
    ) -> Result<oneshot::Receiver<Turn<S>>, Full> {
        self.waiting.retain(|waiting| !waiting.turn.is_closed());
        let round = match caller {
            Caller::Known => self.round,
            Caller::Unknown => {
                let own = self.waiting.iter().filter(|other| other.source == source);
                own.map(|own| own.round)
                    .max()
                    .unwrap_or(self.round)
                    .max(self.round)
                    + 1
            }
        };
        if self.waiting.len() >= places {
            let last = self.waiting.iter().enumerate();
            let last = last.max_by_key(|(_, waiting)| waiting.round);
            let last = last.filter(|(_, waiting)| waiting.round > round);
            let (last, _) = last.ok_or(Full)?;
            self.waiting.remove(last);
        }
        let (turn, receiver) = oneshot::channel();
        self.waiting.push(Waiting {
            caller,
            source,
            round,
            turn,
        });
        Ok(receiver)
    }
}

impl<S> State<S> {
    fn may_run(&self, caller: Caller, concurrent: usize) -> bool {
        let of_unknown = concurrent.saturating_sub(1).max(1);
        self.running < concurrent && (caller == Caller::Known || self.unknown < of_unknown)
    }

    fn begin(&mut self, caller: Caller) {
        self.running += 1;
        self.unknown += usize::from(caller == Caller::Unknown);
    }

    fn end(&mut self, caller: Caller) {
        self.running -= 1;
        self.unknown -= usize::from(caller == Caller::Unknown);
    }

    /// The first of those that wait begins, if it may.
    fn next(&mut self, concurrent: usize) -> Option<Waiting<S>> {
        let first = self.waiting.iter().enumerate();
        let (first, waiting) = first.min_by_key(|(_, waiting)| waiting.round)?;
        if !self.may_run(waiting.caller, concurrent) {
            return None;
        }
        let waiting = self.waiting.remove(first);
        self.begin(waiting.caller);
        self.round = self.round.max(waiting.round);
        Some(waiting)
    }
}

impl<S> Shared<S> {
    fn lock(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> Drop for Turn<S> {
    fn drop(&mut self) {
        let Some(queue) = self.queue.take() else {
            return;
        };
        let mut ended = self.caller;
        loop {
            let next = {
                let mut state = queue.lock();
                state.end(ended);
                state.next(queue.bounds.concurrent)
            };
            let Some(next) = next else {
                return;
            };
            match next.turn.send(Turn::new(next.caller, &queue)) {
                Ok(()) => return,
                // It no longer waits: the turn goes to the one behind it.
                Err(mut turn) => drop(turn.queue.take()),
            }
            ended = next.caller;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn queue(waiting: usize) -> FairQueue<u8> {
        FairQueue::new(Bounds {
            waiting,
            concurrent: 1,
        })
    }

    type Entry<'a> = Pin<Box<dyn Future<Output = Result<Turn<u8>, Full>> + 'a>>;

    fn poll(entry: &mut Entry<'_>) -> Poll<Result<Turn<u8>, Full>> {
        entry.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    /// Lets these sources ask one after the other, and says in which order they are served.
    fn order(queue: &FairQueue<u8>, sources: &[(Caller, u8)]) -> Vec<u8> {
        let mut running = match poll(&mut (Box::pin(queue.turn(Caller::Unknown, 0)) as Entry<'_>)) {
            Poll::Ready(Ok(turn)) => Some(turn),
            other => panic!("{other:?}"),
        };
        let mut entries: Vec<(u8, Entry<'_>)> = Vec::new();
        for (caller, source) in sources {
            let mut entry: Entry<'_> = Box::pin(queue.turn(*caller, *source));
            match poll(&mut entry) {
                Poll::Pending => entries.push((*source, entry)),
                Poll::Ready(answer) => assert_eq!(answer.err(), Some(Full)),
            }
        }
        let mut served = Vec::new();
        while running.take().is_some() {
            entries.retain_mut(|(source, entry)| match poll(entry) {
                Poll::Pending => true,
                Poll::Ready(Err(Full)) => false,
                Poll::Ready(Ok(turn)) => {
                    served.push(*source);
                    running = Some(turn);
                    false
                }
            });
        }
        assert!(entries.is_empty());
        served
    }

    fn unknown(sources: &[u8]) -> Vec<(Caller, u8)> {
        let unknown = |source: &u8| (Caller::Unknown, *source);
        sources.iter().map(unknown).collect()
    }

    #[test]
    fn sources_are_served_in_turn() {
        let order = order(&queue(9), &unknown(&[1, 1, 1, 2, 3, 2]));
        assert_eq!(order, [1, 2, 3, 1, 2, 1]);
    }

    #[test]
    fn when_it_is_full_the_source_with_most_loses_its_last() {
        let order = order(&queue(3), &unknown(&[1, 1, 1, 2, 1, 3, 4]));
        assert_eq!(order, [1, 2, 3]);
    }

    #[test]
    fn known_callers_come_first() {
        let mut sources = unknown(&[1, 2, 3]);
        sources.push((Caller::Known, 9));
        assert_eq!(order(&queue(3), &sources), [9, 1, 2]);
    }

    #[test]
    fn of_several_turns_one_is_kept_for_known_callers() {
        let queue = FairQueue::new(Bounds {
            waiting: 9,
            concurrent: 2,
        });
        let ask = |caller| -> Entry<'_> { Box::pin(queue.turn(caller, 0)) };
        let mut first = ask(Caller::Unknown);
        let Poll::Ready(Ok(first)) = poll(&mut first) else {
            panic!("it is alone");
        };
        let mut second = ask(Caller::Unknown);
        assert!(poll(&mut second).is_pending());
        let mut known = ask(Caller::Known);
        let Poll::Ready(Ok(known)) = poll(&mut known) else {
            panic!("it waits for an unknown one");
        };
        drop(known);
        assert!(poll(&mut second).is_pending());
        drop(first);
        assert!(matches!(poll(&mut second), Poll::Ready(Ok(_))));
    }

    #[test]
    fn who_no_longer_waits_is_passed_over_and_no_turn_is_lost() {
        let queue = queue(9);
        let mut first = pin!(queue.turn(Caller::Unknown, 0));
        let mut context = Context::from_waker(Waker::noop());
        let Poll::Ready(Ok(turn)) = first.as_mut().poll(&mut context) else {
            panic!("the first one does not wait");
        };
        let mut gone: Entry<'_> = Box::pin(queue.turn(Caller::Unknown, 1));
        let mut left_late: Entry<'_> = Box::pin(queue.turn(Caller::Unknown, 2));
        let mut waits: Entry<'_> = Box::pin(queue.turn(Caller::Unknown, 3));
        for entry in [&mut gone, &mut left_late, &mut waits] {
            assert!(poll(entry).is_pending());
        }
        drop(gone);
        drop(turn);
        // It was its turn, but it did not see that.
        drop(left_late);
        assert!(matches!(poll(&mut waits), Poll::Ready(Ok(_))));
        let mut next: Entry<'_> = Box::pin(queue.turn(Caller::Unknown, 4));
        assert!(poll(&mut next).is_ready());
    }
}
