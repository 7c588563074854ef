//! What the audit says: which events there are, and the fields of a line (pure). docs/operations/audit.md is the same for those
//! who read it.
//!
//! A field is named `subject`, `client_id`, and so on, wherever it occurs. No field holds a token, a code, a password or a
//! secret: there is no such field, and tests look for them.

use std::net::IpAddr;

use mcpauth_service::audit::bounded;
use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

use crate::oauth::grant::Grant;
use crate::oauth::refresh::RefreshKind;

/// How much of a text from outside is kept, in bytes.
const MAX_TEXT: usize = 512;

/// What happened, in a line's `event` and `outcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A user has a new session.
    LoggedIn,
    /// The user name or the password was wrong.
    LoginRefused,
    /// Too many attempts, of this user or by this network or browser.
    LoginLimited,
    /// The user has allowed what the client asks for.
    ConsentGiven,
    /// The user has declined it.
    ConsentDenied,
    /// An authorization code, which begins a grant.
    CodeIssued,
    /// A code was presented again after it was redeemed: its grant is revoked.
    CodeReused,
    /// Tokens for a code, or for the client itself.
    TokenIssued,
    /// Tokens for a refresh token.
    Refreshed(RefreshKind),
    /// A refresh token was used long after it had been replaced: its grant is revoked.
    RefreshReused,
    /// Tokens were revoked.
    Revoked(Revoked),
    /// A client has registered itself.
    Registered,
    /// A client has changed its registration.
    RegistrationUpdated,
    /// A client has ended its registration; all grants for it are revoked.
    RegistrationDeleted,
    /// An administrator has changed a client or a resource.
    AdminChange(Change),
    /// A request was not granted.
    Refused(Request, Refusal),
}

/// What was revoked, and so by whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revoked {
    /// An access token, by its client.
    AccessToken,
    /// A grant with all its tokens, by its client.
    Grant,
    /// Nothing: the token that the client sent is unknown, expired, or another client's.
    Nothing,
    /// All grants of a user, by an administrator.
    User,
    /// A grant, because its user no longer exists, or has another password.
    UserGone,
}

/// A change by an administrator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Created,
    /// It is another now; grants that it no longer allows are revoked.
    Updated,
    /// It is gone, and so are all grants for it.
    Deleted,
}

/// What was asked for, where it was not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// `/authorize`.
    Authorization,
    /// The sign-in form.
    Login,
    /// The consent form.
    Consent,
    /// Any request of a client, whose credentials were refused.
    ClientAuthentication,
    /// `/token`.
    Token,
    /// `/revoke`.
    Revocation,
    /// `/register`.
    Registration,
    /// Introspection and administration: the caller's credentials were refused.
    Caller,
    /// The admin API.
    AdminChange,
    /// Introspection.
    Introspection,
}

/// Why a request was not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// By the rules.
    Refused,
    /// There were too many.
    Limited,
    /// The server cannot answer at the moment; the log says why.
    Failed,
}

impl Event {
    /// `event` and `outcome`.
    pub const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::LoggedIn => ("login", "accepted"),
            Self::LoginRefused => ("login", "refused"),
            Self::LoginLimited => ("login", "limited"),
            Self::ConsentGiven => ("consent", "given"),
            Self::ConsentDenied => ("consent", "denied"),
            Self::CodeIssued => ("code", "issued"),
            Self::CodeReused => ("code", "reuse"),
            Self::TokenIssued => ("token", "issued"),
            Self::Refreshed(RefreshKind::Rotation) => ("refresh", "rotation"),
            Self::Refreshed(RefreshKind::Sibling) => ("refresh", "sibling"),
            Self::Refreshed(RefreshKind::LostResponse) => ("refresh", "lost_response"),
            Self::RefreshReused => ("refresh", "reuse"),
            Self::Revoked(Revoked::AccessToken) => ("revocation", "access_token"),
            Self::Revoked(Revoked::Grant) => ("revocation", "grant"),
            Self::Revoked(Revoked::Nothing) => ("revocation", "nothing"),
            Self::Revoked(Revoked::User) => ("revocation", "user"),
            Self::Revoked(Revoked::UserGone) => ("revocation", "user_gone"),
            Self::Registered => ("registration", "created"),
            Self::RegistrationUpdated => ("registration", "updated"),
            Self::RegistrationDeleted => ("registration", "deleted"),
            Self::AdminChange(Change::Created) => ("admin_change", "created"),
            Self::AdminChange(Change::Updated) => ("admin_change", "updated"),
            Self::AdminChange(Change::Deleted) => ("admin_change", "deleted"),
            Self::Refused(request, refusal) => (request.name(), refusal.name()),
        }
    }

    /// Whether a stranger can cause it as often as they like, and fill the disk with it.
    pub const fn is_by_anybody(self) -> bool {
        match self {
            Self::LoginRefused
            | Self::LoginLimited
            | Self::CodeReused
            | Self::Revoked(Revoked::Nothing)
            | Self::Registered
            | Self::RegistrationUpdated
            | Self::RegistrationDeleted
            | Self::Refused(..) => true,
            Self::LoggedIn
            | Self::ConsentGiven
            | Self::ConsentDenied
            | Self::CodeIssued
            | Self::TokenIssued
            | Self::Refreshed(_)
            | Self::RefreshReused
            | Self::Revoked(_)
            | Self::AdminChange(_) => false,
        }
    }
}

impl Request {
    const fn name(self) -> &'static str {
        match self {
            Self::Authorization => "authorization",
            Self::Login => "login",
            Self::Consent => "consent",
            Self::ClientAuthentication => "client_authentication",
            Self::Token => "token",
            Self::Revocation => "revocation",
            Self::Registration => "registration",
            Self::Caller => "caller",
            Self::AdminChange => "admin_change",
            Self::Introspection => "introspection",
        }
    }

    /// What a refused request asked for, if it is to be audited: by the pattern of its route, its error code, and whether it
    /// could have changed anything.
    pub fn of(route: &str, error: &str, changes: bool) -> Option<Self> {
        // What nobody serves, and what is not there.
        if error == "not_found" {
            return None;
        }
        // An issuer can have a path, which the public port's routes begin with.
        let ends = |end: &str| route.ends_with(end);
        let is_admin = route.contains("/admin/v1/");
        match error {
            "invalid_client" if ends("/introspect") => Some(Self::Caller),
            "invalid_client" => Some(Self::ClientAuthentication),
            "invalid_token" if !route.contains("/register") => Some(Self::Caller),
            "access_denied" if is_admin => Some(Self::Caller),
            _ if is_admin => changes.then_some(Self::AdminChange),
            _ if ends("/introspect") => Some(Self::Introspection),
            _ if ends("/authorize") => Some(Self::Authorization),
            // Their GET only says where to go.
            _ if ends("/login") => changes.then_some(Self::Login),
            _ if ends("/consent") => changes.then_some(Self::Consent),
            _ if ends("/token") => Some(Self::Token),
            _ if ends("/revoke") => Some(Self::Revocation),
            _ if route.contains("/register") => Some(Self::Registration),
            _ => None,
        }
    }
}

impl Refusal {
    const fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Limited => "limited",
            Self::Failed => "failed",
        }
    }

    /// By the response's status.
    pub const fn of(status: u16) -> Self {
        match status {
            429 => Self::Limited,
            500.. => Self::Failed,
            _ => Self::Refused,
        }
    }
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (event, outcome) = self.names();
        let mut fields = serializer.serialize_struct("Event", 2)?;
        fields.serialize_field("event", event)?;
        fields.serialize_field("outcome", outcome)?;
        fields.end()
    }
}

/// Who and what an event is about, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct About {
    /// The user: `sub` of their tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    /// The client. In a refusal it is what the request says.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<String>,
    /// The resource's URI.
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<String>,
    /// The resource's id in the admin API.
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_id: Option<String>,
    /// The family of tokens, from the code until its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    grant: Option<String>,
    /// What the client presents for tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    grant_type: Option<&'static str>,
    /// The scopes that were granted.
    #[serde(skip_serializing_if = "Option::is_none")]
    scopes: Option<Vec<String>>,
    /// The caller of the admin API or of introspection.
    #[serde(skip_serializing_if = "Option::is_none")]
    caller: Option<String>,
    /// The error code that the response has.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
    /// Why, in words: more than the response says, where that would help an attacker.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

fn set(field: &mut Option<String>, text: &str) {
    *field = Some(bounded(text, MAX_TEXT));
}

impl About {
    /// The user.
    pub fn subject(&mut self, subject: &str) {
        set(&mut self.subject, subject);
    }

    /// The client.
    pub fn client(&mut self, client_id: &str) {
        set(&mut self.client_id, client_id);
    }

    /// The resource.
    pub fn resource(&mut self, uri: &str) {
        set(&mut self.resource, uri);
    }

    /// The resource, as the admin API names it.
    pub fn resource_id(&mut self, id: &str) {
        set(&mut self.resource_id, id);
    }

    /// The grant type.
    pub const fn grant_type(&mut self, name: &'static str) {
        self.grant_type = Some(name);
    }

    /// The grant, and all that it says.
    pub fn grant(&mut self, grant: &Grant) {
        self.granted(&grant.id.to_string(), grant.scopes.iter());
        self.subject = grant.subject.as_ref().map(|text| bounded(text, MAX_TEXT));
        self.client(&grant.client_id);
        self.resource(&grant.resource);
    }

    /// A grant's id, and its scopes.
    pub fn granted<'a>(&mut self, id: &str, scopes: impl Iterator<Item = &'a str>) {
        self.grant = Some(id.to_owned());
        self.scopes(scopes);
    }

    /// The scopes.
    pub fn scopes<'a>(&mut self, scopes: impl Iterator<Item = &'a str>) {
        self.scopes = Some(scopes.map(str::to_owned).collect());
    }

    /// The caller.
    pub fn caller(&mut self, principal: &str) {
        set(&mut self.caller, principal);
    }

    /// The reason for what follows, where the response must not have it.
    pub fn reason(&mut self, reason: &str) {
        set(&mut self.reason, reason);
    }

    /// A refusal. A reason that is already known is a better one.
    pub fn refused(&mut self, error: &'static str, reason: &str) {
        self.error = Some(error);
        if self.reason.is_none() {
            self.reason(reason);
        }
    }
}

/// Where a request comes from, and where it went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Origin<'a> {
    /// The pattern of its route.
    pub endpoint: &'a str,
    /// The peer's address.
    pub address: IpAddr,
    /// `User-Agent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// The trace that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<&'a str>,
}

/// A line, but for its time.
#[derive(Debug, Serialize)]
pub struct Line<'a> {
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
    /// Who and what it is about.
    #[serde(flatten)]
    pub about: &'a About,
    /// Where the request comes from.
    #[serde(flatten)]
    pub origin: Origin<'a>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_request_is_known_by_its_route_and_error() {
        use Request as R;
        for (route, error, changes, expected) in [
            ("/token", "invalid_grant", true, Some(R::Token)),
            ("/tenant/token", "invalid_grant", true, Some(R::Token)),
            (
                "/token",
                "invalid_client",
                true,
                Some(R::ClientAuthentication),
            ),
            (
                "/revoke",
                "invalid_client",
                true,
                Some(R::ClientAuthentication),
            ),
            ("/revoke", "invalid_request", true, Some(R::Revocation)),
            ("/authorize", "invalid_scope", false, Some(R::Authorization)),
            (
                "/browser/{place}/authorize",
                "access_denied",
                false,
                Some(R::Authorization),
            ),
            (
                "/browser/{place}/login",
                "access_denied",
                true,
                Some(R::Login),
            ),
            ("/login", "invalid_request", false, None),
            ("/consent", "access_denied", true, Some(R::Consent)),
            ("/register", "invalid_token", true, Some(R::Registration)),
            (
                "/register/{client_id}",
                "invalid_token",
                false,
                Some(R::Registration),
            ),
            ("/introspect", "invalid_client", true, Some(R::Caller)),
            ("/introspect", "invalid_token", true, Some(R::Caller)),
            (
                "/introspect",
                "invalid_request",
                true,
                Some(R::Introspection),
            ),
            (
                "/admin/v1/clients/{id}",
                "access_denied",
                false,
                Some(R::Caller),
            ),
            (
                "/admin/v1/clients/{id}",
                "invalid_token",
                false,
                Some(R::Caller),
            ),
            (
                "/admin/v1/clients/{id}",
                "conflict",
                true,
                Some(R::AdminChange),
            ),
            (
                "/admin/v1/clients/{id}",
                "temporarily_unavailable",
                false,
                None,
            ),
            ("/admin/v1/clients/{id}", "not_found", false, None),
            ("other", "invalid_token", false, Some(R::Caller)),
            ("other", "not_found", true, None),
            ("/jwks", "invalid_request", true, None),
        ] {
            let found = Request::of(route, error, changes);
            assert_eq!(found, expected, "{route} {error} {changes}");
        }
    }

    #[test]
    fn a_line_has_the_documented_fields() {
        let mut about = About::default();
        about.client("app");
        about.refused("invalid_grant", "expired");
        let origin = Origin {
            endpoint: "/token",
            address: "192.0.2.1".parse().unwrap(),
            user_agent: None,
            trace_id: None,
        };
        let line = Line {
            event: Event::Refused(Request::Token, Refusal::of(400)),
            about: &about,
            origin,
        };
        assert_eq!(
            serde_json::to_value(&line).unwrap(),
            serde_json::json!({
                "event": "token", "outcome": "refused", "client_id": "app", "error": "invalid_grant",
                "reason": "expired", "endpoint": "/token", "address": "192.0.2.1",
            })
        );
    }

    #[test]
    fn texts_from_outside_are_bounded() {
        let mut about = About::default();
        about.client(&"x".repeat(100_000));
        about.reason(&"y".repeat(100_000));
        assert!(serde_json::to_string(&about).unwrap().len() < 2 * MAX_TEXT + 100);
    }
}
