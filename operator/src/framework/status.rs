//! The status of our kinds: how it is derived from what was observed (pure), and how it is written.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition as StoredCondition, Time};
use mcpauth_api::conditions::{reasons, types};
use serde_json::{Map, Value};

use crate::problem::Problem;
use crate::text::shorten;

/// The status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// This operator cannot tell.
    Unknown,
}

impl Status {
    const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// A condition that a reconcile observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// One of [`mcpauth_api::conditions::types`].
    pub type_: &'static str,
    /// Whether it holds.
    pub status: Status,
    /// One of [`mcpauth_api::conditions::reasons`].
    pub reason: &'static str,
    /// The message.
    pub message: String,
}

impl Condition {
    /// A condition that is True.
    pub fn yes(type_: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            type_,
            status: Status::True,
            reason,
            message: message.into(),
        }
    }

    /// A condition that is False because of a problem, or Unknown if the problem is that we cannot tell.
    pub fn no(type_: &'static str, problem: &Problem) -> Self {
        Self {
            type_,
            status: if problem.unknown {
                Status::Unknown
            } else {
                Status::False
            },
            reason: problem.reason,
            message: problem.message.clone(),
        }
    }
}

/// Why pods are not upgraded yet, though they run well.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// The message of Progressing.
    pub message: String,
    /// When to look again.
    pub again: Duration,
}

/// What a reconcile observed.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The message of Ready when nothing is wrong.
    pub ready: String,
    /// The problems, the most important first; the first one is the reason of Ready.
    pub problems: Vec<Problem>,
    /// Conditions besides Ready, Progressing and Degraded. Conditions that are not listed keep their state.
    pub conditions: Vec<Condition>,
    /// Whether the registration is lost when the authorization server restarts.
    pub forgotten: bool,
    /// Whether to look again soon although nothing is wrong: something is expected to answer.
    pub recheck: bool,
    /// Whether the rest is left to the next reconcile, because other new objects have no children yet. Nothing is reported then.
    pub is_partial: bool,
    /// Whether an upgrade waits for its turn.
    pub waiting: Option<Waiting>,
    /// Fields of the status besides `conditions` and `observedGeneration`, by JSON name.
    pub fields: Map<String, Value>,
}

impl Observed {
    /// Nothing but a problem.
    pub fn problem(problem: Problem) -> Self {
        Self {
            problems: vec![problem],
            ..Self::default()
        }
    }

    /// All conditions, the summary first.
    fn all_conditions(&self) -> Vec<Condition> {
        let ready = match self.problems.first() {
            None => Condition::yes(types::READY, reasons::READY, &self.ready),
            Some(problem) => Condition::no(types::READY, problem),
        };
        let degraded = match self.problems.iter().find(|p| p.degraded) {
            Some(p) => Condition::yes(types::DEGRADED, p.reason, &p.message),
            None => Condition {
                type_: types::DEGRADED,
                status: Status::False,
                reason: reasons::READY,
                message: "no manual action is needed".to_owned(),
            },
        };
        [ready, self.progressing(), degraded]
            .into_iter()
            .chain(self.conditions.iter().cloned())
            .collect()
    }

    /// Whether something changes by itself.
    fn progressing(&self) -> Condition {
        if let Some(stage) = self.problems.iter().find(|p| p.is_progress()) {
            return Condition::yes(types::PROGRESSING, stage.reason, &stage.message);
        }
        if let Some(waiting) = &self.waiting {
            let reason = reasons::UPGRADE_WAITING;
            return Condition::yes(types::PROGRESSING, reason, &waiting.message);
        }
        let (reason, message) = match self.problems.first() {
            None => (reasons::READY, "no change is in progress"),
            Some(problem) => (problem.reason, "no change is in progress; see Ready"),
        };
        Condition {
            type_: types::PROGRESSING,
            status: Status::False,
            reason,
            message: message.to_owned(),
        }
    }
}

/// The annotation of a paused object. Its value does not matter, unless it is `false`.
pub const PAUSED: &str = "mcpauth.io/paused";

/// Maximum length of a condition's message, in bytes; the API allows 32 KiB.
const MESSAGE: usize = 2048;

/// The conditions after `observed` was seen at `now` for `generation`. Conditions that it does not list stay unchanged,
/// and `lastTransitionTime` changes only with the status.
fn merge(
    previous: &[StoredCondition],
    observed: &[Condition],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<StoredCondition> {
    let mut conditions: Vec<StoredCondition> = previous.to_vec();
    for condition in observed {
        let status = condition.status.as_str();
        let before = conditions.iter_mut().find(|c| c.type_ == condition.type_);
        let since = match &before {
            Some(c) if c.status == status => c.last_transition_time.clone(),
            _ => whole_seconds(now),
        };
        let next = StoredCondition {
            type_: condition.type_.to_owned(),
            status: status.to_owned(),
            reason: condition.reason.to_owned(),
            message: shorten(&condition.message, MESSAGE).to_owned(),
            observed_generation: generation,
            last_transition_time: since,
        };
        match before {
            Some(stored) => *stored = next,
            None => conditions.push(next),
        }
    }
    conditions
}

/// The time with the precision that the API stores.
fn whole_seconds(now: Timestamp) -> Time {
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

/// The conditions in a status in JSON; none when there are none or they do not parse.
pub fn conditions(status: &Value) -> Vec<StoredCondition> {
    serde_json::from_value(status["conditions"].clone()).unwrap_or_default()
}

/// The status after `observed`, given the previous one; `None` when it is the same.
pub fn next(
    previous: &Value,
    observed: &Observed,
    generation: Option<i64>,
    now: Timestamp,
) -> Option<Value> {
    let mut all = observed.all_conditions();
    all.extend(resumed(previous));
    let merged = merge(&conditions(previous), &all, generation, now);
    let mut status = previous.as_object().cloned().unwrap_or_default();
    for (field, value) in &observed.fields {
        status.insert(field.clone(), value.clone());
    }
    status.retain(|_, value| !value.is_null());
    status.insert(
        "conditions".to_owned(),
        serde_json::to_value(merged).unwrap_or_default(),
    );
    if let Some(generation) = generation {
        status.insert("observedGeneration".to_owned(), generation.into());
    }
    let status = Value::Object(status);
    (status != *previous).then_some(status)
}

/// What a paused object says.
pub fn paused_message() -> String {
    format!(
        "the annotation {PAUSED} stops the operator from changing anything for this object; the other conditions are as they \
         were. Remove the annotation to continue"
    )
}

/// The status of a paused object; `None` when it says so already.
pub fn paused(before: &Value, generation: Option<i64>, now: Timestamp) -> Option<Value> {
    let condition = Condition::yes(types::PAUSED, reasons::PAUSED, paused_message());
    with_condition(before, condition, generation, now)
}

/// That an object is no longer paused, if its status says that it is.
fn resumed(before: &Value) -> Option<Condition> {
    let stored = conditions(before).into_iter();
    let mut paused = stored.filter(|c| c.type_ == types::PAUSED && c.status == "True");
    paused.next().map(|_| Condition {
        type_: types::PAUSED,
        status: Status::False,
        reason: reasons::RESUMED,
        message: format!("the annotation {PAUSED} was removed"),
    })
}

/// The status with one condition changed, and nothing else; `None` when it is the same.
fn with_condition(
    previous: &Value,
    condition: Condition,
    generation: Option<i64>,
    now: Timestamp,
) -> Option<Value> {
    let merged = merge(&conditions(previous), &[condition], generation, now);
    let mut status = previous.as_object().cloned().unwrap_or_default();
    status.insert(
        "conditions".to_owned(),
        serde_json::to_value(merged).unwrap_or_default(),
    );
    let status = Value::Object(status);
    (status != *previous).then_some(status)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn waiting() -> Observed {
        Observed::problem(Problem::stage(
            reasons::PODS_NOT_READY,
            "0 of 1 pods are ready",
        ))
    }

    fn condition(status: &Value, type_: &str) -> StoredCondition {
        conditions(status)
            .into_iter()
            .find(|c| c.type_ == type_)
            .unwrap()
    }

    #[test]
    fn last_transition_time_moves_only_with_the_status() {
        let first = next(&Value::Null, &waiting(), Some(1), at(10)).unwrap();
        let mut other = waiting();
        other.problems[0].message = "1 of 2 pods are ready".into();
        let second = next(&first, &other, Some(2), at(20)).unwrap();
        let ready = condition(&second, types::READY);
        assert_eq!(ready.last_transition_time, Time(at(10)));
        assert_eq!(ready.observed_generation, Some(2));
        assert_eq!(ready.message, "1 of 2 pods are ready");

        let third = next(&second, &Observed::default(), Some(2), at(30)).unwrap();
        assert_eq!(
            condition(&third, types::READY).last_transition_time,
            Time(at(30))
        );
        assert_eq!(third["observedGeneration"], 2);
    }

    #[test]
    fn the_same_state_is_not_written_again() {
        let first = next(&Value::Null, &waiting(), Some(1), at(10)).unwrap();
        assert_eq!(next(&first, &waiting(), Some(1), at(99)), None);
    }

    #[test]
    fn the_first_problem_is_the_reason_and_any_that_needs_a_person_degrades() {
        let mut observed = waiting();
        observed.problems.push(Problem::person(
            reasons::RESOURCE_CONFLICT,
            "choose another URL",
        ));
        let status = next(&Value::Null, &observed, Some(1), at(1)).unwrap();
        assert_eq!(
            condition(&status, types::READY).reason,
            reasons::PODS_NOT_READY
        );
        let degraded = condition(&status, types::DEGRADED);
        assert_eq!(
            (degraded.status.as_str(), degraded.reason.as_str()),
            ("True", "ResourceConflict")
        );

        let well = next(&status, &Observed::default(), Some(1), at(2)).unwrap();
        assert_eq!(condition(&well, types::DEGRADED).status, "False");
    }

    #[test]
    fn what_was_not_looked_at_keeps_its_state() {
        let mut observed = Observed::default();
        observed
            .conditions
            .push(Condition::yes("Registered", reasons::READY, "at http://a"));
        observed.fields.insert("url".into(), json!("http://a"));
        let before = next(&Value::Null, &observed, Some(1), at(1)).unwrap();
        let after = next(&before, &waiting(), Some(1), at(2)).unwrap();
        assert_eq!(
            condition(&after, "Registered"),
            condition(&before, "Registered")
        );
        assert_eq!(after["url"], "http://a");
    }

    #[test]
    fn a_status_that_does_not_parse_is_replaced() {
        let odd = json!({ "conditions": "none" });
        let status = next(&odd, &waiting(), None, at(1)).unwrap();
        assert_eq!(condition(&status, types::READY).status, "False");
    }

    #[test]
    fn messages_are_bounded_and_cut_between_characters() {
        let mut observed = waiting();
        observed.problems[0].message = "é".repeat(5000);
        let status = next(&Value::Null, &observed, None, at(1)).unwrap();
        assert_eq!(condition(&status, types::READY).message.len(), MESSAGE);
        assert_eq!(shorten("aé", 2), "a");
    }

    #[test]
    fn pausing_changes_nothing_else() {
        let now = Timestamp::UNIX_EPOCH;
        let ready = json!({ "observedGeneration": 1, "url": "http://a", "conditions": [{
            "type": "Ready", "status": "True", "reason": "Ready", "message": "", "observedGeneration": 1,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }] });
        let status = paused(&ready, Some(2), now).unwrap();
        assert_eq!(status["observedGeneration"], 1);
        assert_eq!(status["url"], "http://a");
        assert_eq!(status["conditions"][0], ready["conditions"][0]);
        assert_eq!(status["conditions"][1]["type"], "Paused");
        assert_eq!(paused(&status, Some(2), now), None);
        assert!(resumed(&status).is_some() && resumed(&ready).is_none());
    }
}
