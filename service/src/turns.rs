//! Whose turn it is: the processors serve one network after the other, however many connections each of them has.
//!
//! The runtime comes to all connections that have something to do in the order in which they got it. A network with a thousand
//! of them would have a thousand turns where another has one. So only a few of a network have theirs in a round of the runtime's
//! queue, the others of it wait outside.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::thread::available_parallelism;

use tokio::sync::Semaphore;
use tokio_util::sync::PollSemaphore;

/// The turns of a network in a round: two for each processor, so that all are busy when there is only one network.
pub(crate) fn of_network() -> Arc<Semaphore> {
    let processors = available_parallelism().map_or(1, usize::from);
    Arc::new(Semaphore::new(2 * processors))
}

/// Does what a connection does, whenever its network has a turn for it.
pub(crate) async fn in_turn<F: Future>(turns: Arc<Semaphore>, connection: F) -> F::Output {
    let mut connection = pin!(connection);
    let mut turns = PollSemaphore::new(turns);
    let mut turn = None;
    let alarm = Arc::new(Alarm::default());
    let waker = Waker::from(Arc::clone(&alarm));
    poll_fn(|context| {
        alarm.is_for(context.waker());
        let round_is_over = turn.take().is_some();
        if round_is_over && !alarm.rang.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        let next = ready!(turns.poll_acquire(context));
        alarm.rang.store(false, Ordering::Release);
        let polled = connection.as_mut().poll(&mut Context::from_waker(&waker));
        if polled.is_pending() {
            // The turn ends when the runtime comes back here, after all others that wait.
            turn = next;
            context.waker().wake_by_ref();
        }
        polled
    })
    .await
}

/// Tells what wakes the connection from the end of its turn.
struct Alarm {
    rang: AtomicBool,
    task: Mutex<Waker>,
}

impl Default for Alarm {
    fn default() -> Self {
        Self {
            // At first there is something to do.
            rang: AtomicBool::new(true),
            task: Mutex::new(Waker::noop().clone()),
        }
    }
}

impl Alarm {
    fn is_for(&self, task: &Waker) {
        let mut known = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        known.clone_from(task);
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rang.store(true, Ordering::Release);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        task.wake_by_ref();
    }
}
