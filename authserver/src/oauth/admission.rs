//! Which clients a resource admits: its owner decides, by the namespaces that clients are declared in.

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
}
