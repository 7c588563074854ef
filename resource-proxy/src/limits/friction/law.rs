//! The law of one cell: what a call costs, and how long it waits. Pure; units are seconds.

/// The volume is kept at the target plus this part of it, so that a client that sends at its very
/// target, with some jitter, is never delayed.
pub(super) const DEAD_ZONE: f64 = 0.05;

/// What a target and a half-life mean for the calls of one cell.
#[derive(Clone, Copy, Debug)]
pub(super) struct Law {
    /// The target, in calls per second.
    pub(super) target: f64,
    /// Seconds between calls at the pace that is kept.
    pub(super) interval: f64,
    /// Seconds in which a call's weight falls to 1/e.
    tau: f64,
    /// What is left of a call's weight after an interval: `e^(-interval/tau)`.
    left: f64,
}

/// The memory of one cell. Times are seconds since the origin of `now`.
#[derive(Clone, Copy, Debug)]
pub(super) struct State {
    /// When the average is, or was, just at its limit: from then on a call goes at once. Calls that
    /// wait are counted.
    pub(super) free_at: f64,
    /// When the newest call came.
    seen_at: f64,
    /// The average of all calls at `seen_at`, as a multiple of the pace.
    volume: f64,
    /// How many calls there were.
    pub(super) calls: u32,
}

/// What the law says of a call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Verdict {
    /// How far the average is above (positive) or below its limit, in the seconds that it takes to
    /// get there; at most the longest delay.
    pub(super) excess: f64,
    /// How long the call waits.
    pub(super) delay: f64,
    /// How far the call moved `free_at`, up to an interval: what is given back for a cancelled call.
    pub(super) charge: f64,
    /// The average with this call, in calls per second.
    pub(super) observed: f64,
}

impl State {
    /// Of a cell that never saw a call.
    pub(super) const NEW: Self = Self {
        free_at: f64::NEG_INFINITY,
        seen_at: f64::NEG_INFINITY,
        volume: 0.0,
        calls: 0,
    };

    /// Of a cell whose past is unknown, but for that it is not free before `free_at`.
    pub(super) fn since(free_at: f64, now: f64) -> Self {
        // Whoever may still be in debt has had its warm-up.
        let calls = if free_at > now { u32::MAX } else { 0 };
        Self {
            free_at,
            calls,
            ..Self::NEW
        }
    }
}

impl Law {
    /// `target` in calls per second, `half_life` in seconds; both positive.
    pub(super) fn new(target: f64, half_life: f64) -> Self {
        let tau = half_life / std::f64::consts::LN_2;
        Self::paced(target * (1.0 + DEAD_ZONE), tau)
    }

    /// The law that keeps `pace`, in calls per second.
    fn paced(pace: f64, tau: f64) -> Self {
        let interval = 1.0 / pace;
        Self {
            target: pace / (1.0 + DEAD_ZONE),
            interval,
            tau,
            left: (-interval / tau).exp(),
        }
    }

    /// This law, or that of `pace` if it is faster.
    pub(super) fn or_faster(&self, pace: f64) -> Self {
        if pace * self.interval > 1.0 {
            Self::paced(pace, self.tau)
        } else {
            *self
        }
    }

    /// Counts a call at `now`. The first `warmup` calls have no delay, no call more than `max_delay`.
    pub(super) fn admit(
        &self,
        state: &mut State,
        now: f64,
        warmup: u32,
        max_delay: f64,
    ) -> Verdict {
        let observed = self.observe(state, now);
        let before = state.free_at - now;
        let excess = before.min(max_delay);
        let after = if excess >= 0.0 {
            excess + self.interval
        } else {
            self.below(excess)
        };
        state.free_at = now + after;
        let warm = state.calls >= warmup;
        state.calls = state.calls.saturating_add(1);
        Verdict {
            excess,
            delay: if warm { excess.max(0.0) } else { 0.0 },
            charge: (after - before).clamp(0.0, self.interval),
            observed,
        }
    }

    /// Where a call takes the average that is below its limit by `excess` (negative) seconds.
    fn below(&self, excess: f64) -> f64 {
        self.interval + self.tau * (self.left * (excess / self.tau).exp_m1()).ln_1p()
    }

    fn observe(&self, state: &mut State, now: f64) -> f64 {
        let age = (now - state.seen_at).max(0.0);
        let volume = state.volume * (-age / self.tau).exp() + (1.0 - self.left);
        state.seen_at = now;
        state.volume = volume;
        volume / self.interval
    }
}

/// The cell of a subject's successful calls: an average without a target.
impl State {
    /// Counts a call.
    pub(super) fn succeeded(&mut self, now: f64, tau: f64) {
        self.volume = self.weight(now, tau) + 1.0;
        self.seen_at = now;
        // The table keeps the cells that were used last.
        self.free_at = now;
    }

    /// Calls per second, recently.
    pub(super) fn recent(&self, now: f64, tau: f64) -> f64 {
        self.weight(now, tau) / tau
    }

    fn weight(&self, now: f64, tau: f64) -> f64 {
        let age = (now - self.seen_at).max(0.0);
        self.volume * (-age / tau).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::{Law, State};

    /// The average in calls that the law keeps below its limit, counted the plain way.
    fn plain_average(dispatches: &[f64], now: f64, tau: f64) -> f64 {
        dispatches.iter().map(|at| (-(now - at) / tau).exp()).sum()
    }

    #[test]
    fn the_closed_form_is_the_exponential_average() {
        let law = Law::new(0.7, 20.0);
        let limit = 1.0 / (1.0 - law.left);
        let (mut state, mut dispatches, mut now) = (State::NEW, Vec::new(), 0.0);
        for call in 0..400_u32 {
            now += f64::from(call * 7919 % 13) / 6.0;
            let delay = law.admit(&mut state, now, 0, 1e9).delay;
            let at = now + delay;
            dispatches.push(at);
            let average = plain_average(&dispatches, at, law.tau);
            assert!(
                average <= limit * (1.0 + 1e-9),
                "call {call}: {average} > {limit}"
            );
            // No longer than needed: the average is at its limit whenever there is a delay.
            assert!(
                delay == 0.0 || average >= limit * (1.0 - 1e-9),
                "call {call}: {average}"
            );
        }
    }

    #[test]
    fn the_delay_rises_by_no_more_than_an_interval_a_call() {
        let law = Law::new(2.0, 10.0);
        let (mut state, mut last) = (State::NEW, 0.0);
        for call in 0..1000 {
            let delay = law
                .admit(&mut state, f64::from(call) / 100.0, 0, 60.0)
                .delay;
            assert!(delay <= last + law.interval && delay <= 60.0);
            last = delay;
        }
        assert_eq!(last, 60.0);
    }

    #[test]
    fn extremes_stay_finite() {
        for target in [1.0 / 86_400.0, 1.0, 1e6] {
            for half_life in [1.0, 30.0, 86_400.0] {
                let law = Law::new(target, half_life);
                let mut state = State::NEW;
                for call in 0..100 {
                    let now = f64::from(call) * 1e-6;
                    let verdict = law.admit(&mut state, now, 0, 300.0);
                    assert!(verdict.delay.is_finite() && verdict.observed.is_finite());
                    assert!(
                        state.free_at.is_finite() && state.free_at <= now + 300.0 + law.interval
                    );
                }
                let verdict = law.admit(&mut state, 1e6, 0, 300.0);
                assert_eq!(verdict.delay, 0.0);
            }
        }
    }

    #[test]
    fn calls_at_the_target_are_observed_as_the_target() {
        for (target, half_life) in [(1.0, 30.0), (0.01, 30.0), (500.0, 5.0)] {
            let law = Law::new(target, half_life);
            let (mut state, mut observed) = (State::NEW, 0.0);
            for call in 0..20_000 {
                observed = law
                    .admit(&mut state, f64::from(call) / target, 0, 30.0)
                    .observed;
            }
            assert!(
                (observed / target - 1.0).abs() < 0.06,
                "{observed} of {target}"
            );
        }
    }
}
