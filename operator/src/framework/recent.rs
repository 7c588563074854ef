//! What was read a moment ago, so that a thousand new objects that refer to the same one do not read it a thousand times.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long a value is used after it was read. A change that is watched ends it at once.
const RECENT: Duration = Duration::from_secs(1);

/// Values by key. One that nobody asks for again is dropped when the next one is kept.
#[derive(Debug)]
pub struct Recent<K, V>(Mutex<Values<K, V>>);

#[derive(Debug)]
struct Values<K, V> {
    /// How many changes were seen: what was being read meanwhile may be older.
    changes: u64,
    values: HashMap<K, (Instant, Arc<V>)>,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self(Mutex::new(Values {
            changes: 0,
            values: HashMap::new(),
        }))
    }
}

impl<K: Eq + Hash, V> Recent<K, V> {
    /// The value, which `read` gives if it was not read a moment ago.
    ///
    /// # Errors
    /// That of `read`.
    pub async fn get<E>(
        &self,
        key: K,
        read: impl AsyncFnOnce() -> Result<V, E>,
    ) -> Result<Arc<V>, E> {
        let changes = {
            let values = self.lock();
            let found = values.values.get(&key);
            if let Some((_, value)) = found.filter(|(at, _)| at.elapsed() < RECENT) {
                return Ok(Arc::clone(value));
            }
            values.changes
        };
        let began = Instant::now();
        let value = Arc::new(read().await?);
        let mut values = self.lock();
        if values.changes == changes {
            values.values.retain(|_, (at, _)| at.elapsed() < RECENT);
            values.values.insert(key, (began, Arc::clone(&value)));
        }
        Ok(value)
    }

    /// What this key stands for has changed.
    pub fn changed(&self, key: &K) {
        let mut values = self.lock();
        values.changes += 1;
        values.values.remove(key);
    }

    fn lock(&self) -> MutexGuard<'_, Values<K, V>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn get(recent: &Recent<&'static str, u32>, now: u32) -> u32 {
        let read = recent.get("key", async || Ok::<_, ()>(now));
        *read.await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_is_read_again_after_a_while_or_a_change() {
        let recent = Recent::default();
        assert_eq!(get(&recent, 1).await, 1);
        tokio::time::advance(RECENT / 2).await;
        assert_eq!(get(&recent, 2).await, 1);
        tokio::time::advance(RECENT / 2).await;
        assert_eq!(get(&recent, 3).await, 3);
        recent.changed(&"another");
        assert_eq!(get(&recent, 4).await, 3);
        recent.changed(&"key");
        assert_eq!(get(&recent, 5).await, 5);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_read_while_it_changed_is_not_kept() {
        let recent = Recent::default();
        let read = async || {
            recent.changed(&"key");
            Ok::<_, ()>(1)
        };
        assert_eq!(*recent.get("key", read).await.unwrap(), 1);
        assert_eq!(get(&recent, 2).await, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_is_not_kept() {
        let recent = Recent::default();
        assert_eq!(recent.get("key", async || Err(())).await, Err(()));
        assert_eq!(get(&recent, 2).await, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn old_values_are_dropped() {
        let recent = Recent::<u32, u32>::default();
        for key in 0..100 {
            recent.get(key, async || Ok::<_, ()>(key)).await.unwrap();
            tokio::time::advance(RECENT / 4).await;
        }
        assert!(recent.lock().values.len() <= 4);
    }
}
