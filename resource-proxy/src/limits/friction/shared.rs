//! The target that all subjects share. Above it, each subject is slowed by its own volume.
//!
//! While the average of all calls is below the target, nobody waits. Above it, `n` subjects are active,
//! and each may have a call every `n` intervals of the shared pace: what it uses beyond that is its debt.
//! A subject is active while it has a debt, so that one which calls rarely takes only its own calls
//! from the others: together they settle at the target, each at the same pace or at what it wants.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::law::{Law, State, Verdict};
use super::table::Table;

/// How many subjects are listed. Further active ones do not count, so that for them the target is exceeded.
const MOST: usize = 16_384;
/// How many entries a call checks: more than it can add, so that the list does not lag behind.
const CHECKS: usize = 8;
/// In the cell of a listed subject, the number of its calls.
const LISTED: u32 = 1;

/// What is known of the shared target.
#[derive(Debug)]
pub(super) struct Shared {
    /// Not in the table, so that it is never evicted.
    everybody: State,
    /// The active subjects: the key of each one's cell and the earliest time at which its debt may be
    /// over, in microseconds.
    active: BinaryHeap<Reverse<(u64, u64)>>,
}

/// What a call was charged.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Charge {
    /// Of the subject's cell.
    pub(super) subject: f64,
    /// Of everybody's.
    everybody: f64,
}

impl Shared {
    pub(super) fn new() -> Self {
        Self {
            everybody: State::NEW,
            active: BinaryHeap::new(),
        }
    }

    /// Counts a call of the subject whose cell has this key. Debts up to `grace` seconds are not waited
    /// for, so that a short burst of a quiet subject passes.
    pub(super) fn admit(
        &mut self,
        law: &Law,
        table: &mut Table,
        key: u64,
        now: f64,
        (max_delay, grace): (f64, f64),
    ) -> (Verdict, Charge) {
        self.check(table, now, grace);
        let mut verdict = law.admit(&mut self.everybody, now, 0, max_delay);
        let mut charge = Charge {
            subject: 0.0,
            everybody: verdict.charge,
        };
        if verdict.excess >= 0.0 {
            let state = table.entry(key, now);
            if state.calls != LISTED && self.active.len() < MOST {
                state.calls = LISTED;
                self.active.push(Reverse((micros(now), key)));
            }
            #[expect(clippy::cast_precision_loss, reason = "at most 16,384")]
            let interval = law.interval * self.active.len().max(1) as f64;
            // A call that comes before `free_at` waits until then, so that is where the grace is over.
            let before = (state.free_at - now).max(-grace);
            let after = before.min(max_delay) + interval;
            state.free_at = now + after;
            verdict.delay = before.clamp(0.0, max_delay);
            charge.subject = (after - before).max(0.0);
        }
        (verdict, charge)
    }

    /// Gives back what a cancelled call was charged.
    pub(super) fn release(&mut self, charge: Charge) {
        self.everybody.free_at -= charge.everybody;
    }

    /// Removes subjects whose debt is over.
    fn check(&mut self, table: &mut Table, now: f64, grace: f64) {
        for _ in 0..CHECKS {
            match self.active.peek() {
                Some(Reverse((at, _))) if *at < micros(now) => {}
                _ => return,
            }
            let Some(Reverse((_, key))) = self.active.pop() else {
                return;
            };
            match table.get(key) {
                Some(state) if state.free_at + grace > now => {
                    self.active
                        .push(Reverse((micros(state.free_at + grace), key)));
                }
                Some(state) => state.calls = 0,
                // Evicted.
                None => {}
            }
        }
    }

    #[cfg(test)]
    pub(super) fn active(&self) -> usize {
        self.active.len()
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "seconds of a process's life"
)]
fn micros(seconds: f64) -> u64 {
    (seconds * 1e6) as u64
}
