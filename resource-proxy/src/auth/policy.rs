//! Which scopes a tool needs.

use crate::config::Config;
use crate::glob;

/// The tool policy of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolPolicy {
    rules: Vec<(String, Vec<String>)>,
    unlisted: Vec<String>,
    /// Patterns of the friction groups, with the group's name.
    groups: Vec<(String, String)>,
}

impl ToolPolicy {
    /// From a validated configuration. Without `unlistedTools`, a tool that no rule names needs
    /// every scope there is: a forgotten tool is closed, not open.
    pub fn new(config: &Config) -> Self {
        let every = || {
            config
                .scopes
                .iter()
                .map(|scope| scope.name.clone())
                .collect()
        };
        let groups = config.friction.iter().flat_map(|friction| &friction.groups);
        Self {
            rules: config
                .tools
                .iter()
                .map(|tool| (tool.name.clone(), tool.scopes.clone()))
                .collect(),
            unlisted: config
                .unlisted_tools
                .as_ref()
                .map_or_else(every, |unlisted| unlisted.scopes.clone()),
            groups: groups
                .flat_map(|group| {
                    let name = &group.name;
                    group.tools.iter().map(|tool| (tool.clone(), name.clone()))
                })
                .collect(),
        }
    }

    /// The scopes that a call of `tool` needs: those of the first rule that matches its bytes.
    pub fn needs(&self, tool: &str) -> &[String] {
        self.rules
            .iter()
            .find(|(pattern, _)| glob::matches(pattern, tool))
            .map_or(&self.unlisted, |(_, scopes)| scopes)
    }

    /// What metrics call `tool`: its friction group, its rule, or `other`. Clients choose tool
    /// names, so a name itself would let them make as many time series as they like.
    pub fn label(&self, tool: &str) -> &str {
        let group = self
            .groups
            .iter()
            .find(|(pattern, _)| glob::matches(pattern, tool));
        let rule = || {
            self.rules
                .iter()
                .find(|(pattern, _)| glob::matches(pattern, tool))
        };
        match group {
            Some((_, name)) => name,
            None => rule().map_or("other", |(pattern, _)| pattern),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::example;

    fn policy(more: &str) -> ToolPolicy {
        ToolPolicy::new(&Config::parse(&example(more)).unwrap())
    }

    #[test]
    fn the_first_match_wins() {
        let policy = policy(
            r#"
tools:
  - { name: "create_draft", scopes: ["notes:read"] }
  - { name: "create_*", scopes: ["notes:write"] }
unlistedTools: { scopes: [] }
"#,
        );
        assert_eq!(policy.needs("create_draft"), ["notes:read"]);
        assert_eq!(policy.needs("create_note"), ["notes:write"]);
        assert!(policy.needs("list").is_empty());
    }

    #[test]
    fn an_unlisted_tool_needs_every_scope() {
        assert_eq!(policy("").needs("anything"), ["notes:read", "notes:write"]);
    }

    #[test]
    fn tool_names_in_other_case_or_unicode_forms_match_nothing() {
        let policy =
            policy("tools: [{ name: \"caf\u{e9}\", scopes: [] }, { name: get, scopes: [] }]");
        let every = ["notes:read", "notes:write"];
        assert!(policy.needs("get").is_empty() && policy.needs("caf\u{e9}").is_empty());
        for tool in [
            "Get",
            "GET",
            "get ",
            " get",
            "ge\u{200b}t",
            "cafe\u{301}",
            "ｇｅｔ",
            "CAFÉ",
        ] {
            assert_eq!(policy.needs(tool), every, "{tool:?}");
        }
    }

    #[test]
    fn labels_are_bounded_by_the_configuration() {
        let policy = policy(
            r#"
tools: [{ name: "create_*", scopes: [] }, { name: "read_*", scopes: [] }]
friction:
  rate: { calls: 1, periodSeconds: 1 }
  groups: [{ name: writes, tools: ["create_*"], rate: { calls: 1, periodSeconds: 1 } }]
"#,
        );
        assert_eq!(policy.label("create_x"), "writes");
        assert_eq!(policy.label("read_x"), "read_*");
        assert_eq!(policy.label("x"), "other");
    }
}
