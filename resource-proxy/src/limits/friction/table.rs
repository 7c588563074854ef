//! Cells by key, in memory that never grows.

use super::law::State;

const BUCKETS: usize = 1024;
const WAYS: usize = 16;

/// Up to 16384 cells. The low bits of a key select its bucket. A new cell in a full
/// bucket evicts the cell that is free soonest, and the bucket remembers until when that
/// one was in debt: every later new cell starts with at least that debt. So eviction does not clear a
/// debt, and a cell with a large debt is evicted only if all sixteen cells of its bucket have larger ones.
#[derive(Debug)]
pub(super) struct Table {
    buckets: Vec<Bucket>,
}

#[derive(Clone, Debug)]
struct Bucket {
    /// Together, so that a search reads little memory. 0: an empty slot.
    keys: [u64; WAYS],
    states: [State; WAYS],
    /// The latest `free_at` of the evicted cells.
    floor: f64,
}

impl Table {
    pub(super) fn new() -> Self {
        let bucket = Bucket {
            keys: [0; WAYS],
            states: [State::NEW; WAYS],
            floor: f64::NEG_INFINITY,
        };
        Self {
            buckets: vec![bucket; BUCKETS],
        }
    }

    /// The state of `key`, created if there is none.
    pub(super) fn entry(&mut self, key: u64, now: f64) -> &mut State {
        let bucket = &mut self.buckets[index(key)];
        let place = match bucket.place(key) {
            Some(place) => place,
            None => bucket.evict(key, now),
        };
        &mut bucket.states[place]
    }

    /// The state of `key`, if it is in the table.
    pub(super) fn get(&mut self, key: u64) -> Option<&mut State> {
        let bucket = &mut self.buckets[index(key)];
        let place = bucket.place(key)?;
        bucket.states.get_mut(place)
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.buckets.capacity() * size_of::<Bucket>()
    }
}

impl Bucket {
    fn place(&self, key: u64) -> Option<usize> {
        self.keys.iter().position(|other| *other == key)
    }

    fn evict(&mut self, key: u64, now: f64) -> usize {
        let mut soonest = 0;
        for (place, state) in self.states.iter().enumerate() {
            // An empty slot has no debt.
            if state.free_at < self.states[soonest].free_at {
                soonest = place;
            }
        }
        self.floor = self.floor.max(self.states[soonest].free_at);
        self.keys[soonest] = key;
        self.states[soonest] = State::since(self.floor, now);
        soonest
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low bits are wanted")]
fn index(key: u64) -> usize {
    key as usize % BUCKETS
}

#[cfg(test)]
mod tests {
    use super::{BUCKETS, Table, WAYS};

    /// Keys of one bucket.
    fn key(number: usize) -> u64 {
        (1 + number * BUCKETS) as u64
    }

    #[test]
    fn forgetting_does_not_forgive() {
        let mut table = Table::new();
        for number in 0..WAYS {
            table.entry(key(number), 0.0).free_at = 100.0 + number as f64;
        }
        assert_eq!(
            table.entry(key(WAYS), 1.0).free_at,
            100.0,
            "takes the place of the first"
        );
        assert_eq!(
            table.entry(key(0), 2.0).free_at,
            100.0,
            "who comes back owes as much"
        );
        assert_eq!(table.entry(key(15), 2.0).free_at, 115.0);
        assert!(table.get(key(WAYS)).is_none());
    }

    #[test]
    fn the_floor_is_of_one_bucket_and_heals() {
        let mut table = Table::new();
        for number in 0..=WAYS {
            table.entry(key(number), 0.0).free_at = 100.0;
        }
        assert_eq!(table.entry(2, 0.0).free_at, f64::NEG_INFINITY);
        assert!(table.entry(key(99), 500.0).free_at < 500.0);
    }

    #[test]
    fn an_empty_place_is_taken_first() {
        let mut table = Table::new();
        for number in 0..WAYS {
            table.entry(key(number), 0.0).free_at = -5.0;
        }
        assert!((0..WAYS).all(|number| table.get(key(number)).is_some()));
    }
}
