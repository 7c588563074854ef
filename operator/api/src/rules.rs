//! CEL rules made from the patterns of `mcpauth-wire`, so that the API server rejects exactly what the reader of
//! the value would reject.

use kube::core::Rule;
use mcpauth_wire::friction::{SHARE_LEAST, SHARE_MOST};
use mcpauth_wire::{issuer, origin, redirect_uri, resource_uri, scope, web_url};

/// A CEL expression that matches a value against a pattern.
fn matches(value: &str, pattern: &str) -> String {
    // A raw string with triple quotes, because patterns contain quotes and backslashes.
    format!("{value}.matches(r\"\"\"{pattern}\"\"\")")
}

fn each(rule: &str) -> String {
    format!("self.all(x, {rule})")
}

/// An `https` URL, or an `http` one on this machine.
pub(crate) fn secure(field: &str) -> Rule {
    let message =
        format!("{field} must be an https URL, or an http URL on localhost, 127.0.0.1 or [::1]");
    Rule::new(matches("self", web_url::SECURE_PATTERN)).message(message.as_str())
}

/// A share that is written as an integer. The API server compares it with the integer part of the schema's bounds.
pub(crate) fn share() -> Rule {
    Rule::new(format!("self >= {SHARE_LEAST:?}"))
        .message(format!("share must be from {SHARE_LEAST} to {SHARE_MOST}").as_str())
}

/// No `.` or `..` in the path.
pub(crate) fn no_dot_segments(field: &str) -> Rule {
    let message = format!("{field} must not contain . or .. as a path segment");
    let rule = format!("!{}", matches("self", web_url::DOT_SEGMENT_PATTERN));
    Rule::new(rule).message(message.as_str())
}

/// An issuer in normal form, because clients compare it byte for byte.
pub(crate) fn issuer_in_normal_form() -> Rule {
    Rule::new(matches("self", issuer::PATTERN)).message(
        "issuer must be in normal form: lowercase scheme and host, no user name, no port or one from 1 to 65535, no trailing slash, and only characters of RFC 3986 in the path, without * and braces",
    )
}

/// An issuer without the default port, which clients omit.
pub(crate) fn issuer_without_default_port() -> Rule {
    let rule = format!("!{}", matches("self", issuer::DEFAULT_PORT_PATTERN));
    Rule::new(rule).message("issuer must not include the default port (443 for https, 80 for http)")
}

/// A resource identifier.
pub(crate) fn resource() -> Rule {
    Rule::new(matches("self", resource_uri::PATTERN)).message(
        "resource must be a URL without user name, query or fragment, with no port or one from 1 to 65535, and only characters of RFC 3986 in the path",
    )
}

/// The resource identifiers among references.
pub(crate) fn resource_references() -> Rule {
    let uri = matches("x.uri", resource_uri::PATTERN);
    Rule::new(each(&format!("!has(x.uri) || {uri}"))).message(
        "resources: uri must be an https URL, or an http URL on localhost, 127.0.0.1 or [::1], without user name, query and fragment",
    )
}

/// No `.` or `..` in the paths of resource identifiers among references.
pub(crate) fn resource_references_without_dot_segments() -> Rule {
    let dots = matches("x.uri", web_url::DOT_SEGMENT_PATTERN);
    Rule::new(each(&format!("!has(x.uri) || !{dots}")))
        .message("resources: uri must not contain . or .. as a path segment")
}

/// No scope that is reserved for the authorization server.
pub(crate) fn scopes_not_reserved() -> Rule {
    let own = scope::OWN.map(|name| format!("'{name}'")).join(", ");
    let rule = each(&format!("!(x.name in [{own}])"));
    let message = format!(
        "scopes: {} are reserved for the authorization server; choose other names",
        scope::OWN.join(" and ")
    );
    Rule::new(rule).message(message.as_str())
}

/// Origins as browsers send them.
pub(crate) fn origins_without_default_port() -> Rule {
    let rule = each(&format!("!{}", matches("x", origin::DEFAULT_PORT_PATTERN)));
    Rule::new(rule).message(
        "allowedOrigins: omit the default port (443 for https, 80 for http), as browsers do",
    )
}

/// Schemes that may be listed in `allowedRedirectSchemes`.
pub(crate) fn private_schemes() -> Rule {
    let never = matches("x", redirect_uri::NOT_PRIVATE_PATTERN);
    Rule::new(each(&format!("!{never}"))).message(
        "allowedRedirectSchemes: http and https cannot be listed, and schemes that run code or read files are never allowed",
    )
}

/// Where redirect URIs may point.
pub(crate) fn redirect_uris() -> Rule {
    Rule::new(each(&matches("x", redirect_uri::WHERE_PATTERN))).message(
        "redirectUris: every entry must be an https URL, an http URL on localhost, 127.0.0.1 or [::1], or a URI with an application's own scheme",
    )
}

/// Redirect URIs whose schemes do not run code.
pub(crate) fn redirect_uri_schemes() -> Rule {
    let never = matches("x", redirect_uri::NEVER_PATTERN);
    Rule::new(each(&format!("!{never}")))
        .message("redirectUris: schemes that run code or read files are never allowed")
}

/// No trusted public client whose redirect URIs other programs can receive.
pub(crate) fn trusted_clients() -> Rule {
    let web = matches("x", redirect_uri::WEB_PATTERN);
    let local = matches("x", redirect_uri::LOCAL_PATTERN);
    let all_web = format!("!has(self.redirectUris) || self.redirectUris.all(x, {web} && !{local})");
    let rule = format!(
        "self.consent != 'Trusted' || self.tokenEndpointAuthMethod != 'none' || ({all_web})"
    );
    Rule::new(rule).message(
        "consent: Trusted is allowed for a public client (tokenEndpointAuthMethod: none) only if all redirectUris are https URLs of a website, because any program on the user's machine can receive the others",
    )
}

/// Redirect URIs without user name.
pub(crate) fn redirect_uris_without_user_info() -> Rule {
    let user_info = matches("x", redirect_uri::USER_INFO_PATTERN);
    Rule::new(each(&format!("!{user_info}")))
        .message("redirectUris: a user name or password is not allowed")
}
