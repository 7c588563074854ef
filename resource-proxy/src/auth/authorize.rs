//! What a caller may do: the rules of the resource against the scopes of the token.
//!
//! Pure. The rules know nothing of HTTP or of the encoding of messages; they see [`Operation`]s.

use std::fmt;

use mcpauth_wire::access::{Rule, Unmatched};
use mcpauth_wire::scope::Hierarchy;

use crate::config::Config;
use crate::glob;

/// Something that a request asks the MCP server to do, and that a rule may be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    /// `tools/call` of the tool with this name.
    CallTool(&'a str),
}

/// The access rules of a resource.
#[derive(Clone, Debug)]
pub struct AccessRules {
    rules: Vec<Rule>,
    /// What an operation needs that no rule matches.
    unmatched: Vec<String>,
    hierarchy: Hierarchy,
}

/// Why a request is not allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The pattern of the rule that denies the first operation; `None` where no rule matches it.
    pub rule: Option<String>,
    /// All scopes that the request needs, in the order of its operations.
    pub needed: Vec<String>,
    /// Those of them that the caller lacks.
    pub missing: Vec<String>,
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.rule {
            Some(rule) => write!(f, "the rule for {rule} ")?,
            None => f.write_str("access.unmatched ")?,
        }
        let (needed, missing) = (self.needed.join(" "), self.missing.join(" "));
        write!(f, "requires the scopes {needed}; the token lacks {missing}")
    }
}

impl AccessRules {
    /// From a checked configuration.
    pub fn new(config: &Config) -> Self {
        let every_scope = || config.scopes.iter().map(|scope| scope.name.clone());
        Self {
            rules: config.access.rules.clone(),
            unmatched: match config.access.unmatched {
                Unmatched::RequireAllScopes => every_scope().collect(),
                Unmatched::AnyToken => Vec::new(),
            },
            hierarchy: config.scopes.iter().collect(),
        }
    }

    /// Whether a caller with the scopes `held` may do all of `operations`.
    ///
    /// # Errors
    /// The caller lacks a scope for at least one of them.
    pub fn authorize<'a>(
        &self,
        operations: impl Iterator<Item = Operation<'a>> + Clone,
        held: &[String],
    ) -> Result<(), Denial> {
        let denied = operations
            .clone()
            .find(|operation| !self.allows(*operation, held));
        match denied {
            None => Ok(()),
            Some(denied) => Err(self.explain(denied, operations, held)),
        }
    }

    fn allows(&self, operation: Operation<'_>, held: &[String]) -> bool {
        let mut needed = self.needs(operation).iter();
        needed.all(|scope| self.hierarchy.grants(held, scope))
    }

    /// The scopes that an operation needs: those of the first rule that matches.
    fn needs(&self, operation: Operation<'_>) -> &[String] {
        self.rule(operation)
            .map_or(&self.unmatched, |(rule, _)| &rule.scopes)
    }

    /// The first rule that matches an operation, and which of its patterns does.
    fn rule(&self, operation: Operation<'_>) -> Option<(&Rule, &String)> {
        let Operation::CallTool(name) = operation;
        self.rules.iter().find_map(|rule| {
            let mut patterns = rule.tools.iter();
            let pattern = patterns.find(|pattern| glob::matches(pattern, name))?;
            Some((rule, pattern))
        })
    }

    fn explain<'a>(
        &self,
        denied: Operation<'a>,
        operations: impl Iterator<Item = Operation<'a>>,
        held: &[String],
    ) -> Denial {
        let mut needed: Vec<String> = Vec::new();
        for scope in operations.flat_map(|operation| self.needs(operation)) {
            if !needed.contains(scope) {
                needed.push(scope.clone());
            }
        }
        let missing = needed
            .iter()
            .filter(|scope| !self.hierarchy.grants(held, scope));
        Denial {
            rule: self.rule(denied).map(|(_, pattern)| pattern.clone()),
            missing: missing.cloned().collect(),
            needed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::example;

    fn rules(more: &str) -> AccessRules {
        AccessRules::new(&Config::parse(&example(more)).unwrap())
    }

    fn authorize(rules: &AccessRules, tools: &[&str], held: &[&str]) -> Result<(), Denial> {
        let held: Vec<String> = held.iter().map(ToString::to_string).collect();
        let operations = tools.iter().map(|tool| Operation::CallTool(tool));
        rules.authorize(operations, &held)
    }

    /// What a caller without scopes is told that a tool needs.
    fn needs(rules: &AccessRules, tool: &str) -> Vec<String> {
        let denied = authorize(rules, &[tool], &[]);
        denied.err().map_or_else(Vec::new, |denial| denial.needed)
    }

    const RULES: &str = r#"
access:
  rules:
    - { tools: [create_draft], scopes: ["notes:read"] }
    - { tools: ["create_*", "update_*"], scopes: ["notes:write"] }
  unmatched: AnyToken
"#;

    #[test]
    fn the_first_rule_that_matches_decides() {
        let rules = rules(RULES);
        assert_eq!(needs(&rules, "create_draft"), ["notes:read"]);
        assert_eq!(needs(&rules, "create_note"), ["notes:write"]);
        assert_eq!(needs(&rules, "update_note"), ["notes:write"]);
        assert!(needs(&rules, "list").is_empty());
    }

    #[test]
    fn what_no_rule_matches_needs_every_scope() {
        let rules = rules("");
        assert_eq!(needs(&rules, "anything"), ["notes:read", "notes:write"]);
        let denial = authorize(&rules, &["anything"], &["notes:read"]).unwrap_err();
        assert_eq!(denial.rule, None);
    }

    #[test]
    fn a_denial_names_the_rule_and_the_scopes() {
        let rules = rules(RULES);
        let tools = ["list", "create_draft", "create_note", "create_other"];
        assert_eq!(
            authorize(&rules, &tools, &["notes:read"]),
            Err(Denial {
                rule: Some("create_*".into()),
                needed: vec!["notes:read".into(), "notes:write".into()],
                missing: vec!["notes:write".into()],
            })
        );
        assert_eq!(authorize(&rules, &tools, &["notes:write"]), Ok(()));
        assert_eq!(authorize(&rules, &[], &[]), Ok(()));
    }

    #[test]
    fn tool_names_in_other_case_or_unicode_forms_match_nothing() {
        let rules = rules("access: { rules: [{ tools: [\"caf\u{e9}\", get], anyToken: true }] }");
        let every = ["notes:read", "notes:write"];
        assert!(needs(&rules, "get").is_empty() && needs(&rules, "caf\u{e9}").is_empty());
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
            assert_eq!(needs(&rules, tool), every, "{tool:?}");
        }
    }
}
