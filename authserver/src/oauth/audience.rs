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
    let allowed = &client.metadata.resources;
    let allowed: Vec<ResourceUri> = allowed
        .iter()
        .filter_map(|uri| ResourceUri::parse(uri).ok())
        .collect();
    let mut reachable = resources.iter().filter(|resource| {
        client.metadata.resources.is_empty() || allowed.iter().any(|uri| resource.is_named_by(uri))
    });
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
        return Ok(of_client(client, resource));
    }
    let unknown = requested.iter().find(|name| {
        let known = |resource: &Resource| resource.scopes.iter().any(|scope| scope.name == *name);
        !OWN_SCOPES.contains(name) && !resources.iter().any(known)
    });
    if let Some(name) = unknown {
        let text = format!(
            "the scope {} is unknown; see scopes_supported in the metadata for those that exist",
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
    if of_resource.is_empty() && !resource.scopes.is_empty() && !requested.is_subset(&own) {
        let text = "the client is not allowed any of these scopes at this resource; omit scope to get those that it is allowed";
        return Err(OAuthError::InvalidScope(text.into()));
    }
    let of_server = requested.intersection(&own);
    Ok(of_resource.iter().chain(of_server.iter()).collect())
}

/// The resource's scopes that the client may have.
fn of_client(client: &Client, resource: &Resource) -> Scopes {
    match &client.metadata.scopes {
        any if any.is_empty() => resource.scope_names(),
        some => resource
            .with_implied(some)
            .intersection(&resource.scope_names()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::client::{ClientMetadata, ClientOrigin};

    #[test]
    fn of_two_equal_resources_the_spelling_decides() {
        let resources = ["https://a.example/mcp", "https://a.example/mcp/"].map(|uri| Resource {
            id: uri.into(),
            resource: uri.into(),
            name: uri.into(),
            scopes: vec![],
            introspectors: vec![],
        });
        let client = Client {
            client_id: "client".into(),
            origin: ClientOrigin::Declared,
            metadata: ClientMetadata::default(),
            secret_hash: None,
        };
        for (requested, expected) in [
            ("https://a.example/mcp", "https://a.example/mcp"),
            ("https://a.example/mcp/", "https://a.example/mcp/"),
            ("https://A.example/mcp/", "https://a.example/mcp"),
        ] {
            let found = resource(Some(requested), &client, &resources).unwrap();
            assert_eq!(found.resource, expected, "{requested}");
        }
    }
}
