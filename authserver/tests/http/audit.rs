//! The audit: each thing that happens is one line, with who, what, where and what came of it.

use std::time::Duration;

use http::{Method, StatusCode, header};
use mcpauth_service::audit::budget;
use serde_json::{Value, json};

use crate::browser::{Browser, ticket};
use crate::server::{
    Answer, FORM, INITIAL_ACCESS_TOKEN, LOOPBACK, MAIL, NOTES, PASSWORD, REMOTE, SECRET, Setup,
    TRACE, TestServer, USER_AGENT, authorize_path, basic, notes, query, text,
};

/// Fields that every line has: the same in all tests, so they are checked and taken out.
fn without_origin(mut line: Value) -> Value {
    let fields = line.as_object_mut().unwrap();
    let mut take = |name: &str| {
        fields
            .remove(name)
            .unwrap_or_else(|| panic!("{name}: {fields:?}"))
    };
    assert_eq!(take("address"), "127.0.0.1");
    assert_eq!(take("user_agent"), USER_AGENT);
    assert_eq!(take("trace_id"), TRACE);
    assert!(text(&take("time")).starts_with("2027-01-15T"));
    line
}

/// The lines since the last call.
fn lines(server: &TestServer) -> Vec<Value> {
    server.audited().into_iter().map(without_origin).collect()
}

/// The only line since the last call.
fn line(server: &TestServer) -> Value {
    let mut lines = lines(server);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    lines.remove(0)
}

/// The same, without its reason, in which these words must be.
fn refusal(server: &TestServer, reason: &str) -> Value {
    let mut line = line(server);
    let found = line.as_object_mut().unwrap().remove("reason");
    let found = text(&found.unwrap_or_else(|| panic!("{line}")));
    assert!(found.contains(reason), "{found}");
    line
}

const APP: [(&str, &str); 1] = [("client_id", "app")];

async fn sent(server: &TestServer, method: Method, path: &str, body: &Value) -> Answer {
    let request = server.public(method, path);
    server
        .send(request.body(body.to_string().into()).unwrap())
        .await
}

#[tokio::test]
async fn a_login_is_a_line_whatever_comes_of_it() {
    let server = TestServer::with(Setup {
        issuer: "https://auth.example",
        local_users: true,
        more: "rateLimit: { loginFailuresPerMinute: 2 }",
        ..Setup::default()
    })
    .await;
    let mut browser = Browser::default();
    let page = browser.get(&server, &authorize_path(&[])).await;
    assert_eq!(lines(&server), [] as [Value; 0], "a page is no event");
    let of = |outcome: &str| {
        json!({
            "event": "login", "outcome": outcome, "endpoint": "/login", "client_id": "app",
            "resource": NOTES,
        })
    };
    let alice = |outcome: &str| {
        let mut line = of(outcome);
        line["subject"] = "alice".into();
        line
    };
    browser
        .log_in(&server, &page, "alice", "wrong-password")
        .await;
    assert_eq!(line(&server), alice("refused"));
    // Some type their password here, so a name that nobody has is not written.
    browser
        .log_in(&server, &page, "hunter2", "wrong-password")
        .await;
    assert_eq!(refusal(&server, "no user has this name"), of("refused"));
    browser.log_in(&server, &page, "alice", PASSWORD).await;
    assert_eq!(line(&server), alice("accepted"));
    let mut other = Browser::default();
    let page = other.get(&server, &authorize_path(&[])).await;
    other
        .log_in(&server, &page, "alice", "wrong-password")
        .await;
    assert_eq!(line(&server), alice("limited"));

    // A form that is not ours.
    let form = [
        ("ticket", "x"),
        ("username", "alice"),
        ("password", PASSWORD),
    ];
    other.post(&server, "/login", &form).await;
    let expected = json!({
        "event": "login", "outcome": "refused", "endpoint": "/login", "error": "invalid_request",
    });
    assert_eq!(refusal(&server, "is not one of this server's"), expected);
    other.get(&server, "/login").await;
    assert_eq!(lines(&server), [] as [Value; 0]);
}

#[tokio::test]
async fn a_family_of_tokens_can_be_followed_from_consent_to_its_end() {
    let server = TestServer::with_users().await;
    let mut browser = Browser::of(&server, "alice").await;
    lines(&server);
    let of = |event: &str, outcome: &str, endpoint: &str| {
        json!({
            "event": event, "outcome": outcome, "endpoint": endpoint, "subject": "alice",
            "client_id": "app", "resource": NOTES, "scopes": ["notes:read"],
        })
    };
    let page = browser.get(&server, &authorize_path(&[])).await;
    let denied = browser.decide(&server, &ticket(&page), "deny").await;
    assert_eq!(denied.status, 303);
    assert_eq!(line(&server), of("consent", "denied", "/consent"));

    let page = browser.get(&server, &authorize_path(&[])).await;
    let allowed = browser.decide(&server, &ticket(&page), "allow").await;
    let code = allowed.location_param("code").unwrap();
    let given = lines(&server);
    let grant = given[0]["grant"].clone();
    assert_eq!(text(&grant).len(), 32);
    let of = |event: &str, outcome: &str, endpoint: &str| {
        let mut line = of(event, outcome, endpoint);
        line["grant"] = grant.clone();
        line
    };
    let expected = ["consent", "code"].map(|event| {
        let outcome = if event == "consent" {
            "given"
        } else {
            "issued"
        };
        of(event, outcome, "/consent")
    });
    assert_eq!(given, expected);

    let at_token = |event: &str, outcome: &str, grant_type: &str| {
        let mut line = of(event, outcome, "/token");
        line["grant_type"] = grant_type.into();
        line
    };
    let first = server.redeem(&code).await.ok();
    assert_eq!(
        line(&server),
        at_token("token", "issued", "authorization_code")
    );
    let second = server.refresh(&text(&first["refresh_token"])).await.ok();
    assert_eq!(
        line(&server),
        at_token("refresh", "rotation", "refresh_token")
    );
    server.refresh(&text(&first["refresh_token"])).await.ok();
    assert_eq!(
        line(&server),
        at_token("refresh", "sibling", "refresh_token")
    );
    server.clock.advance(Duration::from_secs(61));
    server.refresh(&text(&first["refresh_token"])).await.ok();
    assert_eq!(
        line(&server),
        at_token("refresh", "lost_response", "refresh_token")
    );
    let voided = server.refresh(&text(&second["refresh_token"])).await;
    voided.is_error(400, "invalid_grant");
    assert_eq!(line(&server), at_token("refresh", "reuse", "refresh_token"));
    let gone = server.refresh(&text(&second["refresh_token"])).await;
    gone.is_error(400, "invalid_grant");
    let expected = json!({
        "event": "token", "outcome": "refused", "endpoint": "/token", "client_id": "app",
        "grant_type": "refresh_token", "error": "invalid_grant",
    });
    assert_eq!(refusal(&server, "unknown, expired or revoked"), expected);
}

#[tokio::test]
async fn a_code_that_comes_twice_is_a_line() {
    let server = TestServer::start().await;
    let code = server.code(&[]).await;
    let issued = line(&server);
    assert_eq!(
        (&issued["event"], &issued["endpoint"]),
        (&json!("code"), &json!("/authorize"))
    );
    server.redeem(&code).await.ok();
    line(&server);
    server.redeem(&code).await.is_error(400, "invalid_grant");
    let expected = json!({
        "event": "code", "outcome": "reuse", "endpoint": "/token", "subject": "developer",
        "client_id": "app", "resource": NOTES, "scopes": ["notes:read"], "grant": issued["grant"],
        "grant_type": "authorization_code",
    });
    assert_eq!(line(&server), expected);
}

#[tokio::test]
async fn a_user_who_is_gone_loses_a_grant_in_one_line() {
    let server = TestServer::with_users().await;
    let mut browser = Browser::of(&server, "alice").await;
    let page = browser.get(&server, &authorize_path(&[])).await;
    let allowed = browser.decide(&server, &ticket(&page), "allow").await;
    let code = allowed.location_param("code").unwrap();
    let tokens = server.redeem(&code).await.ok();
    lines(&server);
    std::fs::write(server.users_file(), "users: []").unwrap();
    let refreshed = server.refresh(&text(&tokens["refresh_token"])).await;
    refreshed.is_error(400, "invalid_grant");
    let line = line(&server);
    assert_eq!(
        (&line["event"], &line["outcome"]),
        (&json!("revocation"), &json!("user_gone"))
    );
    assert_eq!(line["subject"], "alice");
}

#[tokio::test]
async fn a_request_for_tokens_is_a_line() {
    let server = TestServer::start().await;
    let grant = ("grant_type", "client_credentials");
    let good = basic("robot", "s3cret%2Bwith%3Aodd%25characters");
    let ask = async |authorization: &str, form: &[(&str, &str)]| {
        let headers = [(header::AUTHORIZATION, authorization)];
        server.post_with("/token", &headers, form).await
    };
    ask(&good, &[grant, ("scope", "notes:write")]).await.ok();
    let mut issued = line(&server);
    assert_eq!(text(&issued["grant"].take()).len(), 32);
    let expected = json!({
        "event": "token", "outcome": "issued", "endpoint": "/token", "client_id": "robot",
        "resource": NOTES, "scopes": ["notes:write"], "grant_type": "client_credentials",
        "grant": null,
    });
    assert_eq!(issued, expected);

    let refused = |event: &str, client: &str, error: &str| {
        json!({
            "event": event, "outcome": "refused", "endpoint": "/token", "client_id": client,
            "grant_type": "client_credentials", "error": error,
        })
    };
    ask(&basic("robot", "wrong"), &[grant]).await;
    let expected = refused("client_authentication", "robot", "invalid_client");
    // The response does not say it.
    assert_eq!(refusal(&server, "the client secret is wrong"), expected);
    server.token(&[grant, ("client_id", "nobody")]).await;
    let expected = refused("client_authentication", "nobody", "invalid_client");
    assert_eq!(refusal(&server, "no client has this client_id"), expected);
    ask("Basic !", &[grant]).await;
    let mut expected = refused("client_authentication", "", "invalid_client");
    expected.as_object_mut().unwrap().remove("client_id");
    assert_eq!(refusal(&server, "client authentication failed"), expected);
    ask(&good, &[grant, ("resource", MAIL)]).await;
    let expected = refused("token", "robot", "invalid_target");
    assert_eq!(refusal(&server, ""), expected);
    ask(&good, &[grant, ("scope", "mail:send")]).await;
    let expected = refused("token", "robot", "invalid_scope");
    assert_eq!(refusal(&server, ""), expected);
    server.token(&[("grant_type", "password")]).await;
    let expected = json!({
        "event": "token", "outcome": "refused", "endpoint": "/token", "error": "unsupported_grant_type",
    });
    assert_eq!(refusal(&server, "grant_type must be one of"), expected);
    // Nobody is refused anything here.
    server.get("/token").await;
    server.get("/no-such-page").await;
    assert_eq!(lines(&server), [] as [Value; 0]);
}

#[tokio::test]
async fn over_a_limit_is_a_line() {
    let server = TestServer::with(Setup {
        more: "rateLimit: { clientRequestsPerMinute: 1 }",
        ..Setup::default()
    })
    .await;
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", "poster"),
        ("client_secret", SECRET),
    ];
    server.token(&form).await.ok();
    line(&server);
    server
        .token(&form)
        .await
        .is_error(429, "temporarily_unavailable");
    let expected = json!({
        "event": "token", "outcome": "limited", "endpoint": "/token", "client_id": "poster",
        "grant_type": "client_credentials", "error": "temporarily_unavailable",
    });
    assert_eq!(refusal(&server, "too many requests"), expected);
}

#[tokio::test]
async fn a_revocation_names_what_it_ends() {
    let server = TestServer::start().await;
    let tokens = server.tokens(&[]).await;
    let grant = lines(&server)[0]["grant"].clone();
    let revoke = async |token: &str| {
        let form = [APP[0], ("token", token)];
        assert_eq!(server.post("/revoke", &form).await.status, StatusCode::OK);
        line(&server)
    };
    let expected = |outcome: &str| {
        json!({
            "event": "revocation", "outcome": outcome, "endpoint": "/revoke", "subject": "developer",
            "client_id": "app", "resource": NOTES, "scopes": ["notes:read"], "grant": grant,
        })
    };
    let (access, refresh) = (
        text(&tokens["access_token"]),
        text(&tokens["refresh_token"]),
    );
    assert_eq!(revoke(&access).await, expected("access_token"));
    assert_eq!(revoke(&refresh).await, expected("grant"));
    let nothing = json!({
        "event": "revocation", "outcome": "nothing", "endpoint": "/revoke", "client_id": "app",
    });
    for token in [&*access, &*refresh, "noise"] {
        assert_eq!(revoke(token).await, nothing);
    }
    server
        .post("/revoke", &APP)
        .await
        .is_error(400, "invalid_request");
    let expected = json!({
        "event": "revocation", "outcome": "refused", "endpoint": "/revoke", "client_id": "app",
        "error": "invalid_request",
    });
    assert_eq!(refusal(&server, "token is missing"), expected);
}

#[tokio::test]
async fn a_registration_is_a_line_from_its_beginning_to_its_end() {
    let server = TestServer::start().await;
    let body = json!({ "redirect_uris": [LOOPBACK], "token_endpoint_auth_method": "none" });
    let registered = sent(&server, Method::POST, "/register", &body).await.json();
    let client_id = text(&registered["client_id"]);
    let of = |outcome: &str, endpoint: &str| {
        json!({
            "event": "registration", "outcome": outcome, "endpoint": endpoint, "client_id": client_id,
        })
    };
    assert_eq!(line(&server), of("created", "/register"));
    let path = format!("/register/{client_id}");
    let bearer = format!("Bearer {}", text(&registered["registration_access_token"]));
    let ask = async |method: Method, bearer: &str, body: &Value| {
        let request = server
            .public(method, &path)
            .header(header::AUTHORIZATION, bearer);
        server
            .send(request.body(body.to_string().into()).unwrap())
            .await
    };
    let mut update = body.clone();
    update["client_id"] = client_id.clone().into();
    assert_eq!(ask(Method::PUT, &bearer, &update).await.status, 200);
    assert_eq!(line(&server), of("updated", "/register/{client_id}"));
    update["redirect_uris"] = json!(["javascript:x"]);
    assert_eq!(ask(Method::PUT, &bearer, &update).await.status, 400);
    let mut expected = of("refused", "/register/{client_id}");
    expected["error"] = "invalid_redirect_uri".into();
    assert_eq!(refusal(&server, ""), expected);
    assert_eq!(ask(Method::GET, &bearer, &Value::Null).await.status, 200);
    assert_eq!(lines(&server), [] as [Value; 0], "nothing changes");
    assert_eq!(ask(Method::DELETE, &bearer, &Value::Null).await.status, 204);
    assert_eq!(line(&server), of("deleted", "/register/{client_id}"));
    assert_eq!(ask(Method::DELETE, &bearer, &Value::Null).await.status, 401);
    let expected = json!({
        "event": "registration", "outcome": "refused", "endpoint": "/register/{client_id}",
        "error": "invalid_token",
    });
    assert_eq!(refusal(&server, "registration_access_token"), expected);
}

#[tokio::test]
async fn a_registration_without_the_initial_access_token_is_a_line() {
    let server = TestServer::with(Setup {
        more: "registration: { dynamic: { initialAccessTokenFile: '{FILES}/initial-access-token' } }",
        ..Setup::default()
    })
    .await;
    let wrong = INITIAL_ACCESS_TOKEN.replace('d', "e");
    let request = server.public(Method::POST, "/register");
    let request = request.header(header::AUTHORIZATION, format!("Bearer {wrong}"));
    let answer = server.send(request.body("{}".into()).unwrap()).await;
    answer.is_error(401, "invalid_token");
    let expected = json!({
        "event": "registration", "outcome": "refused", "endpoint": "/register", "error": "invalid_token",
    });
    assert_eq!(refusal(&server, "initial access token"), expected);
}

#[tokio::test]
async fn a_change_by_an_administrator_is_a_line() {
    let server = TestServer::start().await;
    let client = json!({
        "tokenEndpointAuthMethod": "none", "redirectUris": [LOOPBACK], "grantTypes": ["authorization_code"],
        "namespace": "team", "resources": [notes(&["notes:read"])],
    });
    let path = "/admin/v1/clients/new";
    let of = |outcome: &str| {
        json!({
            "event": "admin_change", "outcome": outcome, "endpoint": "/admin/v1/clients/{id}",
            "caller": "credential:operator", "client_id": "new",
        })
    };
    server.admin(Method::PUT, path, &client).await.ok();
    assert_eq!(line(&server), of("created"));
    server.admin(Method::PUT, path, &client).await.ok();
    server.admin(Method::GET, path, &Value::Null).await.ok();
    assert_eq!(lines(&server), [] as [Value; 0], "nothing changes");
    let mut changed = client.clone();
    changed["clientName"] = "New".into();
    server.admin(Method::PUT, path, &changed).await.ok();
    assert_eq!(line(&server), of("updated"));
    changed["grantTypes"] = json!(["bogus"]);
    assert_eq!(server.admin(Method::PUT, path, &changed).await.status, 400);
    let mut expected = of("refused");
    expected["error"] = "invalid_client_metadata".into();
    assert_eq!(refusal(&server, "grantTypes"), expected);
    server.admin(Method::DELETE, path, &Value::Null).await;
    assert_eq!(line(&server), of("deleted"));
    server.admin(Method::DELETE, path, &Value::Null).await;
    assert_eq!(lines(&server), [] as [Value; 0], "it was gone");

    let uri = "https://new.example/mcp";
    let resource = json!({ "resource": uri, "name": "new" });
    let of = |outcome: &str| {
        json!({
            "event": "admin_change", "outcome": outcome, "endpoint": "/admin/v1/resources/{id}",
            "caller": "credential:operator", "resource_id": "new", "resource": uri,
        })
    };
    let path = "/admin/v1/resources/new";
    server.admin(Method::PUT, path, &resource).await.ok();
    assert_eq!(line(&server), of("created"));
    server.admin(Method::DELETE, path, &Value::Null).await;
    assert_eq!(line(&server), of("deleted"));
    let taken = json!({ "resource": NOTES, "name": "new" });
    assert_eq!(server.admin(Method::PUT, path, &taken).await.status, 409);
    let mut expected = of("refused");
    expected["resource"] = NOTES.into();
    expected["error"] = "conflict".into();
    assert_eq!(refusal(&server, "already registered"), expected);

    let path = "/admin/v1/users/alice/grants";
    server.admin(Method::DELETE, path, &Value::Null).await;
    let expected = json!({
        "event": "revocation", "outcome": "user", "endpoint": "/admin/v1/users/{subject}/grants",
        "caller": "credential:operator", "subject": "alice",
    });
    assert_eq!(line(&server), expected);
}

#[tokio::test]
async fn a_caller_who_is_refused_is_a_line() {
    let open = "introspection: { public: true, callers: [{ id: remote-notes, secretFile: '{FILES}/remote-notes' }] }";
    let server = TestServer::with(Setup {
        more: open,
        ..Setup::default()
    })
    .await;
    let ask = async |path: &str, authorization: &str| {
        let request = http::Request::post(format!("http://{}{path}", server.internal))
            .header(header::AUTHORIZATION, authorization)
            .header(header::CONTENT_TYPE, FORM);
        server
            .send(request.body(query(&[("token", "x")]).into()).unwrap())
            .await
    };
    let of = |endpoint: &str, error: &str| json!({ "event": "caller", "outcome": "refused", "endpoint": endpoint, "error": error });
    let named = |line: Value, caller: &str| {
        let mut line = line;
        line["caller"] = caller.into();
        line
    };
    ask("/introspect", "Bearer junk").await;
    let expected = of("/introspect", "invalid_token");
    assert_eq!(refusal(&server, "accepted only with"), expected);
    ask("/introspect", &basic("notes-proxy", "wrong")).await;
    let known = named(expected.clone(), "credential:notes-proxy");
    assert_eq!(refusal(&server, "its secret is wrong"), known);
    // Who swaps the two finds no secret in the audit.
    ask(
        "/introspect",
        &basic("secret-of-notes-proxy", "notes-proxy"),
    )
    .await;
    assert_eq!(refusal(&server, "its secret is wrong"), expected);
    ask("/no-such-path", "Bearer junk").await;
    assert_eq!(refusal(&server, ""), of("other", "invalid_token"));
    let request = server.internal(Method::GET, "/admin/v1/clients/app", "notes-proxy");
    server
        .send(request.body(Default::default()).unwrap())
        .await
        .is_error(403, "access_denied");
    let expected = of("/admin/v1/clients/{id}", "access_denied");
    let expected = named(expected, "credential:notes-proxy");
    assert_eq!(refusal(&server, "is not an administrator"), expected);

    let headers = [(header::AUTHORIZATION, &*basic(REMOTE.0, "wrong"))];
    server
        .post_with("/introspect", &headers, &[("token", "x")])
        .await;
    let expected = of("/introspect", "invalid_client");
    let expected = named(expected, "credential:remote-notes");
    assert_eq!(refusal(&server, "one of them is wrong"), expected);

    // What is asked for each call is counted in the metrics, and not audited.
    server.introspect_as("notes-proxy", "x").await.ok();
    assert_eq!(lines(&server), [] as [Value; 0]);
}

#[tokio::test]
async fn a_refused_authorization_request_is_a_line() {
    let server = TestServer::start().await;
    let known = json!({
        "event": "authorization", "outcome": "refused", "endpoint": "/authorize", "client_id": "app",
    });
    for (change, error) in [
        (("redirect_uri", "https://evil.example/"), "invalid_request"),
        (("code_challenge", ""), "invalid_request"),
        (("scope", "unknown:scope"), "invalid_scope"),
        (("resource", "https://other.example/"), "invalid_target"),
    ] {
        server.authorize(&[change]).await;
        let mut expected = known.clone();
        expected["error"] = error.into();
        assert_eq!(refusal(&server, ""), expected, "{change:?}");
    }
}

/// Nobody fills the disk, and other networks' refusals stay visible.
#[tokio::test]
async fn a_flood_of_refusals_is_some_lines_and_a_number() {
    let server = TestServer::start().await;
    for _ in 0..budget::PER_SOURCE + 30 {
        let form = [
            ("grant_type", "refresh_token"),
            APP[0],
            ("refresh_token", "mrt_x"),
        ];
        server.token(&form).await.is_error(400, "invalid_grant");
    }
    // What a stranger cannot cause has no budget.
    server.tokens(&[]).await;
    let lines = server.audited();
    let of = |event: &str, outcome: &str| {
        let found = |line: &&Value| line["event"] == event && line["outcome"] == outcome;
        lines.iter().filter(found).count()
    };
    assert_eq!(of("token", "refused"), budget::PER_SOURCE as usize);
    assert_eq!(of("token", "issued"), 1);
    let omitted = lines
        .iter()
        .find(|line| line["event"] == "omitted")
        .unwrap();
    assert_eq!(omitted["omitted_event"], "token");
    assert_eq!(omitted["network"], "127.0.0.1");
    assert_eq!(omitted["count"], 30);
}

#[tokio::test]
async fn what_a_stranger_sends_is_bounded_and_forges_no_line() {
    let server = TestServer::start().await;
    let long = "x".repeat(5_000);
    let forged = "app\"}\n{\"event\":\"login\",\"outcome\":\"accepted\"}";
    let agent = format!("{long}\u{85}");
    let headers = [(header::USER_AGENT, agent.as_str())];
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", forged),
        ("refresh_token", &long),
    ];
    server.post_with("/token", &headers, &form).await;
    let lines = server.audited();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0]["outcome"], "refused");
    assert!(text(&lines[0]["user_agent"]).len() < 300);
    assert!(lines[0].to_string().len() < 2_000);
}

#[tokio::test]
async fn switched_off_there_is_no_line() {
    let server = TestServer::with(Setup {
        more: "telemetry: { audit: { enabled: false } }",
        ..Setup::default()
    })
    .await;
    server.tokens(&[]).await;
    server.redeem("mac_x").await.is_error(400, "invalid_grant");
    assert_eq!(server.audited(), [] as [Value; 0]);
}
