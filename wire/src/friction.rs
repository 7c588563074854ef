//! The `friction:` section of `proxy.yaml`.

use serde::{Deserialize, Serialize};

use crate::Invalid;
use crate::invalid::Bounds;
use crate::tool;

/// The calls of a rate.
pub const CALLS: Bounds = Bounds::new(1, 1_000_000);
/// The period of a rate, in seconds.
pub const PERIOD_SECONDS: Bounds = Bounds::new(1, 86_400);
/// After how many seconds a call counts half.
pub const HALF_LIFE_SECONDS: Bounds = Bounds::new(1, 86_400);
/// The longest delay, in milliseconds.
pub const MAX_DELAY_MILLISECONDS: Bounds = Bounds::new(1, 300_000);
/// How many calls are free at first.
pub const WARMUP_CALLS: Bounds = Bounds::new(0, 100_000);
/// How many groups there are.
pub const GROUP_COUNT: Bounds = Bounds::new(0, 32);
/// The length of a group's name, in characters.
pub const GROUP_NAME_LENGTH: Bounds = Bounds::new(1, 63);
/// The least fraction of recent calls.
pub const SHARE_LEAST: f64 = 0.01;
/// The largest fraction of recent calls.
pub const SHARE_MOST: f64 = 0.99;
/// How many tools a group names.
pub const GROUP_TOOL_COUNT: Bounds = Bounds::new(1, 64);

/// Targets for the volume of calls, and how they are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Friction {
    /// Who has targets of its own: the principal.
    #[serde(default)]
    pub per: Per,
    /// What a principal may always have of each tool that is in no group.
    pub rate: Rate,
    /// What it may have of such a tool beyond `rate`: this fraction of the subject's recent successful
    /// calls, from [`SHARE_LEAST`] to [`SHARE_MOST`]. Requires `subject_rate`, which bounds the sum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// Tools that share a target. The first group with a matching name counts.
    #[serde(default)]
    pub groups: Vec<Group>,
    /// The target of a subject over all its clients and tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject_rate: Option<Rate>,
    /// The target of all callers together. Above it, each subject is slowed by its own volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_rate: Option<Rate>,
    /// After how many seconds a call counts half: [`HALF_LIFE_SECONDS`].
    #[serde(default = "half_life_seconds")]
    pub half_life_seconds: u32,
    /// The longest delay: [`MAX_DELAY_MILLISECONDS`].
    #[serde(default = "max_delay_milliseconds")]
    pub max_delay_milliseconds: u32,
    /// How many calls of a new principal to a tool are never delayed: [`WARMUP_CALLS`].
    #[serde(default = "warmup_calls")]
    pub warmup_calls: u32,
    /// The calls of a principal that exceed this are refused. Absent: nothing is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hard_limit: Option<Rate>,
}

/// Who has targets of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Per {
    /// A subject, across all its clients.
    #[default]
    Subject,
    /// A subject under one client.
    ClientAndSubject,
}

/// A number of calls in a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rate {
    /// How many calls: [`CALLS`].
    pub calls: u32,
    /// In how many seconds: [`PERIOD_SECONDS`].
    pub period_seconds: u32,
}

/// Tools that share a target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Group {
    /// Its unique name, under which its state survives reloads.
    pub name: String,
    /// Names of tools, in which `*` matches any run of characters.
    pub tools: Vec<String>,
    /// What a principal may always have of these tools together.
    pub rate: Rate,
    /// What it may have beyond `rate`, as [`Friction::share`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
}

/// The default of [`Friction::half_life_seconds`].
#[must_use]
pub const fn half_life_seconds() -> u32 {
    30
}

/// The default of [`Friction::max_delay_milliseconds`].
#[must_use]
pub const fn max_delay_milliseconds() -> u32 {
    30_000
}

/// The default of [`Friction::warmup_calls`].
#[must_use]
pub const fn warmup_calls() -> u32 {
    10
}

impl Friction {
    /// Checks every value. Keys are those below `friction`.
    ///
    /// # Errors
    /// The first key whose value is out of bounds, with the bounds.
    pub fn check(&self) -> Result<(), Invalid> {
        self.rate.check("rate")?;
        self.check_share("share", self.share)?;
        GROUP_COUNT.list("groups", &self.groups)?;
        for (index, group) in self.groups.iter().enumerate() {
            let key = format!("groups[{index}]");
            group.check(&key)?;
            self.check_share(&format!("{key}.share"), group.share)?;
            if self.groups[..index].iter().any(|g| g.name == group.name) {
                let text = format!(
                    "there is another group named {:?}: names must be unique",
                    group.name
                );
                return Err(Invalid::new(format!("{key}.name"), text));
            }
        }
        if let Some(rate) = &self.subject_rate {
            rate.check("subjectRate")?;
        }
        if let Some(rate) = &self.resource_rate {
            rate.check("resourceRate")?;
        }
        HALF_LIFE_SECONDS.number("halfLifeSeconds", self.half_life_seconds)?;
        MAX_DELAY_MILLISECONDS.number("maxDelayMilliseconds", self.max_delay_milliseconds)?;
        WARMUP_CALLS.number("warmupCalls", self.warmup_calls)?;
        if let Some(rate) = &self.hard_limit {
            rate.check("hardLimit")?;
        }
        Ok(())
    }

    fn check_share(&self, key: &str, share: Option<f64>) -> Result<(), Invalid> {
        let Some(share) = share else {
            return Ok(());
        };
        // Not a number is in no range.
        if !(SHARE_LEAST..=SHARE_MOST).contains(&share) {
            let text = format!("{share} is out of range: expected {SHARE_LEAST} to {SHARE_MOST}");
            return Err(Invalid::new(key, text));
        }
        if self.subject_rate.is_none() {
            let text = "requires friction.subjectRate, which bounds the sum of all shares";
            return Err(Invalid::new(key, text));
        }
        Ok(())
    }
}

impl Rate {
    fn check(&self, key: &str) -> Result<(), Invalid> {
        CALLS.number(format!("{key}.calls"), self.calls)?;
        PERIOD_SECONDS.number(format!("{key}.periodSeconds"), self.period_seconds)
    }

    /// Calls in a second.
    #[must_use]
    pub fn per_second(self) -> f64 {
        f64::from(self.calls) / f64::from(self.period_seconds)
    }
}

impl Group {
    fn check(&self, key: &str) -> Result<(), Invalid> {
        GROUP_NAME_LENGTH.text(format!("{key}.name"), &self.name)?;
        GROUP_TOOL_COUNT.list(format!("{key}.tools"), &self.tools)?;
        for (index, tool) in self.tools.iter().enumerate() {
            tool::LENGTH.text(format!("{key}.tools[{index}]"), tool)?;
        }
        self.rate.check(&format!("{key}.rate"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read;

    fn parse(yaml: &str) -> Result<Friction, String> {
        let config: Friction = read::yaml(yaml).map_err(|e| e.to_string())?;
        config
            .check()
            .map_err(|e| e.below("friction").to_string())?;
        Ok(config)
    }

    #[test]
    fn the_contracts_example_is_read() {
        let config = parse(
            r#"
per: ClientAndSubject
rate: { calls: 60, periodSeconds: 60 }
share: 0.2
groups: [{ name: writes, tools: ["create_*"], rate: { calls: 30, periodSeconds: 60 }, share: 0.1 }]
subjectRate: { calls: 600, periodSeconds: 60 }
resourceRate: { calls: 6000, periodSeconds: 60 }
halfLifeSeconds: 30
maxDelayMilliseconds: 30000
warmupCalls: 10
hardLimit: { calls: 1000, periodSeconds: 60 }
"#,
        )
        .unwrap();
        assert_eq!(
            (config.share, config.groups[0].share),
            (Some(0.2), Some(0.1))
        );
        assert_eq!(config.groups[0].rate.per_second(), 0.5);
        let short = parse("rate: { calls: 60, periodSeconds: 60 }").unwrap();
        assert_eq!(
            short,
            Friction {
                per: Per::Subject,
                share: None,
                groups: vec![],
                subject_rate: None,
                resource_rate: None,
                hard_limit: None,
                ..config
            }
        );
    }

    #[test]
    fn a_bad_value_is_named_by_its_key() {
        let rate = "rate: { calls: 1, periodSeconds: 1 }";
        for (yaml, message) in [
            ("{}", "missing field `rate`"),
            ("rate: { calls: 1, periodSeconds: 1, burst: 3 }", "burst"),
            (
                "rate: { calls: 0, periodSeconds: 1 }",
                "friction.rate.calls: 0 is out of range",
            ),
            (
                "rate: { calls: 1, periodSeconds: 0 }",
                "friction.rate.periodSeconds: 0",
            ),
            (
                &format!("{rate}\nhalfLifeSeconds: 0"),
                "friction.halfLifeSeconds: 0 is out of",
            ),
            (
                &format!("{rate}\nmaxDelayMilliseconds: 300001"),
                "expected 1 to 300000",
            ),
            (
                &format!("{rate}\nwarmupCalls: 100001"),
                "friction.warmupCalls: 100001",
            ),
            (
                &format!("{rate}\nsubjectRate: {{ calls: 0, periodSeconds: 1 }}"),
                "subjectRate.calls",
            ),
            (
                &format!("{rate}\nresourceRate: {{ calls: 0, periodSeconds: 1 }}"),
                "resourceRate.ca",
            ),
            (
                &format!("{rate}\ngroups: [{{ name: '', tools: [a], {rate} }}]"),
                "groups[0].name",
            ),
            (
                &format!("{rate}\ngroups: [{{ name: a, tools: [], {rate} }}]"),
                "groups[0].tools",
            ),
            (
                &format!("{rate}\ngroups: [{{ name: a, tools: [''], {rate} }}]"),
                "tools[0]",
            ),
            (
                &format!(
                    "{rate}\ngroups: [{{name: a, tools: [x], {rate}}}, {{name: a, tools: [z], {rate}}}]"
                ),
                "friction.groups[1].name: there is another group",
            ),
            (
                &format!("{rate}\nshare: 0.5"),
                "friction.share: requires friction.subjectRate",
            ),
            (
                &format!("{rate}\nsubjectRate: {{ calls: 1, periodSeconds: 1 }}\nshare: 1"),
                "friction.share: 1 is out of range: expected 0.01 to 0.99",
            ),
            (
                &format!("{rate}\nsubjectRate: {{ calls: 1, periodSeconds: 1 }}\nshare: .nan"),
                "non-finite float `.nan` rejected",
            ),
            (
                &format!("{rate}\ngroups: [{{ name: a, tools: [x], {rate}, share: 0.5 }}]"),
                "friction.groups[0].share: requires friction.subjectRate",
            ),
            (
                &format!("{rate}\nhardLimit: {{ calls: 1, periodSeconds: 86401 }}"),
                "friction.hardLimit.periodSeconds: 86401",
            ),
            (&format!("{rate}\nper: Client"), "Client"),
        ] {
            let error = parse(yaml).unwrap_err();
            assert!(error.contains(message), "{yaml}\n{error}");
        }
    }
}
