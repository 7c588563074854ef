//! Friction: who calls too much waits. Nothing is refused.
//!
//! # The law
//!
//! Each cell has a target of `r` calls a second and remembers calls with the half-life `h`: a call
//! that came `t` seconds ago counts `e^(-t/τ)`, with `τ = h / ln 2`. A call waits until the average,
//! which counts it and every call before it, those that still wait included, is back at its target.
//!
//! Calls at a steady `r` make this sum reach `1 / (1 - e^(-1/(r·τ)))`: the limit. Let `f` be the time
//! at which the sum is just so low that one more call takes it to the limit. This one number is the
//! whole state. In seconds:
//!
//! ```text
//! v     = min(f - now, maxDelay)
//! delay = max(v, 0)
//! f     ← now + v + 1/r                                      v ≥ 0: above target
//! f     ← now + 1/r + τ·ln(1 + e^(-1/(r·τ))·(e^(v/τ) - 1))    v < 0: below target
//! ```
//!
//! * **Below target** there is no delay, and the volume decays with the half-life: whatever happened before, a
//!   client that pauses for `t` may send a burst of `1 - e^(-t/τ)` of the limit.
//! * **Above target**, `v` is the integral of the relative error: every call adds `1/r`, every second
//!   subtracts one, so `dv/dt = (rate - r) / r`. With this gain, and with no other, calls are released
//!   `1/r` apart for any number of workers: with `n` workers each waits `n/r`.
//!   A proportional part would only disturb that. See `docs/adr/0004-friction-law.md`.
//! * The integral is **bounded** by `maxDelay`: where `n/r` is more than that, the client settles at
//!   `n / maxDelay` calls a second, and when it stops, all delay is gone after `maxDelay + 1/r` at most.
//! * The enforced pace is 5 % above the target: the **dead zone**.
//! * The first `warmupCalls` of a cell count, but do not wait: the **warm-up**.
//!
//! # Levels
//!
//! A call is counted by up to three cells, and waits for the longest of their delays: (client, subject,
//! tool or group); the subject across all clients and tools (`subjectRate`), which new client ids do not
//! evade; and the resource across all callers (`resourceRate`). A principal slows another only through
//! the last two.
//!
//! # Bounds
//!
//! Memory is about half a megabyte and never grows (`table.rs`); [`Friction::admit`] allocates nothing
//! and takes well under a microsecond. Keys are hashed with random keys: names are not kept.

mod law;
mod table;

#[cfg(test)]
mod simulation;

use std::{hash::RandomState, time::Duration};

use law::{Law, State, Verdict};
pub use mcpauth_wire::friction::{Friction as FrictionConfig, Group, Rate};
use table::Table;

use crate::glob;

/// The caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller<'a> {
    /// The `client_id` of the token.
    pub client_id: &'a str,
    /// The `sub` of the token.
    pub subject: &'a str,
}

/// Which target a decision is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// That of client and subject for a tool or group.
    Tool,
    /// That of the subject.
    Subject,
    /// That of all callers together.
    Resource,
}

impl Level {
    /// The name for metrics and logs: `tool`, `subject` or `resource`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tool => "tool",
            Self::Subject => "subject",
            Self::Resource => "resource",
        }
    }
}

/// How long a call waits, and why.
#[derive(Clone, Copy, Debug)]
pub struct Decision {
    /// How long the call waits before it goes upstream; zero below target.
    pub delay: Duration,
    /// The level with the longest delay, or the one that is closest to its target.
    pub level: Level,
    /// The average volume of that level with this call, in calls per second.
    pub observed: f64,
    /// The target of that level, in calls per second.
    pub target: f64,
    /// For [`Friction::release`].
    pub slot: Slot,
}

/// The place of a waiting call.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// When the wait is over.
    goes_at: f64,
    /// What the call was charged: key of the cell and seconds, 0 where there was none.
    charges: [(u64, f64); 3],
}

/// The controllers of one resource. Where nothing is configured, there is none.
#[derive(Debug)]
pub struct Friction {
    targets: Targets,
    table: Table,
    /// Not in the table, so that it is never evicted.
    everybody: State,
    hasher: RandomState,
}

/// The configuration as [`Friction::admit`] needs it.
#[derive(Debug)]
struct Targets {
    tool: Law,
    groups: Vec<(Group, Law)>,
    subject: Option<Law>,
    resource: Option<Law>,
    max_delay: f64,
    warmup: u32,
}

impl Targets {
    fn new(config: &FrictionConfig) -> Self {
        let law = |rate: Rate| Law::new(rate.per_second(), f64::from(config.half_life_seconds));
        Self {
            tool: law(config.rate),
            groups: config
                .groups
                .iter()
                .map(|g| (g.clone(), law(g.rate)))
                .collect(),
            subject: config.subject_rate.map(law),
            resource: config.resource_rate.map(law),
            max_delay: f64::from(config.max_delay_milliseconds) / 1e3,
            warmup: config.warmup_calls,
        }
    }

    /// The group of `tool`, or itself, and what is kept there.
    fn of<'a>(&'a self, tool: &'a str) -> (Name<'a>, &'a Law) {
        let group = self.groups.iter().find(|(group, _)| {
            group
                .tools
                .iter()
                .any(|pattern| glob::matches(pattern, tool))
        });
        match group {
            Some((group, law)) => (Name::Group(&group.name), law),
            None => (Name::Tool(tool), &self.tool),
        }
    }
}

/// What a principal's cell is for.
#[derive(Clone, Copy, Hash)]
enum Name<'a> {
    Tool(&'a str),
    Group(&'a str),
}

/// Whose cell it is: hashed to its key.
#[derive(Hash)]
enum Owner<'a> {
    Principal(&'a str, &'a str, Name<'a>),
    Subject(&'a str),
}

impl Friction {
    /// `config` was validated.
    pub fn new(config: &FrictionConfig) -> Self {
        Self {
            targets: Targets::new(config),
            table: Table::new(),
            everybody: State::NEW,
            hasher: RandomState::new(),
        }
    }

    /// Applies new, validated targets. The observed volume is kept.
    pub fn reconfigure(&mut self, config: &FrictionConfig) {
        self.targets = Targets::new(config);
    }

    /// Counts a call and says how long it waits. `now` is a monotonic time since any fixed origin.
    pub fn admit(&mut self, caller: &Caller<'_>, tool: &str, now: Duration) -> Decision {
        let now = now.as_secs_f64();
        let Targets {
            max_delay, warmup, ..
        } = self.targets;
        let (name, law) = self.targets.of(tool);
        let key = key(
            &self.hasher,
            &Owner::Principal(caller.client_id, caller.subject, name),
        );
        let verdict = law.admit(self.table.entry(key, now), now, warmup, max_delay);
        let mut slowest = Slowest::new(law, verdict, key);
        if let Some(law) = &self.targets.subject {
            let key = self::key(&self.hasher, &Owner::Subject(caller.subject));
            let verdict = law.admit(self.table.entry(key, now), now, warmup, max_delay);
            slowest.consider(Level::Subject, law, verdict, key);
        }
        if let Some(law) = &self.targets.resource {
            let verdict = law.admit(&mut self.everybody, now, warmup, max_delay);
            slowest.consider(Level::Resource, law, verdict, 0);
        }
        slowest.decide(now)
    }

    /// A call was cancelled: if it was still waiting, it is no longer counted. Has no effect when its wait
    /// was over, so it may be called for every call that is dropped.
    pub fn release(&mut self, slot: &Slot, now: Duration) {
        if now.as_secs_f64() >= slot.goes_at {
            return;
        }
        let [tool, subject, (_, everybody)] = slot.charges;
        for (key, charge) in [tool, subject] {
            if let Some(state) = self.table.get(key).filter(|_| charge > 0.0) {
                state.free_at -= charge;
            }
        }
        self.everybody.free_at -= everybody;
    }
}

/// The key of a cell; never 0, which marks an empty slot.
fn key(hasher: &RandomState, owner: &Owner<'_>) -> u64 {
    use std::hash::BuildHasher;
    hasher.hash_one(owner).max(1)
}

/// Combines the decisions of the levels.
struct Slowest {
    level: Level,
    excess: f64,
    delay: f64,
    observed: f64,
    target: f64,
    charges: [(u64, f64); 3],
}

impl Slowest {
    fn new(law: &Law, verdict: Verdict, key: u64) -> Self {
        let Verdict {
            excess,
            delay,
            charge,
            observed,
        } = verdict;
        let charges = [(key, charge), (0, 0.0), (0, 0.0)];
        Self {
            level: Level::Tool,
            excess,
            delay,
            observed,
            target: law.target,
            charges,
        }
    }

    fn consider(&mut self, level: Level, law: &Law, verdict: Verdict, key: u64) {
        self.charges[level as usize] = (key, verdict.charge);
        if (verdict.delay, verdict.excess) > (self.delay, self.excess) {
            let charges = self.charges;
            *self = Self {
                level,
                charges,
                ..Self::new(law, verdict, key)
            };
        }
    }

    fn decide(self, now: f64) -> Decision {
        Decision {
            delay: Duration::from_secs_f64(self.delay),
            level: self.level,
            observed: self.observed,
            target: self.target,
            slot: Slot {
                goes_at: now + self.delay,
                charges: self.charges,
            },
        }
    }
}
