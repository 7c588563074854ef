//! What a caller may do: the rules of the resource against the scopes of the token.
//!
//! Pure. The rules know nothing of HTTP or of the encoding of messages; they see [`Operation`]s. A [`Decision`] says
//! what decided and why.

use std::fmt;

use mcpauth_wire::access::{Lists, Rule, Unmatched};
use mcpauth_wire::scope::{Hierarchy, OFFLINE_ACCESS};
use percent_encoding::percent_decode_str;

use crate::auth::identity::Identity;
use crate::config::Config;
use crate::glob;

/// Something that a request asks the MCP server to do, and that a rule may be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    /// A call of the tool with this name.
    Tool(&'a str),
    /// A use of the resource with this URI.
    Resource(&'a str),
    /// A use of the prompt with this name.
    Prompt(&'a str),
    /// A method that is not part of MCP.
    Method(&'a str),
}

impl<'a> Operation<'a> {
    /// What is called or used.
    pub fn name(self) -> &'a str {
        let (Self::Tool(name) | Self::Resource(name) | Self::Prompt(name) | Self::Method(name)) =
            self;
        name
    }

    /// The URI of a resource without percent-encoding, if it has one.
    fn decoded(self) -> Option<String> {
        let Self::Resource(uri) = self else {
            return None;
        };
        let decoded = percent_decode_str(uri).decode_utf8_lossy();
        (*decoded != *uri).then(|| decoded.into_owned())
    }

    /// The patterns of a rule for operations of this kind.
    fn patterns(self, rule: &Rule) -> &[String] {
        match self {
            Self::Tool(_) => &rule.tools,
            Self::Resource(_) => &rule.resources,
            Self::Prompt(_) => &rule.prompts,
            Self::Method(_) => &rule.methods,
        }
    }
}

/// The access rules of a resource.
#[derive(Clone, Debug)]
pub struct AccessRules {
    rules: Vec<Rule>,
    /// What an operation needs that no rule matches; `None`: it is denied.
    unmatched: Option<Vec<String>>,
    /// The scopes that clients can ask for, in the order of the configuration.
    scopes: Vec<String>,
    hierarchy: Hierarchy,
    lists: Lists,
}

/// What the rules say of one operation for one caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision<'r> {
    /// The rule that decides.
    pub by: Decider<'r>,
    /// The scopes that it requires; empty where any token will do. `None` where none would help.
    pub needed: Option<&'r [String]>,
    /// Whether the caller may.
    pub is_allowed: bool,
}

/// What decides about an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decider<'r> {
    /// The rule at this place in `access.rules`, by this one of its patterns.
    Rule(usize, &'r str),
    /// `access.unmatched`.
    Unmatched,
}

impl fmt::Display for Decider<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(index, pattern) => {
                write!(f, "access.rules[{index}], the rule for {pattern}")
            }
            Self::Unmatched => f.write_str("access.unmatched"),
        }
    }
}

impl fmt::Display for Decision<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = self.by;
        match self.needed {
            None => write!(f, "{by} denies it"),
            Some([]) => write!(f, "{by} accepts any token"),
            Some(needed) => write!(f, "{by} requires the scopes {}", needed.join(" ")),
        }
    }
}

/// Why a request is not allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The operation at this place is denied to everybody.
    Absent(usize),
    /// The caller lacks a scope.
    Scopes(MissingScopes),
}

/// Why the scopes of a token are not enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingScopes {
    /// What denies the first operation, and what it requires.
    pub because: String,
    /// Scopes that the whole request needs and the caller lacks, in the order of the operations.
    pub missing: Vec<String>,
    /// What a client asks for to be allowed all that it was, and this: the scopes that it has and those that the whole
    /// request needs.
    pub to_ask_for: Vec<String>,
}

impl fmt::Display for MissingScopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missing = self.missing.join(" ");
        write!(f, "{}; the token lacks {missing}", self.because)
    }
}

impl AccessRules {
    /// From a checked configuration.
    pub fn new(config: &Config) -> Self {
        let names = config.scopes.iter().map(|scope| &scope.name);
        // No challenge names it, so no token would have it.
        let scopes: Vec<String> = names
            .filter(|name| *name != OFFLINE_ACCESS)
            .cloned()
            .collect();
        Self {
            rules: config.access.rules.clone(),
            unmatched: match config.access.unmatched {
                Unmatched::RequireAllScopes => Some(scopes.clone()),
                Unmatched::Deny => None,
                Unmatched::AnyToken => Some(Vec::new()),
            },
            scopes,
            hierarchy: config.scopes.iter().collect(),
            lists: config.access.lists,
        }
    }

    /// Whether the lists of tools, resources, templates and prompts show everything.
    pub fn show_all(&self) -> bool {
        self.lists == Lists::All
    }

    /// Whether this caller's token may do it.
    pub fn allows(&self, operation: Operation<'_>, caller: &Identity) -> bool {
        self.decide(operation, &caller.scopes).is_allowed
    }

    /// Whether lists show it to this caller: what the token may do, and with [`Lists::Grantable`] what another one could.
    /// Each is judged by itself, because the other token has what is granted then, not what this one holds.
    pub fn shows(&self, operation: Operation<'_>, caller: &Identity) -> bool {
        let is_grantable = || self.decide(operation, &caller.grantable).is_allowed;
        self.allows(operation, caller) || self.lists == Lists::Grantable && is_grantable()
    }

    /// What the rules say of an operation for a caller with the scopes `held`: the first rule that matches decides. A
    /// server may look a resource up by its URI without percent-encoding, so both spellings must be allowed:
    /// `notes://a%2Fb` passes by no looser rule than `notes://a/b`.
    pub fn decide(&self, operation: Operation<'_>, held: &[String]) -> Decision<'_> {
        let written = self.decide_as_written(operation, held);
        let decoded = operation.decoded().filter(|_| written.is_allowed);
        decoded.map_or(written, |uri| {
            self.decide_as_written(Operation::Resource(&uri), held)
        })
    }

    fn decide_as_written(&self, operation: Operation<'_>, held: &[String]) -> Decision<'_> {
        let (by, needed) = match self.rule(operation) {
            Some((index, rule, pattern)) => (Decider::Rule(index, pattern), Some(&*rule.scopes)),
            None => (Decider::Unmatched, self.unmatched.as_deref()),
        };
        let holds = |scope: &String| self.hierarchy.grants(held, scope);
        Decision {
            by,
            needed,
            is_allowed: needed.is_some_and(|needed| needed.iter().all(holds)),
        }
    }

    /// Whether a caller with the scopes `held` may do all of `operations`. `decided` gets what the rules say of each, with
    /// its place, so that nobody has to ask them again.
    ///
    /// # Errors
    /// At least one is denied, or the caller lacks a scope for it.
    pub fn authorize<'a>(
        &self,
        operations: impl Iterator<Item = Operation<'a>> + Clone,
        held: &[String],
        mut decided: impl FnMut(usize, Operation<'a>, &Decision<'_>),
    ) -> Result<(), Denial> {
        let mut denied = None;
        for (place, operation) in operations.clone().enumerate() {
            let decision = self.decide(operation, held);
            decided(place, operation, &decision);
            if !decision.is_allowed {
                denied.get_or_insert(decision);
            }
        }
        denied.map_or(Ok(()), |denied| Err(self.explain(denied, operations, held)))
    }

    /// The first rule that matches an operation, where it stands, and which of its patterns does.
    fn rule(&self, operation: Operation<'_>) -> Option<(usize, &Rule, &str)> {
        let mut rules = self.rules.iter().enumerate();
        rules.find_map(|(index, rule)| {
            let mut patterns = operation.patterns(rule).iter();
            let pattern = patterns.find(|pattern| glob::matches(pattern, operation.name()))?;
            Some((index, rule, pattern.as_str()))
        })
    }

    fn explain<'a>(
        &self,
        denied: Decision<'_>,
        operations: impl Iterator<Item = Operation<'a>>,
        held: &[String],
    ) -> Denial {
        let mut needed: Vec<&String> = Vec::new();
        for (index, operation) in operations.enumerate() {
            let decoded = operation.decoded();
            let spellings = [Some(operation), decoded.as_deref().map(Operation::Resource)];
            for operation in spellings.into_iter().flatten() {
                let Some(scopes) = self.decide_as_written(operation, held).needed else {
                    return Denial::Absent(index);
                };
                for scope in scopes {
                    if !needed.contains(&scope) {
                        needed.push(scope);
                    }
                }
            }
        }
        let asked = self.scopes.iter();
        let asked = asked.filter(|scope| needed.contains(scope) || held.contains(scope));
        let missing = needed.iter().copied();
        let missing = missing.filter(|scope| !self.hierarchy.grants(held, scope));
        Denial::Scopes(MissingScopes {
            because: denied.to_string(),
            missing: missing.cloned().collect(),
            to_ask_for: asked.cloned().collect(),
        })
    }
}

#[cfg(test)]
mod tests;
