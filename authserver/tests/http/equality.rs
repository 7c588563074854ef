//! Every line of `docs/reference/equality.md`.

use std::collections::BTreeSet;

use http::{Method, header};
use mcp_authserver::keys::signing_key::SigningKey;
use mcpauth_wire::Issuer;
use mcpauth_wire::authserver_config::SigningAlgorithm;
use serde_json::{Value, json};

use crate::assertion;
use crate::browser::{Browser, ticket};
use crate::server::{Answer, MAIL, TestServer, VERIFIER, authorize_path, text};

const PAGE: &str = include_str!("../../../docs/reference/equality.md");
const NOTES: &str = "https://notes.example/mcp";
const CALLBACK: &str = "https://app.example/callback";

/// The cells of a section's table, without the head. What stands in parentheses is nothing.
fn table<const COLUMNS: usize>(section: &str) -> Vec<[&'static str; COLUMNS]> {
    let (_, rest) = PAGE
        .split_once(&format!("\n## {section}\n"))
        .unwrap_or_else(|| panic!("no section {section}"));
    let section = rest.split("\n## ").next().unwrap();
    let lines = section.lines().filter(|line| line.starts_with('|')).skip(2);
    let rows: Vec<_> = lines.map(cells).collect();
    assert!(rows.len() > 4, "{section}");
    rows
}

fn cells<const COLUMNS: usize>(line: &'static str) -> [&'static str; COLUMNS] {
    let cells = line.trim_matches('|').split('|').map(str::trim);
    let cells = cells.map(|cell| match cell.starts_with('(') {
        true => "",
        false => cell
            .strip_prefix('`')
            .and_then(|cell| cell.strip_suffix('`'))
            .unwrap_or(cell),
    });
    let cells: Vec<_> = cells.collect();
    cells.try_into().unwrap_or_else(|_| panic!("{line}"))
}

/// The server of the page, and a browser in which a user has signed in.
async fn server() -> (TestServer, Browser) {
    let server = TestServer::with_users().await;
    let browser = Browser::of(&server, "alice").await;
    let path = "/admin/v1/resources/notes";
    let mut resource = server.admin(Method::GET, path, &json!(null)).await.ok();
    resource["resource"] = NOTES.into();
    server.admin(Method::PUT, path, &resource).await.ok();
    put_client(&server, &["notes:write"], CALLBACK).await;
    (server, browser)
}

async fn put_client(server: &TestServer, scopes: &[&str], redirect_uri: &str) {
    let client = json!({
        "redirectUris": [redirect_uri],
        "resources": [{ "uri": NOTES, "scopes": scopes }, { "uri": MAIL, "scopes": ["mail:send"] }],
    });
    server.put_client("app", client).await;
}

/// What comes of an authorization request to which a user consents: a code, or whatever comes before.
async fn consent(server: &TestServer, browser: &mut Browser, path: &str) -> Answer {
    let page = browser.get(server, path).await;
    if page.status != 200 {
        return page;
    }
    browser.decide(server, &ticket(&page), "allow").await
}

fn path(changes: &[(&str, &str)]) -> String {
    let usual = [("resource", NOTES), ("redirect_uri", CALLBACK)];
    let kept = usual
        .iter()
        .filter(|(name, _)| changes.iter().all(|(other, _)| other != name));
    authorize_path(&kept.chain(changes).copied().collect::<Vec<_>>())
}

/// The word of the tables for an answer.
fn outcome(answer: &Answer) -> String {
    if answer.status == 400 && !answer.headers.contains_key(header::LOCATION) {
        return "page".into();
    }
    let error = answer.location_param("error");
    match (error, answer.location_param("state")) {
        (Some(error), Some(_)) => error,
        (Some(error), None) => format!("{error}` without `state"),
        (None, _) => answer.location_param("code").map_or_else(
            || panic!("neither code nor error: {answer:?}"),
            |_| "accepted".into(),
        ),
    }
}

async fn redeem(server: &TestServer, answer: &Answer) -> Value {
    let code = answer.location_param("code").unwrap();
    server.redeem(&code).await.ok()
}

#[tokio::test]
async fn resources() {
    let (server, mut browser) = server().await;
    for [requested, expected] in table("Resources") {
        let answer = consent(&server, &mut browser, &path(&[("resource", requested)])).await;
        if expected != "the resource" {
            assert_eq!(outcome(&answer), expected, "{requested}");
            continue;
        }
        let form = [
            ("grant_type", "authorization_code"),
            ("client_id", "app"),
            ("code", &answer.location_param("code").unwrap()),
            ("code_verifier", VERIFIER),
            ("resource", requested),
        ];
        let tokens = server.token(&form).await.ok();
        let token = text(&tokens["access_token"]);
        let answer = server.introspect_as("notes-proxy", &token).await.ok();
        assert_eq!(answer["aud"], NOTES, "{requested}");
        // A second one that is equal would take over its tokens.
        let other = json!({ "resource": requested, "name": "other" });
        let answer = server
            .admin(Method::PUT, "/admin/v1/resources/other", &other)
            .await;
        answer.is_error(409, "conflict");
    }
}

#[tokio::test]
async fn repeated_parameters() {
    let (server, mut browser) = server().await;
    for [repeated, expected] in table("Repeated parameters") {
        let path = format!("{}&{repeated}", path(&[]));
        let answer = consent(&server, &mut browser, &path).await;
        assert_eq!(outcome(&answer), expected, "{repeated}");
    }
}

/// As the page says of the other endpoints.
#[tokio::test]
async fn repeated_parameters_in_forms() {
    let (server, _) = server().await;
    for endpoint in ["/token", "/revoke"] {
        for (repeated, code) in [
            ("grant_type=x&grant_type=x", "invalid_request"),
            ("client_id=app&client_id=app", "invalid_request"),
            ("other=1&other=1", "invalid_request"),
        ] {
            let request = server
                .public(Method::POST, endpoint)
                .header(header::CONTENT_TYPE, crate::server::FORM);
            let answer = server.send(request.body(repeated.into()).unwrap()).await;
            answer.is_error(400, code);
        }
    }
    let tokens = async |resources: [&str; 2]| {
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", "app"),
            ("refresh_token", "mrt_x"),
            ("resource", resources[0]),
            ("resource", resources[1]),
        ];
        server.token(&form).await
    };
    tokens([NOTES, MAIL]).await.is_error(400, "invalid_target");
    tokens([NOTES, NOTES]).await.is_error(400, "invalid_grant");
}

#[tokio::test]
async fn scopes() {
    let (server, mut browser) = server().await;
    for [allowed, requested, expected] in table("Scopes") {
        let allowed: Vec<&str> = allowed.split_whitespace().collect();
        put_client(&server, &allowed, CALLBACK).await;
        let answer = consent(&server, &mut browser, &path(&[("scope", requested)])).await;
        let found = match answer.location_param("code") {
            Some(_) => text(&redeem(&server, &answer).await["scope"]),
            None => outcome(&answer),
        };
        assert_eq!(found, expected, "{allowed:?}: {requested}");
    }
}

#[tokio::test]
async fn scopes_of_a_refresh() {
    let (server, mut browser) = server().await;
    for [granted, requested, expected] in table("Scopes of a refresh") {
        let answer = consent(&server, &mut browser, &path(&[("scope", granted)])).await;
        let tokens = redeem(&server, &answer).await;
        assert_eq!(tokens["scope"], granted);
        let refresh = text(&tokens["refresh_token"]);
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", "app"),
            ("refresh_token", refresh.as_str()),
            ("scope", requested),
        ];
        let answer = server.token(&form).await.json();
        let found = answer.get("scope").unwrap_or(&answer["error"]);
        assert_eq!(found, expected, "{granted}: {requested}");
    }
}

#[tokio::test]
async fn redirect_uris() {
    let (server, mut browser) = server().await;
    for [registered, requested, expected] in table("Redirect URIs") {
        put_client(&server, &["notes:write"], registered).await;
        let path = path(&[("redirect_uri", requested)]);
        let answer = consent(&server, &mut browser, &path).await;
        assert_eq!(outcome(&answer), expected, "{registered}: {requested}");
        let goes_to = if requested.is_empty() {
            registered
        } else {
            requested
        };
        let location = answer.header(header::LOCATION);
        assert!(
            expected == "page" || location.starts_with(goes_to),
            "{location}"
        );
    }
}

#[tokio::test]
async fn issuers() {
    for [issuer, expected] in table("Issuers") {
        let found = match Issuer::parse(issuer) {
            Ok(parsed) if parsed.as_str() == issuer => "valid",
            Ok(parsed) => panic!("{issuer} became {parsed}"),
            Err(_) => "invalid",
        };
        assert_eq!(found, expected, "{issuer}");
    }
}

#[tokio::test]
async fn audiences_of_client_assertions() {
    let key = SigningKey::generate(SigningAlgorithm::Es256).unwrap();
    let server = TestServer::with_users().await;
    let client = |audience: &str| {
        json!({
            "tokenEndpointAuthMethod": "private_key_jwt", "jwks": { "keys": [key.public_jwk()] },
            "assertionAudience": audience, "grantTypes": ["client_credentials"], "redirectUris": [],
            "resources": [crate::server::notes(&["notes:read"])],
        })
    };
    for (at, [aud, issuer, old]) in table("Audiences of client assertions")
        .into_iter()
        .enumerate()
    {
        for (audience, expected) in [("issuer", issuer), ("token_endpoint", old)] {
            server.put_client("signer", client(audience)).await;
            let mut claims = assertion::claims(&server);
            claims["aud"] = serde_json::from_str(aud).unwrap();
            claims["jti"] = format!("{at} {audience}").into();
            let answer = assertion::present(&server, &assertion::signed(&key, &claims)).await;
            let found = match answer.status.as_u16() {
                200 => "accepted".to_owned(),
                _ => text(&answer.json()["error"]),
            };
            assert_eq!(found, expected, "{aud} {audience}");
        }
    }
}

#[test]
fn each_client_in_the_field_has_its_test() {
    let tests = include_str!("real_clients.rs");
    for [client, _, _, test] in table("Clients in the field") {
        assert!(
            tests.contains(&format!("async fn {test}()")),
            "{client}: {test}"
        );
    }
}

#[test]
fn the_scopes_of_openid_connect_are_those_on_the_page() {
    let (_, after) = PAGE.split_once("(`openid ").unwrap();
    let listed = after.split('`').next().unwrap().split_whitespace();
    let listed: BTreeSet<&str> = listed.chain(["openid"]).collect();
    assert_eq!(
        listed,
        mcpauth_wire::scope::OPENID_CONNECT.into_iter().collect()
    );
}
