//! For which resource and with which scopes a token is issued (RFC 8707; RFC 6749, section 3.3).

use mcpauth_wire::scope::OWN as OWN_SCOPES;
use mcpauth_wire::{ResourceUri, Scopes};

use crate::oauth::client::Client;
use crate::oauth::error::OAuthError;
use crate::oauth::resource::Resource;

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

/// The scopes that a request gets: those that it asks for, as far as the resource has them and the
/// client may have them; all of these when it asks for none.
///
/// Many clients ask for everything that the metadata names, for all resources together. So what another
/// resource has is left out and not refused; the answer's `scope` says what was given.
///
/// # Errors
/// `invalid_scope` when a scope is unknown everywhere, or when nothing is left.
pub fn scopes(
    requested: Option<&str>,
    client: &Client,
    resource: &Resource,
    resources: &[Resource],
) -> Result<Scopes, OAuthError> {
    let requested = Scopes::parse(requested.unwrap_or_default())
        .map_err(|error| OAuthError::InvalidScope(error.to_string().into()))?;
    if requested.is_empty() {
        return some_of(of_client(client, resource), resource);
    }
    let unknown = requested.iter().find(|name| {
        let known = |resource: &Resource| resource.scopes.iter().any(|scope| scope.name == *name);
        !OWN_SCOPES.contains(name) && !resources.iter().any(known)
    });
    if let Some(name) = unknown {
        let text = format!(
            "the scope {} is unknown; scopes_supported in the metadata lists the valid scopes",
            mcpauth_wire::invalid::printable(name)
        );
        return Err(OAuthError::InvalidScope(text.into()));
    }
    allowed(&requested, client, resource)
}

/// What of these scopes the client may have at the resource.
///
/// # Errors
/// `invalid_scope` when nothing is left.
pub fn allowed(
    requested: &Scopes,
    client: &Client,
    resource: &Resource,
) -> Result<Scopes, OAuthError> {
    let own: Scopes = OWN_SCOPES.into_iter().collect();
    let of_resource = requested.intersection(&of_client(client, resource));
    if !requested.is_subset(&own) {
        some_of(of_resource.clone(), resource)?;
    }
    let of_server = requested.intersection(&own);
    Ok(of_resource.iter().chain(of_server.iter()).collect())
}

/// These scopes, unless there are none where the resource has some: a token without scopes is not what was asked
/// for.
fn some_of(scopes: Scopes, resource: &Resource) -> Result<Scopes, OAuthError> {
    if scopes.is_empty() && !resource.scopes.is_empty() {
        let text = "the client is not allowed any of these scopes at this resource; omit scope to get all scopes that it is allowed";
        return Err(OAuthError::InvalidScope(text.into()));
    }
    Ok(scopes)
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
            scopes(None, client, found, &resources).ok()
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
}
