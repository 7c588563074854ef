//! Why an object is not what its spec says.

use std::time::Duration;

use jiff::SignedDuration;

/// When an object with a problem is looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Soon: the problem is a stage that passes by itself.
    Soon,
    /// After a wait that grows with every failure.
    Backoff,
}

/// The wait of [`Retry::Soon`] when the stage has lasted for `since`: the longer it lasts, the rarer it is
/// looked at, within 1 and 60 s. Most changes are seen by watches before the wait is over.
pub fn soon(since: SignedDuration) -> Duration {
    let quarter = Duration::try_from(since).unwrap_or_default() / 4;
    quarter.clamp(Duration::from_secs(1), Duration::from_secs(60))
}

/// Something that keeps an object from being Ready. It is shown in the Ready condition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct Problem {
    /// One of [`mcpauth_api::conditions::reasons`].
    pub reason: &'static str,
    /// What is wrong and what to do about it. It must not change while the problem is the same.
    pub message: String,
    /// When to try again.
    pub retry: Retry,
    /// Whether only a person can mend it.
    pub degraded: bool,
}

impl Problem {
    /// A problem that only a person can mend; it is tried again with growing waits.
    pub fn person(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            retry: Retry::Backoff,
            degraded: true,
        }
    }

    /// A problem that may end by itself; it is tried again with growing waits.
    pub fn outage(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            retry: Retry::Backoff,
            degraded: false,
        }
    }

    /// A stage on the way; it is looked at again soon.
    pub fn stage(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            retry: Retry::Soon,
            degraded: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_looked_at_ever_more_rarely() {
        let waits = [-5, 0, 20, 100, 3600].map(|s| soon(SignedDuration::from_secs(s)).as_secs());
        assert_eq!(waits, [1, 1, 5, 25, 60]);
    }
}
