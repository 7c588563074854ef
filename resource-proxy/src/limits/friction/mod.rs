//! Friction: who calls too much waits. Nothing is refused, unless there is a `hardLimit`.
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
//! # Shares
//!
//! With a `share`, the target `r` is `max(rate, share·V)`, where `V` is the subject's recent volume: the calls
//! that the server answered without an error, averaged with the same half-life (or over ten calls at the slowest
//! rate with a share, if that is longer). So a tool beside others at `y` settles at
//! `max(rate, y·share/(1 - share))`. `subjectRate` bounds the sum.
//!
//! # Levels
//!
//! A call is counted by up to three levels, and waits for the longest of their delays: the principal's tool or
//! group; the subject across all clients and tools (`subjectRate`); and the resource (`resourceRate`), which
//! slows each subject by its own volume (`shared.rs`). A subject never waits for another.
//!
//! # Bounds
//!
//! Memory is below a megabyte and never grows beyond (`table.rs`); [`Friction::admit`] takes less than a
//! microsecond for any number of principals. Keys are hashed with random keys: names are not kept. A client cannot
//! create targets by inventing names: calls of tools that never answered without an error are counted by one cell of
//! the principal, until they do.

mod counted;
mod hard_limit;
mod law;
mod retries;
mod shared;
mod table;
mod targets;

#[cfg(test)]
mod picture;
#[cfg(test)]
mod simulation;

use std::collections::HashSet;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::time::Duration;

pub use counted::Counted;
use law::{Law, Verdict};
pub use mcpauth_wire::friction::{Friction as FrictionConfig, Group, Per, Rate};
use retries::Retries;
use shared::{Charge, Shared};
use table::Table;
use targets::{Name, Targets};

/// How many tools are known to exist. Further ones share a cell.
const TOOLS: usize = 4096;

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
    /// That of a principal for a tool or group.
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
    /// For [`Friction::succeeded`] and [`Friction::proved`].
    pub receipt: Receipt,
}

/// The place of a waiting call.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// When the wait is over.
    goes_at: f64,
    /// What the call was charged: key of the cell and seconds, 0 where there was none.
    charges: [(u64, f64); 3],
    shared: Charge,
}

/// What a call without an error counts for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Receipt {
    /// The cell of the subject's volume.
    volume: Option<u64>,
    /// If the tool never answered without an error before.
    unproven: Option<Unproven>,
}

/// A call of a tool that never answered without an error.
#[derive(Clone, Copy, Debug)]
struct Unproven {
    tool: u64,
    /// What the call was charged, and the cell.
    charge: (u64, f64),
    /// The cell that the call would have had.
    own: u64,
}

impl Receipt {
    /// Whether it matters how the server answers.
    pub fn matters(&self) -> bool {
        self.volume.is_some() || self.unproven.is_some()
    }
}

/// Calls exceed the hard limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany {
    /// The limit.
    pub limit: Rate,
    /// How long it takes until calls are accepted again; `None` if so many at once never are.
    pub retry_after: Option<Duration>,
}

/// Who may retry which call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryKey {
    subject: u64,
    call: u64,
    /// How many retries are left.
    rounds: u8,
}

/// The controllers of one resource. Where nothing is configured, there is none.
#[derive(Debug)]
pub struct Friction {
    targets: Targets,
    table: Table,
    shared: Shared,
    /// The periods of the hard limit, if there is one: a table of its own, in which only other principals
    /// compete for a place.
    periods: Option<Table>,
    retries: Retries,
    /// The tools that once answered without an error, by hash.
    tools: HashSet<u64>,
    hasher: RandomState,
}

/// Whose cell it is: hashed to its key.
#[derive(Hash)]
enum Owner<'a> {
    Principal(Option<&'a str>, &'a str, Name<'a>),
    Subject(&'a str),
    Volume(&'a str),
    Shared(&'a str),
    Limit(Option<&'a str>, &'a str),
}

impl Friction {
    /// `config` was validated.
    pub fn new(config: &FrictionConfig) -> Self {
        Self {
            targets: Targets::new(config),
            table: Table::new(),
            shared: Shared::new(),
            periods: config.hard_limit.map(|_| Table::new()),
            retries: Retries::new(),
            tools: HashSet::new(),
            hasher: RandomState::new(),
        }
    }

    /// Applies new, validated targets. The observed volume is kept.
    pub fn reconfigure(&mut self, config: &FrictionConfig) {
        self.targets = Targets::new(config);
        let periods = self.periods.take();
        self.periods = config
            .hard_limit
            .map(|_| periods.unwrap_or_else(Table::new));
    }

    /// Takes so many calls from the hard limit.
    ///
    /// # Errors
    /// They are too many.
    pub fn limit(&mut self, caller: &Caller<'_>, calls: u32, now: Duration) -> Result<(), TooMany> {
        let (Some(limit), Some(table)) = (self.targets.hard_limit, &mut self.periods) else {
            return Ok(());
        };
        let now = now.as_secs_f64();
        let owner = Owner::Limit(client(self.targets.per, caller), caller.subject);
        let state = table.entry(key(&self.hasher, &owner), now);
        hard_limit::take(limit, state, calls, now).map_err(|seconds| TooMany {
            limit,
            retry_after: seconds.map(Duration::from_secs_f64),
        })
    }

    /// Counts a call and says how long it waits. `now` is a monotonic time since any fixed origin.
    pub fn admit(&mut self, caller: &Caller<'_>, counted: Counted<'_>, now: Duration) -> Decision {
        let now = now.as_secs_f64();
        let hasher = &self.hasher;
        let targets = &self.targets;
        let (max_delay, warmup) = (targets.max_delay, targets.warmup);
        let mut receipt = Receipt::default();

        let (name, target) = targets.of(counted);
        let mut volume = 0.0;
        if let Some(tau) = targets.volume_tau {
            let key = key(hasher, &Owner::Volume(caller.subject));
            receipt.volume = Some(key);
            volume = self.table.get(key).map_or(0.0, |s| s.recent(now, tau));
        }
        let law = target.at(volume);
        let client = client(targets.per, caller);
        let cell = |name| key(hasher, &Owner::Principal(client, caller.subject, name));
        let own = cell(name);
        let unproven = match name {
            Name::Tool(_) => Some(key(hasher, &name)).filter(|tool| !self.tools.contains(tool)),
            _ => None,
        };
        let key = unproven.map_or(own, |_| cell(Name::Unproven));
        let verdict = law.admit(self.table.entry(key, now), now, warmup, max_delay);
        receipt.unproven = unproven.map(|tool| Unproven {
            tool,
            charge: (key, verdict.charge),
            own,
        });
        let mut slowest = Slowest::new(&law, verdict, key);
        if let Some(law) = &targets.subject {
            let key = self::key(hasher, &Owner::Subject(caller.subject));
            let verdict = law.admit(self.table.entry(key, now), now, warmup, max_delay);
            slowest.consider(Level::Subject, law, verdict, (key, verdict.charge));
        }
        if let Some(law) = &targets.resource {
            let key = self::key(hasher, &Owner::Shared(caller.subject));
            let bounds = (max_delay, targets.half_life);
            let table = &mut self.table;
            let (verdict, charge) = self.shared.admit(law, table, key, now, bounds);
            slowest.consider(Level::Resource, law, verdict, (key, charge.subject));
            slowest.shared = charge;
        }
        slowest.decide(now, receipt)
    }

    /// A call was cancelled: if it was still waiting, it is no longer counted. Has no effect when its wait
    /// was over, so it may be called for every call that is dropped.
    pub fn release(&mut self, slot: &Slot, now: Duration) {
        if now.as_secs_f64() >= slot.goes_at {
            return;
        }
        for (key, charge) in slot.charges {
            if let Some(state) = self.table.get(key).filter(|_| charge > 0.0) {
                state.free_at -= charge;
            }
        }
        self.shared.release(slot.shared);
    }

    /// The server answered a call of this subject without an error.
    pub fn succeeded(&mut self, receipt: &Receipt, now: Duration) {
        if let (Some(key), Some(tau)) = (receipt.volume, self.targets.volume_tau) {
            let now = now.as_secs_f64();
            self.table.entry(key, now).succeeded(now, tau);
        }
    }

    /// The server answered a call of this tool without an error: it is counted by the tool's own cell instead.
    pub fn proved(&mut self, receipt: &Receipt, now: Duration) {
        let Some(unproven) = receipt.unproven else {
            return;
        };
        if self.tools.len() >= TOOLS && !self.tools.contains(&unproven.tool) {
            return;
        }
        self.tools.insert(unproven.tool);
        let (key, charge) = unproven.charge;
        if let Some(state) = self.table.get(key) {
            state.free_at -= charge;
        }
        let now = now.as_secs_f64();
        let state = self.table.entry(unproven.own, now);
        let law = self.targets.tool.at(0.0);
        law.admit(state, now, 0, self.targets.max_delay);
    }

    /// Who may retry this call, if the server asks for input.
    pub fn retry_key(&self, caller: &Caller<'_>, counted: Counted<'_>) -> RetryKey {
        RetryKey {
            subject: key(&self.hasher, &Owner::Subject(caller.subject)),
            call: key(&self.hasher, &(caller.client_id, caller.subject, counted)),
            rounds: retries::ROUNDS,
        }
    }

    /// A result that asks for input went out, with this `requestState`.
    pub fn asked(&mut self, retry: RetryKey, state: &str) {
        if retry.rounds > 0 {
            let hash = key(&self.hasher, &(retry.call, state));
            self.retries.remember(retry.subject, hash, retry.rounds);
        }
    }

    /// Whether a call with this `requestState` is the retry of one that was counted. If so, once: the key for the
    /// next.
    pub fn is_retry(&mut self, retry: RetryKey, state: &str) -> Option<RetryKey> {
        let hash = key(&self.hasher, &(retry.call, state));
        let rounds = self.retries.take(retry.subject, hash)?;
        Some(RetryKey {
            rounds: rounds - 1,
            ..retry
        })
    }
}

/// The client, where it is part of the principal.
fn client<'a>(per: Per, caller: &Caller<'a>) -> Option<&'a str> {
    match per {
        Per::Subject => None,
        Per::ClientAndSubject => Some(caller.client_id),
    }
}

/// The key of a cell; never 0, which marks an empty slot.
fn key(hasher: &RandomState, owner: &impl Hash) -> u64 {
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
    shared: Charge,
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
            shared: Charge::default(),
        }
    }

    fn consider(&mut self, level: Level, law: &Law, verdict: Verdict, charge: (u64, f64)) {
        self.charges[level as usize] = charge;
        if (verdict.delay, verdict.excess) > (self.delay, self.excess) {
            let charges = self.charges;
            *self = Self {
                level,
                charges,
                ..Self::new(law, verdict, charge.0)
            };
        }
    }

    fn decide(self, now: f64, receipt: Receipt) -> Decision {
        Decision {
            delay: Duration::from_secs_f64(self.delay),
            level: self.level,
            observed: self.observed,
            target: self.target,
            slot: Slot {
                goes_at: now + self.delay,
                charges: self.charges,
                shared: self.shared,
            },
            receipt,
        }
    }
}
