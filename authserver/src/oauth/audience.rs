//! For which resource and with which scopes a token is issued (RFC 8707; RFC 6749, section 3.3).

use mcpauth_wire::scope::{OPENID_CONNECT as OPENID_CONNECT_SCOPES, OWN as OWN_SCOPES};
use mcpauth_wire::{ResourceUri, Scopes};

use crate::oauth::client::Client;
use crate::oauth::error::OAuthError;
use crate::oauth::params::Params;
use crate::oauth::resource::Resource;

/// The `resource` of a request. Some clients repeat it; a token is for one resource alone.
///
/// # Errors
/// `invalid_target` when it names two.
pub fn requested(params: &Params) -> Result<Option<&str>, OAuthError> {
    let mut values = params.all("resource");
    let Some(first) = values.next() else {
        return Ok(None);
    };
    let parsed = ResourceUri::parse(first).ok();
    let same =
        |other: &str| other == first || parsed.as_ref().is_some_and(|uri| uri.is_named_by(other));
    match values.all(same) {
        true => Ok(Some(first)),
        false => invalid_target(
            "resource names two resources; a token is for one, so send one request for each",
        ),
    }
}

/// The resource that a request is for: the one that it names, or else the only one that its client may
/// have.
///
/// # Errors
/// `invalid_target` when the resource is unknown or not for this client, or is left out and there is
/// not exactly one.
pub fn resource<'a>(
    requested: Option<&str>,
    client: &Client,
    resources: &'a [Resource],
) -> Result<&'a Resource, OAuthError> {
    let mut reachable = resources
        .iter()
        .filter(|resource| client.scopes_at(resource).is_some());
    let Some(requested) = requested else {
        return match (reachable.next(), reachable.next()) {
            (Some(only), None) => Ok(only),
            (None, _) => invalid_target(
                "this client may not use any registered resource; register a resource, or allow the client to use one",
            ),
            (Some(_), Some(_)) => invalid_target(
                "resource is missing; it is required because this client may use several resources",
            ),
        };
    };
    let Ok(requested) = ResourceUri::parse(requested) else {
        return invalid_target(
            "resource must be an absolute http or https URL without user name, query, fragment or dot segments",
        );
    };
    // Databases of older versions may hold two that are equal; then the spelling decides.
    let named: Vec<&Resource> = reachable
        .filter(|resource| resource.is_named_by(&requested))
        .collect();
    let exact = |resource: &&&Resource| resource.resource == requested.as_str();
    let found = named.iter().find(exact).or(named.first()).copied();
    found.map_or_else(
        || invalid_target("the resource is not registered here, or this client may not use it; check that its URL matches the registered one"),
        Ok,
    )
}

fn invalid_target<T>(description: &'static str) -> Result<T, OAuthError> {
    Err(OAuthError::InvalidTarget(description.into()))
}

/// The scopes that a request gets. Unknown ones are left out (RFC 6749, section 3.3; OpenID Connect Core, section 3.1.2.1),
/// as are those that the client may not have: many clients ask for everything that some metadata names. The answer's
/// `scope` says what was given.
///
/// # Errors
/// `invalid_scope` when it is malformed, or when nothing is left for the resource.
pub fn scopes(
    requested: Option<&str>,
    client: &Client,
    resource: &Resource,
) -> Result<Scopes, OAuthError> {
    let requested = Scopes::parse(requested.unwrap_or_default())
        .map_err(|error| OAuthError::InvalidScope(error.to_string().into()))?;
    let own = requested.intersection(&OWN_SCOPES.into_iter().collect());
    cut_down(&requested, &of_client(client, resource), &own, resource)
}

/// The scopes that a refresh gets: as [`scopes`], of those that were granted.
///
/// # Errors
/// `invalid_scope` when nothing is left for the resource: what the client may have may be less than when the user
/// consented.
pub fn refreshed(
    requested: Option<&Scopes>,
    granted: &Scopes,
    client: &Client,
    resource: &Resource,
) -> Result<Scopes, OAuthError> {
    let requested = requested.unwrap_or(granted);
    let own = granted.intersection(&OWN_SCOPES.into_iter().collect());
    let own = requested.intersection(&own);
    let available = granted.intersection(&of_client(client, resource));
    cut_down(requested, &available, &own, resource)
}

/// `own`, and what is requested of `available`; all of it if nothing is requested. The scopes of OpenID Connect ask for
/// nothing at a resource, unless it has a scope of that name.
fn cut_down(
    requested: &Scopes,
    available: &Scopes,
    own: &Scopes,
    resource: &Resource,
) -> Result<Scopes, OAuthError> {
    let known = resource.scope_names();
    let asks = |name: &str| !OPENID_CONNECT_SCOPES.contains(&name) || known.contains(name);
    let given = match requested.iter().any(asks) {
        true => requested.intersection(available),
        false => available.clone(),
    };
    // A token without scopes is not what was asked for, unless the resource has none.
    if given.is_empty() && !known.is_empty() {
        let text = "none of these scopes is known at this resource and allowed to the client; omit scope to get all scopes that the client is allowed";
        return Err(OAuthError::InvalidScope(text.into()));
    }
    Ok(given.iter().chain(own.iter()).collect())
}

/// The resource's scopes that the client may have.
fn of_client(client: &Client, resource: &Resource) -> Scopes {
    client.scopes_at(resource).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::admission::AllowedClients;
    use crate::oauth::client::{AllowedResource, ClientMetadata, ClientOrigin};
    use crate::oauth::resource::ResourceScope;

    const URI: &str = "https://a.example/mcp";

    fn resource_at(uri: &str) -> Resource {
        let scope = |name: &str, implies: &[&str]| ResourceScope {
            name: name.into(),
            description: String::new(),
            implies: implies.iter().map(ToString::to_string).collect(),
        };
        Resource {
            id: uri.into(),
            resource: uri.into(),
            name: uri.into(),
            scopes: vec![scope("read", &[]), scope("write", &["read"])],
            introspectors: vec![],
            allowed_clients: AllowedClients {
                namespaces: vec!["team".into(), "guest".into()],
                ..AllowedClients::default()
            },
        }
    }

    fn client_of(namespace: Option<&str>, uri: &str, scopes: &str) -> Client {
        Client {
            client_id: "client".into(),
            origin: ClientOrigin::Declared,
            metadata: ClientMetadata {
                namespace: namespace.map(str::to_owned),
                allowed_resources: vec![AllowedResource {
                    uri: uri.into(),
                    scopes: Scopes::parse(scopes).unwrap(),
                }],
                ..ClientMetadata::default()
            },
            secret_hash: None,
            registration_token: None,
        }
    }

    #[test]
    fn of_two_equal_resources_the_spelling_decides() {
        let resources = [URI, "https://a.example/mcp/"].map(resource_at);
        let client = client_of(Some("team"), URI, "read");
        for (requested, expected) in [
            (URI, URI),
            ("https://a.example/mcp/", "https://a.example/mcp/"),
            ("https://A.example/mcp/", URI),
        ] {
            let found = resource(Some(requested), &client, &resources).unwrap();
            assert_eq!(found.resource, expected, "{requested}");
        }
    }

    /// Both must say so: the resource's owner, by the client's namespace, and the client's, by the resource.
    #[test]
    fn a_client_gets_what_it_names_where_it_is_admitted() {
        let resources = [resource_at(URI)];
        let other_spelling = "HTTPS://A.example:443/mcp/";
        let may = |client: &Client| {
            let found = resource(Some(URI), client, &resources).ok()?;
            scopes(None, client, found).ok()
        };
        let both = || Scopes::parse("read write").ok();
        for (namespace, uri, asked, given) in [
            (Some("team"), URI, "write", both()),
            (Some("guest"), other_spelling, "read write", both()),
            (Some("team"), URI, "read other", Scopes::parse("read").ok()),
            // No scopes: none.
            (Some("team"), URI, "", None),
            (Some("team"), URI, "other", None),
            (Some("team"), "https://b.example/mcp", "read", None),
            (Some("intruder"), URI, "read", None),
            (Some("intruder"), other_spelling, "read", None),
            (Some("Team"), URI, "read", None),
            (Some(""), URI, "read", None),
            (None, URI, "read", None),
        ] {
            let client = client_of(namespace, uri, asked);
            assert_eq!(may(&client), given, "{namespace:?} {uri} {asked}");
        }
        let mut nothing = client_of(Some("team"), URI, "read");
        nothing.metadata.allowed_resources.clear();
        assert_eq!(may(&nothing), None);
    }

    #[test]
    fn a_client_that_registered_itself_gets_everything_where_that_is_allowed() {
        let mut client = client_of(Some("team"), URI, "read");
        client.origin = ClientOrigin::Dynamic;
        let mut open = resource_at(URI);
        assert_eq!(client.scopes_at(&open), None);
        open.allowed_clients.all_namespaces = true;
        assert_eq!(client.scopes_at(&open), None);
        open.allowed_clients.self_registered = true;
        assert_eq!(client.scopes_at(&open), Some(open.scope_names()));

        let declared = client_of(None, URI, "read");
        assert!(declared.scopes_at(&open).is_some(), "from everywhere");
    }

    #[test]
    fn what_is_unknown_is_left_out_and_openid_connect_asks_for_nothing_here() {
        let resource = resource_at(URI);
        let may = |allowed: &str, requested: &str| {
            let client = client_of(Some("team"), URI, allowed);
            let scopes = scopes(Some(requested), &client, &resource);
            scopes.map_or_else(|error| error.code().to_owned(), |scopes| scopes.to_string())
        };
        for (allowed, requested, given) in [
            ("write", "", "read write"),
            ("write", "read nonsense", "read"),
            ("read", "read write", "read"),
            ("read", "write", "invalid_scope"),
            ("read", "nonsense", "invalid_scope"),
            ("read", "openid nonsense", "invalid_scope"),
            ("read", "a\"b", "invalid_scope"),
            ("", "", "invalid_scope"),
            ("", "openid", "invalid_scope"),
            ("write", "openid email profile", "openid read write"),
            (
                "write",
                "openid offline_access",
                "offline_access openid read write",
            ),
            ("write", "phone address groups", "read write"),
            ("write", "openid read", "openid read"),
        ] {
            assert_eq!(may(allowed, requested), given, "{allowed:?}: {requested:?}");
        }
        // A scope of the resource is one, whatever it is called.
        let mut with_email = resource_at(URI);
        with_email.scopes[0].name = "email".into();
        let client = client_of(Some("team"), URI, "email write");
        let given = scopes(Some("openid email"), &client, &with_email).unwrap();
        assert_eq!(given.to_string(), "email openid");
    }

    #[test]
    fn a_refresh_is_cut_down_to_what_was_granted() {
        let resource = resource_at(URI);
        let may = |allowed: &str, granted: &str, requested: Option<&str>| {
            let client = client_of(Some("team"), URI, allowed);
            let parse = |text: &str| Scopes::parse(text).unwrap();
            let requested = requested.map(parse);
            let scopes = refreshed(requested.as_ref(), &parse(granted), &client, &resource);
            scopes.map_or_else(|error| error.code().to_owned(), |scopes| scopes.to_string())
        };
        for (allowed, granted, requested, given) in [
            ("write", "openid read", None, "openid read"),
            ("write", "openid read", Some("read"), "read"),
            ("write", "read", Some("read write openid"), "read"),
            ("write", "read", Some("write"), "invalid_scope"),
            ("read", "read write", None, "read"),
            ("read", "write", None, "invalid_scope"),
            (
                "write",
                "openid read",
                Some("openid email profile"),
                "openid read",
            ),
            ("write", "offline_access read", Some("openid"), "read"),
        ] {
            assert_eq!(
                may(allowed, granted, requested),
                given,
                "{granted}: {requested:?}"
            );
        }
    }
}
