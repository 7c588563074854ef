//! Connections that are kept from one statement to the next.
//!
//! The pool tries a connection that comes back, and so do we before it does: after a single statement these are two more round
//! trips. One whose statement has ended needs no trial. All others, those of statements that were given up among them, go back
//! to the pool.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::Postgres;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnection, PgPool};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::connections::{Generation, TRIAL_TIMEOUT, TRUSTED_IDLE_TIME, ping};

/// How long one is kept without a statement, and at all: at the next statement the pool decides what comes of it.
const KEPT_IDLE: Duration = Duration::from_secs(10);
const KEPT: Duration = Duration::from_mins(5);

/// The connections that are kept, for all tasks together: the one used last is taken first, so few are open, and after a failover
/// few lead to the former primary. They count as the pool's, which is to have more than these.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pool: PgPool,
    generation: Generation,
    places: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Idle>>>,
}

#[derive(Debug)]
struct Idle {
    connection: PoolConnection<Postgres>,
    /// When it came from the pool.
    began: Instant,
    since: Instant,
}

/// A connection in use, which goes back to the pool if it is not kept.
#[derive(Debug)]
pub(super) struct InUse {
    connection: PoolConnection<Postgres>,
    began: Instant,
    idle: Arc<Mutex<Vec<Idle>>>,
    /// Without one it cannot be kept.
    place: Option<OwnedSemaphorePermit>,
}

impl Kept {
    /// Keeps at most so many of the pool's connections.
    pub(super) fn new(pool: PgPool, most: u32, generation: &Generation) -> Self {
        let places = usize::try_from(most).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            pool,
            generation: generation.clone(),
            places: Arc::new(Semaphore::new(places)),
            idle: Arc::default(),
        }
    }

    /// A connection for one statement.
    ///
    /// # Errors
    /// As the pool's.
    pub(super) async fn acquire(&self) -> Result<InUse, sqlx::Error> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok();
        if place.is_some()
            && let Some(mut idle) = self.pop()
        {
            if self.is_good(&mut idle).await {
                return Ok(self.in_use(idle.connection, idle.began, place));
            }
            idle.connection.close_on_drop();
            // What ended this one has probably ended the others. The pool tries them, while nobody waits.
            drop(std::mem::take(&mut *lock(&self.idle)));
        }
        // Before the pool tries it: one that is given up meanwhile is not taken for new.
        let began = Instant::now();
        let connection = self.pool.acquire().await?;
        Ok(self.in_use(connection, began, place))
    }

    fn in_use(
        &self,
        connection: PoolConnection<Postgres>,
        began: Instant,
        place: Option<OwnedSemaphorePermit>,
    ) -> InUse {
        InUse {
            connection,
            began,
            idle: Arc::clone(&self.idle),
            place,
        }
    }

    /// The one that was used last. Those that have been idle for long go back to the pool.
    fn pop(&self) -> Option<Idle> {
        let (last, _old) = {
            let mut idle = lock(&self.idle);
            let old = idle.partition_point(|one| one.since.elapsed() > KEPT_IDLE);
            let old: Vec<Idle> = idle.drain(..old).collect();
            (idle.pop(), old)
        };
        last
    }

    async fn is_good(&self, idle: &mut Idle) -> bool {
        if !self.generation.has(idle.began.elapsed()) {
            return false;
        }
        idle.since.elapsed() <= TRUSTED_IDLE_TIME
            || ping(&mut idle.connection, TRIAL_TIMEOUT).await.is_ok()
    }
}

impl InUse {
    /// Its statement has ended: it needs no trial.
    pub(super) fn keep(self) {
        let Self {
            connection,
            began,
            idle,
            place,
        } = self;
        if place.is_some() && began.elapsed() < KEPT {
            let since = Instant::now();
            lock(&idle).push(Idle {
                connection,
                began,
                since,
            });
        }
    }
}

impl Deref for InUse {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for InUse {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

fn lock(idle: &Mutex<Vec<Idle>>) -> MutexGuard<'_, Vec<Idle>> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}
