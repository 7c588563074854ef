//! The caller, as the token describes it.

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The `client_id`.
    pub client_id: String,
    /// The `sub`; the client itself where there is none.
    pub subject: String,
    /// The scopes of the token.
    pub scopes: Vec<String>,
    /// The scopes that another token of the same client and subject could have. For lists alone: no call depends on them.
    /// Empty where the authorization server was not asked, or does not say.
    pub grantable: Vec<String>,
}
