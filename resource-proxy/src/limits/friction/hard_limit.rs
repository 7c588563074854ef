//! The limit beyond which calls are refused.

use mcpauth_wire::friction::Rate;

use super::law::State;

/// The end of a period is the `free_at` of a cell, and `calls` are those since its beginning.
///
/// # Errors
/// `calls` more are too many. The seconds until the period is over; `None` if they are too many for any period.
pub(super) fn take(
    limit: Rate,
    state: &mut State,
    calls: u32,
    now: f64,
) -> Result<(), Option<f64>> {
    if calls > limit.calls {
        return Err(None);
    }
    // A period begins with its first call. A principal that was forgotten begins a new one.
    let is_unknown = state.calls == u32::MAX;
    if is_unknown || state.free_at <= now {
        state.free_at = now + f64::from(limit.period_seconds);
        state.calls = 0;
    }
    let after = state.calls.saturating_add(calls);
    if after > limit.calls {
        return Err(Some(state.free_at - now));
    }
    state.calls = after;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_period_has_more_calls() {
        let limit = Rate {
            calls: 3,
            period_seconds: 60,
        };
        let mut state = State::NEW;
        for now in [0.0, 10.0, 20.0] {
            assert_eq!(take(limit, &mut state, 1, now), Ok(()));
        }
        assert_eq!(take(limit, &mut state, 1, 25.0), Err(Some(35.0)));
        assert_eq!(take(limit, &mut state, 4, 60.0), Err(None));
        assert_eq!(take(limit, &mut state, 3, 61.0), Ok(()));
        assert_eq!(take(limit, &mut state, 1, 119.0), Err(Some(2.0)));
    }
}
