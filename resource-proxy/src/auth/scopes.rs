//! Scopes and their hierarchy.

use std::collections::HashMap;

use crate::config::Scope;

/// Which scopes grant which: `implies`, followed to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hierarchy {
    /// Scope → every other scope that includes it.
    included_in: HashMap<String, Vec<String>>,
}

impl Hierarchy {
    /// From the configured scopes. A circle is allowed: all scopes in it are worth the same.
    pub fn new(scopes: &[Scope]) -> Self {
        let implies: HashMap<&str, &[String]> = scopes
            .iter()
            .map(|scope| (scope.name.as_str(), scope.implies.as_slice()))
            .collect();
        let mut included_in: HashMap<String, Vec<String>> = HashMap::new();
        for scope in scopes {
            for included in reachable(&scope.name, &implies) {
                included_in
                    .entry(included.to_owned())
                    .or_default()
                    .push(scope.name.clone());
            }
        }
        Self { included_in }
    }

    /// Whether who holds `held` may do what asks for `needed`.
    pub fn grants(&self, held: &[String], needed: &str) -> bool {
        let included_in = self.included_in.get(needed);
        held.iter()
            .any(|scope| scope == needed || included_in.is_some_and(|by| by.contains(scope)))
    }
}

fn reachable<'a>(start: &'a str, implies: &HashMap<&'a str, &'a [String]>) -> Vec<&'a str> {
    let mut found = vec![start];
    let mut next = 0;
    while let Some(scope) = found.get(next).copied() {
        next += 1;
        for implied in implies.get(scope).copied().unwrap_or_default() {
            if !found.contains(&implied.as_str()) {
                found.push(implied);
            }
        }
    }
    found.split_off(1)
}

/// Whether `name` is a scope-token of RFC 6749 section 3.3.
pub fn is_scope_token(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hierarchy(scopes: &[(&str, &[&str])]) -> Hierarchy {
        let scopes: Vec<Scope> = scopes
            .iter()
            .map(|(name, implies)| Scope {
                name: (*name).into(),
                description: None,
                implies: implies.iter().map(|scope| (*scope).into()).collect(),
            })
            .collect();
        Hierarchy::new(&scopes)
    }

    #[test]
    fn implication_is_followed_to_its_end_and_never_backwards() {
        let scopes = hierarchy(&[("admin", &["write"]), ("write", &["read"]), ("read", &[])]);
        let held = ["admin".to_owned()];
        for needed in ["admin", "write", "read"] {
            assert!(scopes.grants(&held, needed), "{needed}");
        }
        assert!(!scopes.grants(&["read".to_owned()], "write"));
        assert!(!scopes.grants(&held, "other"));
        assert!(!scopes.grants(&[], "read"));
    }

    #[test]
    fn a_circle_ends() {
        let scopes = hierarchy(&[("a", &["b"]), ("b", &["c"]), ("c", &["a", "c"])]);
        for held in ["a", "b", "c"] {
            for needed in ["a", "b", "c"] {
                assert!(scopes.grants(&[held.to_owned()], needed), "{held} {needed}");
            }
        }
    }

    #[test]
    fn scope_tokens_are_those_of_rfc_6749() {
        for name in ["notes:read", "a", "!", "https://x/y", "~"] {
            assert!(is_scope_token(name), "{name}");
        }
        for name in ["", "a b", "a\"b", "a\\b", "é", "a\n"] {
            assert!(!is_scope_token(name), "{name}");
        }
    }
}
