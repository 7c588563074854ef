//! Scopes (RFC 6749, section 3.3): their names, sets of them, and which of them imply which.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Invalid;
use crate::invalid::Bounds;

/// The rule for names as a pattern for schemas.
pub const NAME_PATTERN: &str = r"^[\x21\x23-\x5B\x5D-\x7E]+$";
/// The length of a name, in characters.
pub const NAME_LENGTH: Bounds = Bounds::new(1, 128);
/// The length of a description, in characters.
pub const DESCRIPTION_LENGTH: Bounds = Bounds::new(0, 256);
/// How many scopes a resource has.
pub const COUNT: Bounds = Bounds::new(0, 32);
/// How many scopes one scope implies by itself, and how many a tool needs.
pub const REFERENCES: Bounds = Bounds::new(0, 16);
/// Scopes of the authorization server itself, known at every resource.
pub const OWN: [&str; 2] = ["openid", OFFLINE_ACCESS];
/// The scopes of OpenID Connect (Core, sections 5.4 and 11), with `groups`, which many providers have. Clients ask for them out of
/// habit, so they do not count as scopes of a resource, unless it has one of that name.
pub const OPENID_CONNECT: [&str; 7] = [
    "openid",
    "profile",
    "email",
    "address",
    "phone",
    "groups",
    OFFLINE_ACCESS,
];
/// Requests a refresh token (OpenID Connect Core, section 11). It concerns only the client and the authorization server,
/// so resources never tell a client to request it.
pub const OFFLINE_ACCESS: &str = "offline_access";

/// A scope of a resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scope {
    /// Its name.
    pub name: String,
    /// What it allows, for the person who is asked to consent.
    #[serde(default)]
    pub description: String,
    /// Scopes that this one includes.
    #[serde(default)]
    pub implies: Vec<String>,
}

/// Checks the scopes of a resource, which stand at `scopes` in their document.
///
/// # Errors
/// The first that cannot be used.
pub fn check_all(scopes: &[Scope]) -> Result<(), Invalid> {
    COUNT.list("scopes", scopes)?;
    for (index, scope) in scopes.iter().enumerate() {
        let key = |name: &str| format!("scopes[{index}].{name}");
        let name = &scope.name;
        check_name(key("name"), name)?;
        if scopes[..index].iter().any(|other| other.name == *name) {
            return Err(Invalid::new(
                key("name"),
                format!("an earlier scope has the same name, {name:?}"),
            ));
        }
        DESCRIPTION_LENGTH.text(key("description"), &scope.description)?;
        check_known(&key("implies"), &scope.implies, scopes)?;
    }
    Ok(())
}

/// Checks that no scope of a resource is one of [`OWN`]. Other authorization servers may allow them, so the
/// proxy does not check this.
///
/// # Errors
/// The first that is.
pub fn check_not_own(scopes: &[Scope]) -> Result<(), Invalid> {
    match scopes
        .iter()
        .position(|scope| OWN.contains(&scope.name.as_str()))
    {
        None => Ok(()),
        Some(index) => {
            let name = &scopes[index].name;
            let text =
                format!("{name} is reserved for the authorization server; choose another name");
            Err(Invalid::new(format!("scopes[{index}].name"), text))
        }
    }
}

/// Checks that a list at `key` names scopes of the resource.
///
/// # Errors
/// The first name that does not.
pub fn check_known(key: &str, names: &[String], scopes: &[Scope]) -> Result<(), Invalid> {
    REFERENCES.list(key, names)?;
    check_each_known(key, names, scopes)
}

/// The same for a list with a bound of its own.
pub(crate) fn check_each_known(
    key: &str,
    names: &[String],
    scopes: &[Scope],
) -> Result<(), Invalid> {
    for (index, name) in names.iter().enumerate() {
        if !scopes.iter().any(|scope| scope.name == *name) {
            let text = format!("{name:?} is not in `scopes`: add it there, or remove it here");
            return Err(Invalid::new(format!("{key}[{index}]"), text));
        }
    }
    Ok(())
}

/// Checks a scope's name.
///
/// # Errors
/// When it is too long, or no scope-token.
pub fn check_name(key: impl Into<String>, name: &str) -> Result<(), Invalid> {
    if is_name(name) && NAME_LENGTH.hold(name.len()) {
        return Ok(());
    }
    let text = format!(
        "expected {NAME_LENGTH} printable ASCII characters except space, double quote and backslash"
    );
    Err(Invalid::new(key, text))
}

/// Whether this is a scope-token of RFC 6749, section 3.3.
#[must_use]
pub fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
}

/// A set of scopes, written as names in order with one space between them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Scopes(BTreeSet<String>);

/// A `scope` parameter that is not a list of scope names.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a scope may contain only printable ASCII characters, except space, double quote and backslash"
)]
pub struct InvalidScope;

impl Scopes {
    /// Reads a `scope` parameter: names with spaces between them, empty for none.
    ///
    /// # Errors
    /// When a name has a character that RFC 6749, section 3.3, does not allow.
    pub fn parse(text: &str) -> Result<Self, InvalidScope> {
        let names = text.split(' ').filter(|name| !name.is_empty());
        names
            .map(|name| is_name(name).then(|| name.to_owned()).ok_or(InvalidScope))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// As the value of a `scope` parameter, which is never empty (RFC 6749, section 3.3).
    #[must_use]
    pub fn to_parameter(&self) -> Option<String> {
        (!self.is_empty()).then(|| self.to_string())
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this scope is in the set.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    /// Whether each of these is also in `other`.
    #[must_use]
    pub fn is_subset(&self, other: &Self) -> bool {
        self.0.is_subset(&other.0)
    }

    /// Those that are in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self(self.0.intersection(&other.0).cloned().collect())
    }

    /// The names in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl<S: Into<String>> FromIterator<S> for Scopes {
    fn from_iter<I: IntoIterator<Item = S>>(names: I) -> Self {
        Self(names.into_iter().map(Into::into).collect())
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, name) in self.iter().enumerate() {
            let separator = if index == 0 { "" } else { " " };
            write!(f, "{separator}{name}")?;
        }
        Ok(())
    }
}

/// The transitive closure of `implies`. A cycle is allowed: all scopes in it are
/// equivalent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hierarchy {
    /// Scope → every other scope that it includes.
    includes: HashMap<String, Vec<String>>,
    /// Scope → every other scope that includes it.
    included_in: HashMap<String, Vec<String>>,
}

impl Hierarchy {
    /// From scopes with the names of those that each implies by itself.
    pub fn new<'a>(scopes: impl IntoIterator<Item = (&'a str, &'a [String])>) -> Self {
        let implies: HashMap<&str, &[String]> = scopes.into_iter().collect();
        let mut hierarchy = Self::default();
        for name in implies.keys() {
            let included = reachable(name, &implies);
            for scope in &included {
                let by = hierarchy.included_in.entry((*scope).to_owned());
                by.or_default().push((*name).to_owned());
            }
            let included = included.into_iter().map(str::to_owned).collect();
            hierarchy.includes.insert((*name).to_owned(), included);
        }
        hierarchy
    }

    /// Whether who holds `held` may do what asks for `needed`.
    #[must_use]
    pub fn grants(&self, held: &[String], needed: &str) -> bool {
        let included_in = self.included_in.get(needed);
        held.iter()
            .any(|scope| scope == needed || included_in.is_some_and(|by| by.contains(scope)))
    }

    /// These scopes with all that they imply.
    #[must_use]
    pub fn with_implied(&self, scopes: &Scopes) -> Scopes {
        let implied = scopes.iter().filter_map(|name| self.includes.get(name));
        let implied = implied.flatten().map(String::as_str);
        scopes.iter().chain(implied).collect()
    }
}

impl<'a> FromIterator<&'a Scope> for Hierarchy {
    fn from_iter<I: IntoIterator<Item = &'a Scope>>(scopes: I) -> Self {
        let pairs = |scope: &'a Scope| (scope.name.as_str(), scope.implies.as_slice());
        Self::new(scopes.into_iter().map(pairs))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(name: &str, implies: &[&str]) -> Scope {
        Scope {
            name: name.into(),
            description: String::new(),
            implies: implies.iter().map(ToString::to_string).collect(),
        }
    }

    fn hierarchy(scopes: &[(&str, &[&str])]) -> Hierarchy {
        let scopes: Vec<Scope> = scopes.iter().map(|(n, i)| scope(n, i)).collect();
        scopes.iter().collect()
    }

    #[test]
    fn reads_and_writes_the_scope_parameter() {
        let scopes = Scopes::parse("notes:write  notes:read notes:read").unwrap();
        assert_eq!(scopes.to_string(), "notes:read notes:write");
        assert!(Scopes::parse("").unwrap().is_empty());
        for wrong in ["a\"b", "a\\b", "ä", "a\tb", "a\n"] {
            assert_eq!(Scopes::parse(wrong), Err(InvalidScope), "{wrong:?}");
        }
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
        let with = |names: &str| {
            scopes
                .with_implied(&Scopes::parse(names).unwrap())
                .to_string()
        };
        assert_eq!(with("admin"), "admin read write");
        assert_eq!(with("read other"), "other read");
    }

    #[test]
    fn a_circle_ends() {
        let scopes = hierarchy(&[("a", &["b"]), ("b", &["c"]), ("c", &["a", "c"])]);
        for held in ["a", "b", "c"] {
            for needed in ["a", "b", "c"] {
                assert!(scopes.grants(&[held.to_owned()], needed), "{held} {needed}");
            }
            let held = Scopes::parse(held).unwrap();
            assert_eq!(scopes.with_implied(&held).to_string(), "a b c");
        }
    }

    #[test]
    fn scope_tokens_are_those_of_rfc_6749() {
        for name in ["notes:read", "a", "!", "https://x/y", "~"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "a b", "a\"b", "a\\b", "é", "a\n"] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn a_list_of_scopes_is_checked_as_a_whole() {
        assert_eq!(check_all(&[scope("a", &["b"]), scope("b", &[])]), Ok(()));
        for (scopes, key) in [
            (vec![scope("a b", &[])], "scopes[0].name"),
            (vec![scope(&"a".repeat(129), &[])], "scopes[0].name"),
            (vec![scope("a", &[]), scope("a", &[])], "scopes[1].name"),
            (vec![scope("a", &["b"])], "scopes[0].implies[0]"),
            (vec![scope("a", &["a"; 17])], "scopes[0].implies"),
        ] {
            assert_eq!(check_all(&scopes).unwrap_err().key, key);
        }
        let many: Vec<Scope> = (0..33).map(|n| scope(&n.to_string(), &[])).collect();
        assert_eq!(check_all(&many[..32]), Ok(()));
        assert_eq!(check_all(&many).unwrap_err().key, "scopes");
    }
}
