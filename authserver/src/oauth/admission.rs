//! Which clients a resource admits: its owner decides, by the namespaces that clients are declared in.

use serde::{Deserialize, Serialize};

/// Who owns a client, which decides whether a resource admits it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner<'a> {
    /// It registered itself.
    Itself,
    /// It was declared, in this namespace or in none.
    Namespace(Option<&'a str>),
}

/// Whose clients may get tokens for a resource; none by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedClients {
    /// Those declared anywhere.
    pub all_namespaces: bool,
    /// Those declared in these namespaces.
    pub namespaces: Vec<String>,
    /// Those that registered themselves.
    pub self_registered: bool,
    /// Where trusted clients are declared that users are not asked about.
    pub without_consent: Namespaces,
}

/// A set of namespaces that clients are declared in; empty by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Namespaces {
    /// All, and clients that are declared in none.
    pub all: bool,
    /// These.
    pub names: Vec<String>,
}

impl AllowedClients {
    /// Whether clients of this owner are admitted.
    pub fn admit(&self, owner: Owner<'_>) -> bool {
        match owner {
            Owner::Itself => self.self_registered,
            Owner::Namespace(namespace) => {
                let named = |namespace: &str| self.namespaces.iter().any(|own| own == namespace);
                self.all_namespaces || namespace.is_some_and(named)
            }
        }
    }

    /// Whether users need not be asked about clients of this owner that are trusted.
    pub fn without_consent(&self, owner: Owner<'_>) -> bool {
        let Owner::Namespace(namespace) = owner else {
            return false;
        };
        let named = |namespace: &str| self.without_consent.names.iter().any(|n| n == namespace);
        self.without_consent.all || namespace.is_some_and(named)
    }
}
