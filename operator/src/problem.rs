//! Problems that keep an object from being Ready.

use std::time::Duration;

use jiff::SignedDuration;

/// When an object with a problem is reconciled again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Soon: the problem is a temporary stage.
    Soon,
    /// After a wait that grows with every failure.
    Backoff,
    /// When a probe notices that a server responds again, or else after the longest wait.
    Probe,
    /// When something that is watched changes.
    Change,
}

/// The wait of [`Retry::Soon`] when the stage has lasted for `since`: it grows with the age of the stage, from 5 to
/// 60 s. Most changes are noticed by watches before the wait is over.
pub fn soon(since: SignedDuration) -> Duration {
    let quarter = Duration::try_from(since).unwrap_or_default() / 4;
    quarter.clamp(Duration::from_secs(5), Duration::from_secs(60))
}

/// Something that keeps an object from being Ready. It is shown in the Ready condition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct Problem {
    /// One of [`mcpauth_api::conditions::reasons`].
    pub reason: &'static str,
    /// What is wrong and what to do about it. It must stay the same as long as the problem does.
    pub message: String,
    /// When to try again.
    pub retry: Retry,
    /// Whether it needs manual action.
    pub degraded: bool,
    /// Whether the problem is that this operator cannot tell.
    pub unknown: bool,
}

impl Problem {
    /// Whether it passes by itself.
    pub fn is_progress(&self) -> bool {
        self.retry == Retry::Soon && !self.degraded && !self.unknown
    }

    /// A problem that needs manual action; retried with backoff.
    pub fn person(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            retry: Retry::Backoff,
            degraded: true,
            unknown: false,
        }
    }

    /// A problem that may resolve itself; retried with backoff.
    pub fn outage(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            retry: Retry::Backoff,
            degraded: false,
            unknown: false,
        }
    }

    /// Something that cannot be asked or does not answer; retried with backoff.
    pub fn unreachable(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            unknown: true,
            ..Self::outage(reason, message)
        }
    }

    /// As the spec wants it; it lasts until something changes.
    pub fn wanted(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            retry: Retry::Change,
            ..Self::outage(reason, message)
        }
    }

    /// A temporary stage; checked again soon.
    pub fn stage(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            retry: Retry::Soon,
            degraded: false,
            unknown: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_looked_at_ever_more_rarely() {
        let waits = [-5, 0, 20, 100, 3600].map(|s| soon(SignedDuration::from_secs(s)).as_secs());
        assert_eq!(waits, [5, 5, 5, 25, 60]);
    }
}
