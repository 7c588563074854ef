//! The `friction:` section of the proxy's configuration.

use std::ops::RangeInclusive;

use serde::Deserialize;

/// Targets for the volume of calls, and how they are kept.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FrictionConfig {
    /// The target of a principal (client and subject), for each tool that is in no group.
    pub rate: Rate,
    /// Tools that share a target. The first group with a matching name counts.
    #[serde(default)]
    pub groups: Vec<Group>,
    /// The target of a subject over all its clients and tools.
    #[serde(default)]
    pub subject_rate: Option<Rate>,
    /// The target of everybody together.
    #[serde(default)]
    pub resource_rate: Option<Rate>,
    /// After how many seconds a call counts half: 1 to 86400.
    #[serde(default = "half_life_seconds")]
    pub half_life_seconds: u32,
    /// The longest delay, in milliseconds: 1 to 300000.
    #[serde(default = "max_delay_milliseconds")]
    pub max_delay_milliseconds: u32,
    /// How many calls of a new principal to a tool are never delayed: 0 to 100000.
    #[serde(default = "warmup_calls")]
    pub warmup_calls: u32,
}

/// A number of calls in a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rate {
    /// How many calls: 1 to 1000000.
    pub calls: u32,
    /// In how many seconds: 1 to 86400.
    pub period_seconds: u32,
}

/// Tools that share a target.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Group {
    /// Its name, unique: what its state hangs on across reloads.
    pub name: String,
    /// Names of tools, in which `*` matches any run of characters.
    pub tools: Vec<String>,
    /// The target of a principal over these tools.
    pub rate: Rate,
}

/// A value that cannot be used. Reads `friction.rate.calls: 0 is not …`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct FrictionConfigError {
    /// The key in the configuration file.
    pub key: String,
    /// What is wrong with its value, and what would be right.
    pub problem: String,
}

fn half_life_seconds() -> u32 {
    30
}

fn max_delay_milliseconds() -> u32 {
    30_000
}

fn warmup_calls() -> u32 {
    10
}

impl FrictionConfig {
    /// Checks every value.
    ///
    /// # Errors
    /// The first key whose value is out of bounds, with the bounds.
    pub fn validate(&self) -> Result<(), FrictionConfigError> {
        self.rate.validate("friction.rate")?;
        for (index, group) in self.groups.iter().enumerate() {
            let key = format!("friction.groups[{index}]");
            group.validate(&key)?;
            if self.groups[..index].iter().any(|g| g.name == group.name) {
                let problem = format!("a second group named {:?}; names are unique", group.name);
                return Err(error(format!("{key}.name"), problem));
            }
        }
        if let Some(rate) = &self.subject_rate {
            rate.validate("friction.subjectRate")?;
        }
        if let Some(rate) = &self.resource_rate {
            rate.validate("friction.resourceRate")?;
        }
        within(
            "friction.halfLifeSeconds",
            self.half_life_seconds,
            1..=86_400,
        )?;
        within(
            "friction.maxDelayMilliseconds",
            self.max_delay_milliseconds,
            1..=300_000,
        )?;
        within("friction.warmupCalls", self.warmup_calls, 0..=100_000)
    }
}

impl Rate {
    fn validate(&self, key: &str) -> Result<(), FrictionConfigError> {
        within(&format!("{key}.calls"), self.calls, 1..=1_000_000)?;
        within(
            &format!("{key}.periodSeconds"),
            self.period_seconds,
            1..=86_400,
        )
    }

    /// Calls in a second.
    pub fn per_second(self) -> f64 {
        f64::from(self.calls) / f64::from(self.period_seconds)
    }
}

impl Group {
    fn validate(&self, key: &str) -> Result<(), FrictionConfigError> {
        if self.name.is_empty() || self.name.len() > 63 {
            return Err(error(
                format!("{key}.name"),
                "needs 1 to 63 characters".into(),
            ));
        }
        if self.tools.is_empty() {
            return Err(error(
                format!("{key}.tools"),
                "names no tool; give at least one".into(),
            ));
        }
        if let Some(index) = self.tools.iter().position(String::is_empty) {
            return Err(error(
                format!("{key}.tools[{index}]"),
                "is empty; `*` is any tool".into(),
            ));
        }
        self.rate.validate(&format!("{key}.rate"))
    }
}

fn within(key: &str, value: u32, bounds: RangeInclusive<u32>) -> Result<(), FrictionConfigError> {
    if bounds.contains(&value) {
        return Ok(());
    }
    let (least, most) = bounds.into_inner();
    Err(error(
        key.into(),
        format!("{value} is out of bounds; give {least} to {most}"),
    ))
}

fn error(key: String, problem: String) -> FrictionConfigError {
    FrictionConfigError { key, problem }
}

#[cfg(test)]
mod tests {
    use super::FrictionConfig;

    fn parse(yaml: &str) -> Result<FrictionConfig, String> {
        let config: FrictionConfig = serde_saphyr::from_str(yaml).map_err(|e| e.to_string())?;
        config.validate().map_err(|e| e.to_string())?;
        Ok(config)
    }

    #[test]
    fn the_contracts_example_is_read() {
        let config = parse(
            r#"
rate: { calls: 60, periodSeconds: 60 }
groups: [{ name: writes, tools: ["create_*"], rate: { calls: 30, periodSeconds: 60 } }]
subjectRate: { calls: 600, periodSeconds: 60 }
resourceRate: { calls: 6000, periodSeconds: 60 }
halfLifeSeconds: 30
maxDelayMilliseconds: 30000
warmupCalls: 10
"#,
        )
        .unwrap();
        assert_eq!(config.groups[0].rate.per_second(), 0.5);
        let short = parse("rate: { calls: 60, periodSeconds: 60 }").unwrap();
        assert_eq!(
            short,
            FrictionConfig {
                groups: vec![],
                subject_rate: None,
                resource_rate: None,
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
                "friction.rate.calls: 0 is out of bounds",
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
                "give 1 to 300000",
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
                    "{rate}\ngroups: [{{name: a, tools: [x], {rate}}}, {{name: a, tools: [y], {rate}}}]"
                ),
                "friction.groups[1].name: a second group",
            ),
            ("rate: { calls: 1, periodSeconds: 1 }\nshare: 1", "share"),
        ] {
            let error = parse(yaml).unwrap_err();
            assert!(error.contains(message), "{yaml}\n{error}");
        }
    }
}
