//! Which calls are retries of calls that were counted: those with a `requestState` that this pod saw
//! go out in a result that asks for input (MCP 2026-07-28).

/// How many subjects' sets there are.
const SETS: usize = 1024;
/// How many states a set remembers.
const WAYS: usize = 8;
/// How often one call may be retried without being counted, so that a server that asks for ever is no way
/// around friction.
pub(super) const ROUNDS: u8 = 16;

/// Up to 8,192 states, by hash. A subject's flood evicts only states of its own set.
#[derive(Debug)]
pub(super) struct Retries(Vec<[Entry; WAYS]>);

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// Of state, subject, client and call; 0: empty.
    hash: u64,
    /// How many retries are left.
    rounds: u8,
}

impl Retries {
    pub(super) fn new() -> Self {
        Self(Vec::new())
    }

    /// Remembers a state of the subject with this hash. The oldest one of its set is forgotten.
    pub(super) fn remember(&mut self, subject: u64, hash: u64, rounds: u8) {
        if self.0.is_empty() {
            self.0 = vec![[Entry::default(); WAYS]; SETS];
        }
        let set = &mut self.0[index(subject)];
        set.rotate_right(1);
        set[0] = Entry { hash, rounds };
    }

    /// Whether this state is known, and how many retries are left. It is known once.
    pub(super) fn take(&mut self, subject: u64, hash: u64) -> Option<u8> {
        let set = self.0.get_mut(index(subject))?;
        let entry = set.iter_mut().find(|entry| entry.hash == hash)?;
        let rounds = entry.rounds;
        *entry = Entry::default();
        Some(rounds)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low bits are wanted")]
fn index(subject: u64) -> usize {
    subject as usize % SETS
}

#[cfg(test)]
mod tests {
    use super::{Retries, WAYS};

    #[test]
    fn a_state_is_known_once() {
        let mut retries = Retries::new();
        assert_eq!(retries.take(1, 7), None);
        retries.remember(1, 7, 3);
        assert_eq!(retries.take(2, 7), None, "another subject's");
        assert_eq!(retries.take(1, 7), Some(3));
        assert_eq!(retries.take(1, 7), None);
    }

    #[test]
    fn a_flood_forgets_the_oldest_of_its_own_set() {
        let mut retries = Retries::new();
        retries.remember(2, 100, 1);
        for hash in 1..=WAYS as u64 + 1 {
            retries.remember(1, hash, 1);
        }
        assert_eq!(retries.take(1, 1), None);
        assert_eq!(retries.take(1, 2), Some(1));
        assert_eq!(retries.take(2, 100), Some(1));
    }
}
