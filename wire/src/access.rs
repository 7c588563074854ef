//! Access rules: which token may do what at a resource.

use serde::{Deserialize, Serialize};

use crate::invalid::Bounds;
use crate::scope::{self, Scope};
use crate::{Invalid, tool};

/// How many rules there are.
pub const RULE_COUNT: Bounds = Bounds::new(0, 128);
/// How many patterns of tools a rule has.
pub const TOOL_COUNT: Bounds = Bounds::new(1, 32);

/// The access rules of a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Access {
    /// The first rule that matches an operation decides.
    pub rules: Vec<Rule>,
    /// What applies if no rule matches.
    pub unmatched: Unmatched,
}

/// What some operations need: `scopes`, or `any_token`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Rule {
    /// Names of tools, in which `*` matches any run of characters.
    pub tools: Vec<String>,
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
    /// Any valid token.
    AnyToken,
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
        Ok(())
    }
}

impl Rule {
    fn check(&self, scopes: &[Scope]) -> Result<(), Invalid> {
        TOOL_COUNT.list("tools", &self.tools)?;
        for (index, tool) in self.tools.iter().enumerate() {
            tool::LENGTH.text(format!("tools[{index}]"), tool)?;
        }
        scope::check_known("scopes", &self.scopes, scopes)?;
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
        access.check(&[scope("read"), scope("write")])
    }

    #[test]
    fn a_rule_says_what_it_needs() {
        assert_eq!(check("{}"), Ok(()));
        let good = "
            rules:
              - { tools: [list_*, read_*], scopes: [read] }
              - { tools: [health], anyToken: true }
            unmatched: AnyToken";
        assert_eq!(check(good), Ok(()));
        for (rule, key) in [
            ("{ tools: [x] }", "rules[0].scopes"),
            ("{ tools: [x], scopes: [] }", "rules[0].scopes"),
            ("{ tools: [x], anyToken: false }", "rules[0].scopes"),
            (
                "{ tools: [x], scopes: [read], anyToken: true }",
                "rules[0].anyToken",
            ),
            ("{ scopes: [read] }", "rules[0].tools"),
            ("{ tools: [], scopes: [read] }", "rules[0].tools"),
            ("{ tools: [''], scopes: [read] }", "rules[0].tools[0]"),
            ("{ tools: [x], scopes: [other] }", "rules[0].scopes[0]"),
        ] {
            let error = check(&format!("rules: [{rule}]")).unwrap_err();
            assert_eq!(error.key, key, "{rule}");
        }
        assert!(check("rules: [{ tool: x, scopes: [read] }]").is_err());
        assert!(check("unmatched: Allow").is_err());
    }
}
