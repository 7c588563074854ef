//! Steps one to four: from a URL to a token.

use anyhow::{Context, bail, ensure};
use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use mcp_auth_operator::random;
use reqwest::{Client, StatusCode, header};
use serde_json::{Value, json};
use url::Url;

use super::{Target, http};
use crate::{
    config::layout::WALKER_REDIRECT,
    local::screen::{Screen, shorten},
};

/// The contents of the two metadata documents.
pub struct Metadata {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    registration_endpoint: Option<String>,
    scope: String,
}

/// An authorization code, and its PKCE verifier.
pub struct Code {
    code: String,
    verifier: String,
}

/// Steps one and two.
pub async fn discover(http: &Client, target: &Target, screen: &Screen) -> anyhow::Result<Metadata> {
    screen.step(
        1,
        "Connect without a token: the 401 points to the resource metadata (RFC 9728)",
    );
    screen.sent(&format!("POST {}", target.resource));
    let ping = json!({ "jsonrpc": "2.0", "id": 0, "method": "ping" });
    let response = http
        .post(&target.resource)
        .header(header::ACCEPT, "application/json, text/event-stream")
        .json(&ping)
        .send()
        .await?;
    let status = response.status();
    ensure!(
        status == StatusCode::UNAUTHORIZED,
        "step 1: {} returned {status} to a request without a token, expected 401",
        target.resource
    );
    let challenge = response
        .headers()
        .get(header::WWW_AUTHENTICATE)
        .and_then(|value| value.to_str().ok())
        .context("step 1: the 401 response has no WWW-Authenticate header")?;
    let url = parameter(challenge, "resource_metadata")
        .context("step 1: the WWW-Authenticate header has no resource_metadata parameter")?
        .to_owned();
    screen.got("401 WWW-Authenticate: Bearer resource_metadata=…");
    screen.sent(&format!("GET {url}"));
    let resource = http::get_json(http, &url).await.context("step 1")?;

    screen.step(2, "The resource metadata names the authorization server");
    let issuer = resource["authorization_servers"][0]
        .as_str()
        .context("step 2: the resource metadata lists no authorization_servers")?;
    ensure!(
        resource["resource"] == *target.resource,
        "step 2: the metadata describes a different resource: {resource}"
    );
    let scopes: Vec<&str> = resource["scopes_supported"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    screen.got(&format!(
        "200 resource={} authorization_servers=[{issuer}] scopes=[{}]",
        target.resource,
        scopes.join(" ")
    ));
    let url = well_known(issuer)?;
    screen.sent(&format!("GET {url}"));
    let server = http::get_json(http, &url).await.context("step 2")?;
    ensure!(
        server["issuer"] == *issuer,
        "step 2: the metadata describes a different issuer: {server}"
    );
    let path =
        |member| http::text(&server, member).map(|url| url.strip_prefix(issuer).unwrap_or(url));
    screen.got(&format!(
        "200 authorization_endpoint={} token_endpoint={}",
        path("authorization_endpoint")?,
        path("token_endpoint")?
    ));
    Ok(Metadata {
        issuer: issuer.to_owned(),
        authorization_endpoint: http::text(&server, "authorization_endpoint")?.to_owned(),
        token_endpoint: http::text(&server, "token_endpoint")?.to_owned(),
        registration_endpoint: server["registration_endpoint"].as_str().map(str::to_owned),
        scope: scopes.join(" "),
    })
}

/// The value of a parameter of a `WWW-Authenticate` header.
fn parameter<'a>(challenge: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = challenge.split_once(&format!("{name}=\""))?;
    Some(rest.split_once('"')?.0)
}

/// The URL of an issuer's metadata (RFC 8414 section 3.1): the well-known path goes between its host and its path.
fn well_known(issuer: &str) -> anyhow::Result<String> {
    let mut url = Url::parse(issuer).with_context(|| format!("step 2: {issuer} is not a URL"))?;
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&format!("/.well-known/oauth-authorization-server{path}"));
    Ok(url.into())
}

/// Before step three: registers the client (RFC 7591), or uses the configured one.
pub async fn client_id(
    http: &Client,
    target: &Target,
    metadata: &Metadata,
    screen: &Screen,
) -> anyhow::Result<String> {
    screen.step(
        3,
        "Request authorization for this resource (RFC 8707), with PKCE (RFC 7636)",
    );
    if let Some(id) = &target.client_id {
        return Ok(id.clone());
    }
    let endpoint = metadata
        .registration_endpoint
        .as_deref()
        .context("step 3: the authorization server's metadata has no registration_endpoint")?;
    let client = json!({
        "client_name": "kubectl mcpauth local",
        "redirect_uris": [WALKER_REDIRECT],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
    });
    screen.sent(&format!(
        "POST {endpoint}  (dynamic client registration, RFC 7591)"
    ));
    let response = http.post(endpoint).json(&client).send().await?;
    let registered = http::json(response, StatusCode::CREATED)
        .await
        .context("step 3: client registration")?;
    let id = http::text(&registered, "client_id")?;
    screen.got(&format!("201 client_id={}", shorten(id)));
    Ok(id.to_owned())
}

/// Step three.
pub async fn authorize(
    http: &Client,
    target: &Target,
    metadata: &Metadata,
    client_id: &str,
    screen: &Screen,
) -> anyhow::Result<Code> {
    let verifier = random::secret()?;
    let challenge = BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()));
    let state = random::secret()?;
    let url = Url::parse_with_params(
        &metadata.authorization_endpoint,
        [
            ("response_type", "code"),
            ("client_id", client_id),
            ("redirect_uri", WALKER_REDIRECT),
            ("scope", &metadata.scope),
            ("state", &state),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
            ("resource", &target.resource),
        ],
    )
    .context("step 3: authorization_endpoint is not a URL")?;
    screen.sent(&format!("GET {}", metadata.authorization_endpoint));
    screen.note(&format!(
        "scope={} resource={} code_challenge={} (S256)",
        metadata.scope,
        target.resource,
        shorten(&challenge)
    ));
    let response = http.get(url).send().await?;
    let status = response.status();
    let Some(location) = response
        .headers()
        .get(header::LOCATION)
        .and_then(|l| l.to_str().ok())
    else {
        bail!(
            "step 3: the authorization endpoint returned {status} instead of a redirect: {}",
            response.text().await?
        );
    };
    let location = Url::parse(location).context("step 3: the Location header is not a URL")?;
    let answer = |name: &str| {
        location
            .query_pairs()
            .find(|(key, _)| key == name)
            .map(|(_, v)| v.into_owned())
    };
    if let Some(error) = answer("error") {
        bail!(
            "step 3: {error}: {}",
            answer("error_description").unwrap_or_default()
        );
    }
    ensure!(
        location.as_str().starts_with(WALKER_REDIRECT),
        "step 3: the redirect goes to {location}, expected {WALKER_REDIRECT}"
    );
    ensure!(
        answer("state").as_deref() == Some(&state),
        "step 3: the state in the redirect does not match the request"
    );
    ensure!(
        answer("iss").as_deref() == Some(&metadata.issuer),
        "step 3: iss in the redirect does not match the issuer (RFC 9207)"
    );
    let code = answer("code").context("step 3: the redirect has no code")?;
    screen.got(&format!(
        "{} {WALKER_REDIRECT}?code={}&iss={}",
        status.as_u16(),
        shorten(&code),
        metadata.issuer
    ));
    Ok(Code { code, verifier })
}

/// Step four. Returns the access token.
pub async fn exchange(
    http: &Client,
    target: &Target,
    metadata: &Metadata,
    client_id: &str,
    code: &Code,
    screen: &Screen,
) -> anyhow::Result<String> {
    screen.step(4, "Exchange the code for an access token");
    screen.sent(&format!("POST {}", metadata.token_endpoint));
    screen.note(&format!(
        "grant_type=authorization_code code={} code_verifier={}",
        shorten(&code.code),
        shorten(&code.verifier)
    ));
    let response = http
        .post(&metadata.token_endpoint)
        .form(&[
            ("grant_type", "authorization_code"),
            ("code", &code.code),
            ("redirect_uri", WALKER_REDIRECT),
            ("client_id", client_id),
            ("code_verifier", &code.verifier),
            ("resource", &target.resource),
        ])
        .send()
        .await?;
    let answer = http::json(response, StatusCode::OK)
        .await
        .context("step 4")?;
    let token = http::text(&answer, "access_token").context("step 4")?;
    screen.got(&format!(
        "200 access_token={} expires_in={} scope={}",
        shorten(token),
        answer["expires_in"],
        answer["scope"].as_str().unwrap_or(&metadata.scope)
    ));
    Ok(token.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_of_a_challenge_is_found() {
        let challenge = r#"Bearer resource_metadata="http://x/y", scope="a b""#;
        assert_eq!(
            parameter(challenge, "resource_metadata"),
            Some("http://x/y")
        );
        assert_eq!(parameter(challenge, "scope"), Some("a b"));
        assert_eq!(parameter(challenge, "error"), None);
    }

    #[test]
    fn the_metadata_of_an_issuer_with_a_path_is_between_host_and_path() {
        let of = |issuer| well_known(issuer).unwrap();
        assert_eq!(
            of("http://localhost:9000"),
            "http://localhost:9000/.well-known/oauth-authorization-server"
        );
        assert_eq!(
            of("http://localhost/t"),
            "http://localhost/.well-known/oauth-authorization-server/t"
        );
    }
}
