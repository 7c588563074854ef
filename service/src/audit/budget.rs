//! How many lines strangers can cause (pure). Without it, whoever sends bad requests as fast as they can would fill the disk, or
//! push what matters out of a log that is rotated by size.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;

/// The time for which lines are counted.
pub const WINDOW: Duration = Duration::from_secs(10);
/// How many lines of one kind one source causes in it.
pub const PER_SOURCE: u32 = 20;
/// How many all of them cause together: at 500 bytes each, 25 kB a second.
pub const OVERALL: u32 = 500;

/// Who causes lines.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Whoever is in this network: they are strangers.
    Network(IpAddr),
    /// The user of a token.
    Subject(String),
}

/// What is over budget: so many lines are missing here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Over {
    event: &'static str,
    omitted_event: &'static str,
    /// Whose requests they were about; none for all those that were too many to keep apart.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    source: Option<Source>,
    count: u64,
}

#[derive(Default)]
struct Lines {
    written: u32,
    omitted: u64,
}

/// The lines of one window.
#[derive(Default)]
pub struct Budget {
    began: Duration,
    written: u32,
    /// As many as there are lines: then nothing more is written in this window, and the rest is counted together.
    sources: HashMap<(&'static str, Source), Lines>,
    others: HashMap<&'static str, u64>,
}

impl Budget {
    /// Whether one more line of this kind, about a request from this source, is written.
    pub fn admit(&mut self, event: &'static str, source: Source) -> bool {
        let room = self.sources.len() < OVERALL as usize;
        let key = (event, source);
        if !room && !self.sources.contains_key(&key) {
            *self.others.entry(event).or_default() += 1;
            return false;
        }
        let lines = self.sources.entry(key).or_default();
        if lines.written >= PER_SOURCE || self.written >= OVERALL {
            lines.omitted += 1;
            return false;
        }
        lines.written += 1;
        self.written += 1;
        true
    }

    /// What was over budget, once the window has passed; another one begins then. `now` never goes back.
    pub fn over(&mut self, now: Duration) -> Vec<Over> {
        if now.saturating_sub(self.began) < WINDOW {
            return Vec::new();
        }
        self.began = now;
        self.written = 0;
        let over = self.all_over();
        self.sources.clear();
        over
    }

    /// What is over budget until now.
    pub fn all_over(&mut self) -> Vec<Over> {
        let omitted = |omitted_event, source, count| Over {
            event: "omitted",
            omitted_event,
            source,
            count,
        };
        let sources = self.sources.iter_mut();
        let mut over: Vec<_> = sources
            .filter(|(_, lines)| lines.omitted > 0)
            .map(|((event, source), lines)| {
                let count = std::mem::take(&mut lines.omitted);
                omitted(event, Some(source.clone()), count)
            })
            .collect();
        over.extend(
            self.others
                .drain()
                .map(|(event, count)| omitted(event, None, count)),
        );
        over.sort_by(|a, b| (a.omitted_event, &a.source).cmp(&(b.omitted_event, &b.source)));
        over
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use serde_json::json;

    use super::*;

    fn network(number: u32) -> Source {
        Source::Network(Ipv4Addr::from(number).into())
    }

    fn over(omitted_event: &'static str, number: Option<u32>, count: u64) -> Over {
        Over {
            event: "omitted",
            omitted_event,
            source: number.map(network),
            count,
        }
    }

    fn admitted(budget: &mut Budget, event: &'static str, number: u32, times: u32) -> u32 {
        let admitted = (0..times).filter(|_| budget.admit(event, network(number)));
        admitted.count().try_into().unwrap()
    }

    #[test]
    fn a_flood_from_one_network_leaves_room_for_others() {
        let mut budget = Budget::default();
        assert_eq!(admitted(&mut budget, "token", 1, 1_000), PER_SOURCE);
        assert_eq!(admitted(&mut budget, "token", 2, 3), 3);
        assert_eq!(admitted(&mut budget, "login", 1, 3), 3);
        assert_eq!(budget.over(WINDOW - Duration::from_millis(1)), []);
        let omitted = u64::from(1_000 - PER_SOURCE);
        assert_eq!(budget.over(WINDOW), [over("token", Some(1), omitted)]);
        // A new window.
        assert_eq!(admitted(&mut budget, "token", 1, 1), 1);
        assert_eq!(budget.over(3 * WINDOW), []);
    }

    #[test]
    fn a_flood_from_everywhere_is_bounded_and_counted() {
        let mut budget = Budget::default();
        let all = 100_000;
        let admitted: u32 = (0..all)
            .map(|one| admitted(&mut budget, "token", one, 1))
            .sum();
        assert_eq!(admitted, OVERALL);
        assert!(budget.sources.len() <= OVERALL as usize);
        let over = budget.over(WINDOW);
        assert!(over.len() <= OVERALL as usize + 1, "{}", over.len());
        let omitted: u64 = over.iter().map(|one| one.count).sum();
        assert_eq!(omitted, u64::from(all - OVERALL));
    }

    #[test]
    fn a_subject_is_a_source_too() {
        let mut budget = Budget::default();
        let alice = || Source::Subject("alice".to_owned());
        let admitted = (0..50).filter(|_| budget.admit("call", alice()));
        assert_eq!(admitted.count(), PER_SOURCE as usize);
        let over = serde_json::to_value(budget.all_over()).unwrap();
        let expected = json!([{ "event": "omitted", "omitted_event": "call", "subject": "alice", "count": 30 }]);
        assert_eq!(over, expected);
    }

    #[test]
    fn what_is_over_budget_is_reported_once() {
        let mut budget = Budget::default();
        admitted(&mut budget, "token", 1, PER_SOURCE + 2);
        assert_eq!(budget.all_over(), [over("token", Some(1), 2)]);
        assert_eq!(budget.all_over(), []);
        assert_eq!(
            admitted(&mut budget, "token", 1, 1),
            0,
            "the window goes on"
        );
        assert_eq!(budget.over(WINDOW), [over("token", Some(1), 1)]);
    }
}
