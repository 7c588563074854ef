//! Why a reconcile failed.

use std::time::Duration;

use mcpauth_api::conditions::reasons;

use crate::framework::apply::{ApplyError, is_code};
use crate::framework::backoff;
use crate::problem::{Problem, Retry};
use crate::text::explain;

/// What ends a reconcile early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something that is reported in the object's status.
    #[error(transparent)]
    Problem(#[from] Problem),
    /// The API server does not respond, is overloaded, or there was a conflicting write. A status update would fail,
    /// too, and would say nothing about the object.
    #[error("Kubernetes API: {}", explain(.0))]
    Api(#[from] Box<kube::Error>),
    /// A child could not be written for the same kind of reason.
    #[error("{0}")]
    Apply(ApplyError),
    /// The reconcile took too long.
    #[error("the reconcile took longer than {} s (--reconcile-timeout-seconds)", .0.as_secs())]
    Timeout(Duration),
}

impl Error {
    /// The longest wait before the next try, where no watch tells that the cause is gone: the object that has a child's
    /// name is somebody else's.
    pub fn longest_wait(&self) -> Option<Duration> {
        (self.reason() == reasons::NAME_CONFLICT).then_some(Duration::from_secs(30))
    }

    /// The shortest wait before the next try, where one is not expected to help before it is triggered.
    pub fn shortest_wait(&self) -> Duration {
        match self {
            Self::Problem(problem) if problem.retry == Retry::Probe => backoff::LONGEST / 2,
            _ => Duration::ZERO,
        }
    }

    /// The reason as one word, for logs; for a problem, that of its condition.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Problem(problem) => problem.reason,
            Self::Api(_) | Self::Apply(_) => "ApiFailed",
            Self::Timeout(_) => "TimedOut",
        }
    }
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Self {
        match is_code(&error, 403) {
            true => denied(&error).into(),
            false => Self::Api(Box::new(error)),
        }
    }
}

impl From<ApplyError> for Error {
    fn from(error: ApplyError) -> Self {
        match &error {
            ApplyError::NameConflict { .. } => {
                Problem::person(reasons::NAME_CONFLICT, error.to_string()).into()
            }
            ApplyError::Orphan { .. } => {
                Problem::stage(reasons::NAME_CONFLICT, error.to_string()).into()
            }
            ApplyError::Api { source, .. } if lacks_permission(source) => denied(source).into(),
            ApplyError::Api { source, .. } if refused(source) => {
                Problem::outage(reasons::APPLY_FAILED, error.to_string()).into()
            }
            ApplyError::Api { .. } | ApplyError::Json(_) => Self::Apply(error),
        }
    }
}

/// Missing rights do not come back by waiting: the status tells them.
fn denied(error: &kube::Error) -> Problem {
    let message = format!(
        "Kubernetes denies the operator access: {}. Upgrade the chart, or grant the permission (docs/reference/rbac.md)",
        explain(error)
    );
    Problem::outage(reasons::ACCESS_DENIED, message)
}

/// Whether authorization refused the request, not admission (a quota, a policy), which answers with the same status:
/// `configmaps "x" is forbidden: User "y" cannot patch resource "configmaps" in API group "" in the namespace "z"`.
fn lacks_permission(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403
        && status.message.contains("is forbidden: User \"")
        && status.message.contains("\" cannot "))
}

/// Whether the API server rejected the request itself, so that a retry would be rejected as well.
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
    fn a_solved_name_conflict_is_noticed_within_half_a_minute() {
        let conflict = ApplyError::NameConflict {
            kind: "Service".into(),
            name: "notes".into(),
        };
        let wait = Error::from(conflict).longest_wait();
        assert_eq!(wait, Some(Duration::from_secs(30)));
        assert_eq!(api(422).longest_wait(), None);
    }

    #[test]
    fn missing_rights_are_told_in_the_status() {
        let status =
            kube::core::Status::failure("secrets is forbidden", "Forbidden").with_code(403);
        let error = Error::from(kube::Error::Api(Box::new(status)));
        assert!(matches!(error, Error::Problem(p) if p.reason == reasons::ACCESS_DENIED));
    }

    #[test]
    fn missing_rights_and_a_refused_child_are_told_apart() {
        let reason = |message: &str| {
            let status = kube::core::Status::failure(message, "Forbidden").with_code(403);
            let error = ApplyError::Api {
                kind: "Deployment".into(),
                name: "d".into(),
                source: Box::new(kube::Error::Api(Box::new(status))),
            };
            Error::from(error).reason()
        };
        let rights = "deployments.apps \"d\" is forbidden: User \"system:serviceaccount:a:b\" cannot patch resource \
                      \"deployments\" in API group \"apps\" in the namespace \"n\"";
        assert_eq!(reason(rights), reasons::ACCESS_DENIED);
        let policy =
            "deployments.apps \"d\" is forbidden: ValidatingAdmissionPolicy 'p' denied request: no";
        assert_eq!(reason(policy), reasons::APPLY_FAILED);
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
