//! Access rules: which token may do what at a resource.

use serde::{Deserialize, Serialize};

use crate::invalid::Bounds;
use crate::scope::{self, OFFLINE_ACCESS, Scope};
use crate::{Invalid, tool};

/// How many rules there are.
pub const RULE_COUNT: Bounds = Bounds::new(0, 128);
/// How many patterns a rule has.
pub const PATTERN_COUNT: Bounds = Bounds::new(1, 32);
/// The length of a resource's URI or of a pattern of them, in characters.
pub const URI_LENGTH: Bounds = Bounds::new(1, 512);
/// The length of a method's name or of a pattern of them, in characters.
pub const METHOD_LENGTH: Bounds = Bounds::new(1, 128);
/// How many scopes a client is told to ask for at first.
pub const INITIAL_SCOPES: Bounds = Bounds::new(1, scope::COUNT.most);

/// The access rules of a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Access {
    /// The first rule that matches an operation decides.
    pub rules: Vec<Rule>,
    /// What applies if no rule matches.
    pub unmatched: Unmatched,
    /// The scopes that a client without a token is told to ask for. Absent: all of the resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial_scopes: Option<Vec<String>>,
    /// What the lists of tools, resources, templates and prompts show.
    pub lists: Lists,
}

/// What some operations need: `scopes`, or `any_token`. They are named by exactly one of the four lists of patterns,
/// in which `*` matches any run of characters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Rule {
    /// Names of tools.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<String>,
    /// URIs of resources.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// Names of prompts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prompts: Vec<String>,
    /// Names of methods that MCP does not define.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// All the scopes that a token must have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// Any valid token is accepted. It must be explicit, so that a forgotten list of scopes does not grant access.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub any_token: bool,
}

/// What an operation needs that no rule matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unmatched {
    /// Every scope of the resource, so that a forgotten tool is not accessible.
    #[default]
    RequireAllScopes,
    /// Nothing helps: the operation is answered as if the server did not have it.
    Deny,
    /// Any valid token.
    AnyToken,
}

/// What a list shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lists {
    /// What the token may use.
    #[default]
    Held,
    /// Also what its client and user could use with another token.
    Grantable,
    /// Everything that the server has.
    All,
}

impl Access {
    /// Checks the rules of a resource that has `scopes`.
    ///
    /// # Errors
    /// The first fault, with its key below `access`.
    pub fn check(&self, scopes: &[Scope]) -> Result<(), Invalid> {
        RULE_COUNT.list("rules", &self.rules)?;
        for (index, rule) in self.rules.iter().enumerate() {
            let below = |error: Invalid| error.below(&format!("rules[{index}]"));
            rule.check(scopes).map_err(below)?;
        }
        match &self.initial_scopes {
            None => Ok(()),
            Some(initial) => {
                INITIAL_SCOPES.list("initialScopes", initial)?;
                scope::check_each_known("initialScopes", initial, scopes)
            }
        }
    }
}

impl Rule {
    /// The lists of patterns, each with its key and the length of a pattern in it.
    fn patterns(&self) -> [(&'static str, Bounds, &[String]); 4] {
        [
            ("tools", tool::LENGTH, &self.tools),
            ("resources", URI_LENGTH, &self.resources),
            ("prompts", tool::LENGTH, &self.prompts),
            ("methods", METHOD_LENGTH, &self.methods),
        ]
    }

    fn check(&self, scopes: &[Scope]) -> Result<(), Invalid> {
        let mut given = self.patterns().into_iter();
        let mut given = given.by_ref().filter(|(_, _, list)| !list.is_empty());
        let (Some((key, length, patterns)), None) = (given.next(), given.next()) else {
            let text = "expected exactly one of tools, resources, prompts and methods";
            return Err(Invalid::new("", text));
        };
        PATTERN_COUNT.list(key, patterns)?;
        for (index, pattern) in patterns.iter().enumerate() {
            length.text(format!("{key}[{index}]"), pattern)?;
        }
        self.check_scopes(scopes)
    }

    fn check_scopes(&self, scopes: &[Scope]) -> Result<(), Invalid> {
        scope::check_known("scopes", &self.scopes, scopes)?;
        if let Some(index) = self.scopes.iter().position(|name| name == OFFLINE_ACCESS) {
            let text =
                "clients are never told to ask for offline_access, so no rule can require it";
            return Err(Invalid::new(format!("scopes[{index}]"), text));
        }
        match (self.scopes.is_empty(), self.any_token) {
            (true, true) | (false, false) => Ok(()),
            (true, false) => {
                let text = "expected scopes, or anyToken: true";
                Err(Invalid::new("scopes", text))
            }
            (false, true) => {
                let text = "expected either scopes or anyToken: true, not both";
                Err(Invalid::new("anyToken", text))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(yaml: &str) -> Result<(), Invalid> {
        let access: Access = crate::read::yaml(yaml)?;
        let scope = |name: &str| Scope {
            name: name.to_owned(),
            description: String::new(),
            implies: Vec::new(),
        };
        access.check(&["read", "write", "offline_access"].map(scope))
    }

    #[test]
    fn a_rule_says_what_it_needs() {
        assert_eq!(check("{}"), Ok(()));
        let good = "
            rules:
              - { tools: [list_*, read_*], scopes: [read] }
              - { tools: [health], anyToken: true }
              - { resources: ['notes://*'], scopes: [read] }
              - { prompts: ['*'], scopes: [read] }
              - { methods: [acme/export], scopes: [read] }
            unmatched: AnyToken";
        assert_eq!(check(good), Ok(()));
        assert_eq!(check("{ unmatched: Deny, lists: All }"), Ok(()));
        assert_eq!(check("lists: Grantable"), Ok(()));
        assert!(check("lists: Some").is_err());
        for (rule, key) in [
            ("{ tools: [x] }", "rules[0].scopes"),
            ("{ tools: [x], scopes: [] }", "rules[0].scopes"),
            ("{ tools: [x], anyToken: false }", "rules[0].scopes"),
            (
                "{ tools: [x], scopes: [read], anyToken: true }",
                "rules[0].anyToken",
            ),
            ("{ scopes: [read] }", "rules[0]"),
            ("{ tools: [], scopes: [read] }", "rules[0]"),
            ("{ tools: [x], prompts: [x], scopes: [read] }", "rules[0]"),
            (
                "{ resources: [x], methods: [x], scopes: [read] }",
                "rules[0]",
            ),
            ("{ tools: [''], scopes: [read] }", "rules[0].tools[0]"),
            (
                "{ resources: [''], scopes: [read] }",
                "rules[0].resources[0]",
            ),
            (
                "{ prompts: [x, ''], scopes: [read] }",
                "rules[0].prompts[1]",
            ),
            ("{ methods: [''], scopes: [read] }", "rules[0].methods[0]"),
            (
                "{ tools: [x], scopes: [offline_access] }",
                "rules[0].scopes[0]",
            ),
            ("{ tools: [x], scopes: [other] }", "rules[0].scopes[0]"),
        ] {
            let error = check(&format!("rules: [{rule}]")).unwrap_err();
            assert_eq!(error.key, key, "{rule}");
        }
        assert!(check("rules: [{ tool: x, scopes: [read] }]").is_err());
        assert!(check("unmatched: Allow").is_err());
    }

    #[test]
    fn the_length_of_a_pattern_depends_on_what_it_is_about() {
        let rule = |key: &str, length: u32| {
            let pattern = "a".repeat(length as usize);
            check(&format!(
                "rules: [{{ {key}: [{pattern}], anyToken: true }}]"
            ))
        };
        for (key, bounds) in [
            ("tools", tool::LENGTH),
            ("resources", URI_LENGTH),
            ("prompts", tool::LENGTH),
            ("methods", METHOD_LENGTH),
        ] {
            assert_eq!(rule(key, bounds.most), Ok(()));
            let error = rule(key, bounds.most + 1).unwrap_err();
            assert_eq!(error.key, format!("rules[0].{key}[0]"));
        }
    }

    #[test]
    fn the_initial_scopes_are_scopes_of_the_resource() {
        assert_eq!(check("initialScopes: [read]"), Ok(()));
        for (initial, key) in [
            ("[]", "initialScopes"),
            ("[other]", "initialScopes[0]"),
            ("[read, other]", "initialScopes[1]"),
        ] {
            let error = check(&format!("initialScopes: {initial}")).unwrap_err();
            assert_eq!(error.key, key, "{initial}");
        }
    }
}
