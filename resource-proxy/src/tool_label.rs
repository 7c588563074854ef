//! The label of a tool in metrics.

use crate::config::Config;
use crate::glob;

/// A tool's friction group, else its access rule, else `other`. Clients choose the names of tools;
/// as labels these would let a client create any number of time series.
#[derive(Clone, Debug)]
pub struct ToolLabels(Vec<Label>);

#[derive(Clone, Debug)]
struct Label {
    pattern: String,
    name: String,
}

impl ToolLabels {
    /// From a checked configuration.
    pub fn new(config: &Config) -> Self {
        let groups = config.friction.iter().flat_map(|friction| &friction.groups);
        let groups = groups.flat_map(|group| {
            group.tools.iter().map(|pattern| Label {
                pattern: pattern.clone(),
                name: group.name.clone(),
            })
        });
        let patterns = config.access.rules.iter().flat_map(|rule| &rule.tools);
        let rules = patterns.map(|pattern| Label {
            pattern: pattern.clone(),
            name: pattern.clone(),
        });
        Self(groups.chain(rules).collect())
    }

    /// The label of `tool`.
    pub fn of(&self, tool: &str) -> &str {
        let mut labels = self.0.iter();
        let label = labels.find(|label| glob::matches(&label.pattern, tool));
        label.map_or("other", |label| &label.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::example;

    #[test]
    fn labels_are_bounded_by_the_configuration() {
        let text = example(
            r#"
access: { rules: [{ tools: ["create_*", "read_*"], anyToken: true }] }
friction:
  rate: { calls: 1, periodSeconds: 1 }
  groups: [{ name: writes, tools: ["create_*"], rate: { calls: 1, periodSeconds: 1 } }]
"#,
        );
        let labels = ToolLabels::new(&Config::parse(&text).unwrap());
        assert_eq!(labels.of("create_x"), "writes");
        assert_eq!(labels.of("read_x"), "read_*");
        assert_eq!(labels.of("x"), "other");
    }
}
