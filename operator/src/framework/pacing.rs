//! How many objects have their pods replaced at a time because the operator was upgraded.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::time::Instant;

/// A turn ends after this time at the latest: longer than the deadline of a Deployment's rollout.
const LONGEST_TURN: Duration = Duration::from_mins(15);
/// The shortest time until an object that waits asks again.
const SHORTEST_WAIT: Duration = Duration::from_secs(5);
/// The longest.
const LONGEST_WAIT: Duration = Duration::from_mins(5);

/// Who has a turn, and who waits for one. Objects are named by kind, namespace and name.
#[derive(Debug)]
pub struct Pacing {
    most: usize,
    state: Mutex<State>,
    /// Whether the rollouts that an earlier process began are among the turns.
    resumed: OnceCell<()>,
}

#[derive(Debug, Default)]
struct State {
    /// With the time when the turn began.
    turns: HashMap<String, Instant>,
    waiting: HashSet<String>,
}

impl Pacing {
    /// At most `most` turns at a time.
    pub fn new(most: u16) -> Self {
        Self {
            most: most.into(),
            state: Mutex::default(),
            resumed: OnceCell::new(),
        }
    }

    /// How many turns there are at a time.
    pub fn most(&self) -> usize {
        self.most
    }

    /// Whether it is the object's turn; it then lasts until [`Self::end`]. `under_way` finds the rollouts that are under way
    /// when this is first asked.
    ///
    /// # Errors
    /// Of `under_way`.
    pub async fn is_turn<E>(
        &self,
        object: &str,
        under_way: impl Future<Output = Result<Vec<String>, E>>,
    ) -> Result<bool, E> {
        let resume = || async {
            let begun = under_way.await?;
            let now = Instant::now();
            self.with(|state| state.turns.extend(begun.into_iter().map(|o| (o, now))));
            Ok(())
        };
        self.resumed.get_or_try_init(resume).await?;
        Ok(self.take_turn(object, Instant::now()))
    }

    fn take_turn(&self, object: &str, now: Instant) -> bool {
        self.with(|state| {
            state
                .turns
                .retain(|_, began| now.duration_since(*began) < LONGEST_TURN);
            let may = state.turns.contains_key(object) || state.turns.len() < self.most;
            if may {
                state.waiting.remove(object);
                state.turns.entry(object.to_owned()).or_insert(now);
            } else {
                state.waiting.insert(object.to_owned());
            }
            may
        })
    }

    /// The object has no rollout under way, and waits for none; or it is gone.
    pub fn end(&self, object: &str) {
        self.with(|state| {
            state.turns.remove(object);
            state.waiting.remove(object);
        });
    }

    /// How long an object that waits does so before it asks again: the more wait, the longer, so that they do not ask more
    /// often together.
    pub fn wait(&self) -> Duration {
        let waiting = self.with(|state| state.waiting.len());
        let rounds = u32::try_from(waiting / self.most.max(1)).unwrap_or(u32::MAX);
        SHORTEST_WAIT
            .saturating_mul(rounds)
            .clamp(SHORTEST_WAIT, LONGEST_WAIT)
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn none() -> Result<Vec<String>, ()> {
        Ok(Vec::new())
    }

    #[tokio::test(start_paused = true)]
    async fn at_most_so_many_have_a_turn_until_it_ends_or_has_lasted_too_long() {
        let pacing = Pacing::new(2);
        let turn = async |object: &str| pacing.is_turn(object, none()).await.unwrap();
        assert!(turn("a").await && turn("b").await && !turn("c").await);
        assert!(turn("a").await, "a turn is kept");
        pacing.end("b");
        assert!(turn("c").await && !turn("b").await);
        tokio::time::advance(LONGEST_TURN - SHORTEST_WAIT).await;
        assert!(!turn("b").await);
        tokio::time::advance(SHORTEST_WAIT).await;
        assert!(turn("b").await && turn("d").await && !turn("a").await);
    }

    #[tokio::test]
    async fn what_an_earlier_process_began_counts() {
        let pacing = Pacing::new(2);
        let failing = async { Err::<Vec<String>, _>("no") };
        assert_eq!(pacing.is_turn("c", failing).await, Err("no"));
        let begun = async { Ok::<_, ()>(vec!["a".to_owned(), "b".to_owned(), "z".to_owned()]) };
        assert_eq!(pacing.is_turn("c", begun).await, Ok(false));
        assert_eq!(pacing.is_turn("a", none()).await, Ok(true));
        pacing.end("z");
        assert_eq!(pacing.is_turn("c", none()).await, Ok(false));
        pacing.end("b");
        assert_eq!(pacing.is_turn("c", none()).await, Ok(true));
    }

    #[tokio::test]
    async fn the_more_wait_the_more_rarely_each_asks() {
        let pacing = Pacing::new(2);
        for object in 0..2002 {
            pacing.is_turn(&object.to_string(), none()).await.unwrap();
        }
        assert_eq!(pacing.wait(), LONGEST_WAIT);
        for object in 42..2002 {
            pacing.end(&object.to_string());
        }
        assert_eq!(pacing.wait(), 20 * SHORTEST_WAIT);
        for object in 0..42 {
            pacing.end(&object.to_string());
        }
        assert_eq!(pacing.wait(), SHORTEST_WAIT);
        let state = pacing.state.lock().unwrap();
        assert!(state.turns.is_empty() && state.waiting.is_empty());
    }
}
