//! Why an object is not what its spec says.

use std::time::Duration;

use jiff::SignedDuration;
use mcpauth_api::conditions::reasons;

use crate::framework::apply::{ApplyError, explain};

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

/// Why a reconcile did not end well.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something that the object's status tells.
    #[error(transparent)]
    Problem(#[from] Problem),
    /// The API server does not answer, is overloaded, or another write was faster. The status would not get
    /// through either, and would tell the user nothing about the object.
    #[error("Kubernetes API: {}", explain(.0))]
    Api(#[from] Box<kube::Error>),
    /// A child could not be written for such a reason.
    #[error("{0}")]
    Apply(ApplyError),
    /// The reconcile took too long.
    #[error("no end within {} s", .0.as_secs())]
    Timeout(Duration),
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Self {
        Self::Api(Box::new(error))
    }
}

impl From<ApplyError> for Error {
    fn from(error: ApplyError) -> Self {
        match &error {
            ApplyError::NameConflict { .. } => {
                Problem::person(reasons::NAME_CONFLICT, error.to_string()).into()
            }
            ApplyError::Remnant { .. } => {
                Problem::stage(reasons::NAME_CONFLICT, error.to_string()).into()
            }
            ApplyError::Api { source, .. } if refused(source) => {
                Problem::outage(reasons::APPLY_FAILED, error.to_string()).into()
            }
            ApplyError::Api { .. } | ApplyError::Json(_) => Self::Apply(error),
        }
    }
}

/// Whether the API server understood and said no, so that it will say no again.
fn refused(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if matches!(status.code, 400 | 403 | 404 | 405 | 413 | 422))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(code: u16) -> Error {
        let status = kube::core::Status::failure("said no", "Reason").with_code(code);
        ApplyError::Api {
            kind: "Deployment".into(),
            name: "d".into(),
            source: Box::new(kube::Error::Api(Box::new(status))),
        }
        .into()
    }

    #[test]
    fn a_refusal_is_told_in_the_status_and_an_outage_is_not() {
        for code in [400, 403, 422] {
            assert!(matches!(api(code), Error::Problem(p) if p.reason == reasons::APPLY_FAILED));
        }
        for code in [409, 429, 500, 503] {
            assert!(matches!(api(code), Error::Apply(_)));
        }
    }

    #[test]
    fn a_stage_is_looked_at_ever_more_rarely() {
        let waits = [-5, 0, 20, 100, 3600].map(|s| soon(SignedDuration::from_secs(s)).as_secs());
        assert_eq!(waits, [1, 1, 5, 25, 60]);
    }

    #[test]
    fn a_name_conflict_needs_a_person() {
        let error = Error::from(ApplyError::NameConflict {
            kind: "Service".into(),
            name: "s".into(),
        });
        let Error::Problem(problem) = error else {
            panic!("{error}")
        };
        assert!(problem.degraded);
        assert_eq!(problem.reason, reasons::NAME_CONFLICT);
    }
}
