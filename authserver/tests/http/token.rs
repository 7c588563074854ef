//! `/token`: codes, client credentials, client authentication, and what is not understood.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Method, StatusCode, header};
use serde_json::json;

use crate::server::{
    Answer, FORM, LOOPBACK, NOTES, SECRET, TestServer, VERIFIER, basic, query, text,
};

const ENCODED_SECRET: &str = "s3cret%2Bwith%3Aodd%25characters";

fn code_form(code: &str) -> Vec<(&str, &str)> {
    vec![
        ("grant_type", "authorization_code"),
        ("client_id", "app"),
        ("code", code),
        ("code_verifier", VERIFIER),
    ]
}

async fn redeem_with(change: (&str, &str)) -> Answer {
    let server = TestServer::start().await;
    let code = server.code(&[]).await;
    let mut form = code_form(&code);
    form.retain(|(name, _)| *name != change.0);
    form.push(change);
    server.token(&form).await
}

async fn robot(server: &TestServer, authorization: &str, form: &[(&str, &str)]) -> Answer {
    let headers = [(header::AUTHORIZATION, authorization)];
    server.post_with("/token", &headers, form).await
}

const CREDENTIALS: [(&str, &str); 1] = [("grant_type", "client_credentials")];

#[tokio::test]
async fn a_code_becomes_tokens() {
    let server = TestServer::start().await;
    let code = server.code(&[]).await;
    let mut form = code_form(&code);
    form.push(("redirect_uri", LOOPBACK));
    let answer = server.token(&form).await;
    assert_eq!(answer.header(header::CACHE_CONTROL), "no-store");
    let tokens = answer.ok();
    assert_eq!(tokens["token_type"], "Bearer");
    assert_eq!(tokens["expires_in"], 900);
    assert_eq!(tokens["scope"], "notes:read");
    assert!(text(&tokens["refresh_token"]).starts_with("mrt_"));
    assert!(server.is_active(&text(&tokens["access_token"])).await);
}

#[tokio::test]
async fn no_refresh_token_without_the_grant() {
    let server = TestServer::start().await;
    server
        .put_client("app", json!({ "grantTypes": ["authorization_code"] }))
        .await;
    assert_eq!(server.tokens(&[]).await.get("refresh_token"), None);
}

#[tokio::test]
async fn code_replay_is_invalid_grant_and_the_family_revoked() {
    let server = TestServer::start().await;
    let code = server.code(&[]).await;
    let tokens = server.redeem(&code).await.ok();
    server.redeem(&code).await.is_error(400, "invalid_grant");
    assert!(!server.is_active(&text(&tokens["access_token"])).await);
    let refreshed = server.refresh(&text(&tokens["refresh_token"])).await;
    refreshed.is_error(400, "invalid_grant");
}

#[tokio::test]
async fn replay_by_another_client_revokes_nothing() {
    let server = TestServer::start().await;
    server.put_client("other", json!({})).await;
    let code = server.code(&[]).await;
    let tokens = server.redeem(&code).await.ok();
    let mut form = code_form(&code);
    form[1] = ("client_id", "other");
    server.token(&form).await.is_error(400, "invalid_grant");
    assert!(server.is_active(&text(&tokens["access_token"])).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_way_race_on_one_code_has_exactly_one_success() {
    let server = TestServer::start().await;
    let code = server.code(&[]).await;
    let form = code_form(&code);
    let answers = futures::future::join_all((0..16).map(|_| server.token(&form))).await;
    let (won, lost): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    assert_eq!((won.len(), lost.len()), (1, 15));
    for answer in lost {
        answer.is_error(400, "invalid_grant");
    }
}

#[tokio::test]
async fn another_clients_code() {
    let server = TestServer::start().await;
    server.put_client("other", json!({})).await;
    let code = server.code(&[]).await;
    let mut form = code_form(&code);
    form[1] = ("client_id", "other");
    server.token(&form).await.is_error(400, "invalid_grant");
    server.redeem(&code).await.ok();
}

#[tokio::test]
async fn expired_code() {
    let server = TestServer::start().await;
    let code = server.code(&[]).await;
    server.clock.advance(std::time::Duration::from_secs(60));
    server.redeem(&code).await.is_error(400, "invalid_grant");
}

#[tokio::test]
async fn another_redirect() {
    let other = redeem_with(("redirect_uri", "http://127.0.0.1:7778/callback")).await;
    other.is_error(400, "invalid_grant");
}

#[tokio::test]
async fn wrong_verifier_attempts_limited() {
    let server = TestServer::start().await;
    let code = server.code(&[]).await;
    let wrong = VERIFIER.replace('d', "e");
    let mut form = code_form(&code);
    form[3] = ("code_verifier", &wrong);
    for _ in 0..5 {
        server.token(&form).await.is_error(400, "invalid_grant");
    }
    server.redeem(&code).await.is_error(400, "invalid_grant");
}

#[tokio::test]
async fn missing_verifier() {
    redeem_with(("code_verifier", ""))
        .await
        .is_error(400, "invalid_request");
}

#[tokio::test]
async fn verifier_of_42_or_129_characters() {
    let server = TestServer::start().await;
    for (length, is_accepted) in [(42, false), (43, true), (128, true), (129, false)] {
        let verifier = "a".repeat(length);
        let digest = digest::digest(&digest::SHA256, verifier.as_bytes());
        let challenge = URL_SAFE_NO_PAD.encode(digest);
        let code = server.code(&[("code_challenge", &challenge)]).await;
        let mut form = code_form(&code);
        form[3] = ("code_verifier", &verifier);
        let answer = server.token(&form).await;
        if is_accepted {
            answer.ok();
        } else {
            answer.is_error(400, "invalid_grant");
        }
    }
}

#[tokio::test]
async fn duplicate_grant_type() {
    let server = TestServer::start().await;
    let form = [
        ("grant_type", "authorization_code"),
        ("grant_type", "refresh_token"),
    ];
    server.token(&form).await.is_error(400, "invalid_request");
}

#[tokio::test]
async fn unknown_grant() {
    let server = TestServer::start().await;
    let form = [("grant_type", "urn:x"), ("client_id", "app")];
    server
        .token(&form)
        .await
        .is_error(400, "unsupported_grant_type");
    server
        .token(&[("client_id", "app")])
        .await
        .is_error(400, "invalid_request");
}

#[tokio::test]
async fn password_grant() {
    let server = TestServer::start().await;
    let form = [
        ("grant_type", "password"),
        ("client_id", "app"),
        ("username", "alice"),
    ];
    server
        .token(&form)
        .await
        .is_error(400, "unsupported_grant_type");
}

#[tokio::test]
async fn client_credentials_by_a_public_client() {
    let server = TestServer::start().await;
    let form = [("grant_type", "client_credentials"), ("client_id", "app")];
    server
        .token(&form)
        .await
        .is_error(400, "unauthorized_client");
}

#[tokio::test]
async fn client_credentials_give_a_token_for_the_client_itself() {
    let server = TestServer::start().await;
    let tokens = robot(&server, &basic("robot", ENCODED_SECRET), &CREDENTIALS)
        .await
        .ok();
    assert_eq!(tokens.get("refresh_token"), None);
    assert_eq!(tokens["scope"], "notes:read notes:write");
    let token = text(&tokens["access_token"]);
    let answer = server.introspect_as("notes-proxy", &token).await.ok();
    assert_eq!(
        (&answer["sub"], &answer["client_id"]),
        (&json!("robot"), &json!("robot"))
    );
    assert_eq!(answer["aud"], NOTES);
}

/// Its token would say `sub: alice`, as hers do (RFC 9700, section 4.15).
#[tokio::test]
async fn a_client_that_is_named_like_a_user() {
    let server = TestServer::with_users().await;
    for (id, is_user) in [("alice", true), ("alicia", false)] {
        let client = json!({
            "tokenEndpointAuthMethod": "client_secret_post", "clientSecret": crate::server::SECRET, "redirectUris": [],
            "grantTypes": ["client_credentials"], "resources": [crate::server::notes(&["notes:read"])],
        });
        server.put_client(id, client).await;
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", id),
            ("client_secret", crate::server::SECRET),
        ];
        let answer = server.token(&form).await;
        if is_user {
            answer.is_error(400, "unauthorized_client");
        } else {
            answer.ok();
        }
    }
}

#[tokio::test]
async fn get_is_405() {
    let server = TestServer::start().await;
    let answer = server.get("/token").await;
    assert_eq!(answer.status, 405);
    assert_eq!(answer.header(header::ALLOW), "POST");
}

#[tokio::test]
async fn json_body() {
    let server = TestServer::start().await;
    let request = server
        .public(Method::POST, "/token")
        .header(header::CONTENT_TYPE, "application/json");
    let body = json!({ "grant_type": "authorization_code" }).to_string();
    let answer = server.send(request.body(body.into()).unwrap()).await;
    answer.is_error(400, "invalid_request");
}

#[tokio::test]
async fn secret_in_the_query() {
    let server = TestServer::start().await;
    let path = format!(
        "/token?{}",
        query(&[("client_id", "poster"), ("client_secret", SECRET)])
    );
    server
        .post(&path, &CREDENTIALS)
        .await
        .is_error(400, "invalid_request");
}

#[tokio::test]
async fn basic_and_post_both() {
    let server = TestServer::start().await;
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", "robot"),
        ("client_secret", SECRET),
    ];
    let answer = robot(&server, &basic("robot", ENCODED_SECRET), &form).await;
    answer.is_error(400, "invalid_request");
}

#[tokio::test]
async fn basic_with_percent_encoded_colon_and_plus() {
    let server = TestServer::start().await;
    robot(&server, &basic("r%6fbot", ENCODED_SECRET), &CREDENTIALS)
        .await
        .ok();
}

#[tokio::test]
async fn basic_with_bad_base64_bad_utf8_or_nul() {
    let server = TestServer::start().await;
    for bad in [
        "Basic ====",
        "Basic /w==",
        &basic("robot", "a%00"),
        &basic("robot", "%ff"),
        "Basic",
        "Bearer x",
    ] {
        let answer = robot(&server, bad, &CREDENTIALS).await;
        answer.is_error(401, "invalid_client");
        assert_eq!(
            answer.header(header::WWW_AUTHENTICATE),
            "Basic realm=\"token\"",
            "{bad}"
        );
    }
}

#[tokio::test]
async fn another_method_than_the_registered_one() {
    let server = TestServer::start().await;
    let post = [
        ("grant_type", "client_credentials"),
        ("client_id", "robot"),
        ("client_secret", SECRET),
    ];
    server.token(&post).await.is_error(401, "invalid_client");
    let answer = robot(&server, &basic("poster", ENCODED_SECRET), &CREDENTIALS).await;
    answer.is_error(401, "invalid_client");
    let none = [("grant_type", "client_credentials"), ("client_id", "robot")];
    server.token(&none).await.is_error(401, "invalid_client");
    let code = server.code(&[]).await;
    let mut form = code_form(&code);
    form.push(("client_secret", "x"));
    server.token(&form).await.is_error(401, "invalid_client");
}

/// Time cannot be asserted; that nothing else tells them apart can.
#[tokio::test]
async fn an_unknown_client_and_a_wrong_secret_look_the_same() {
    let server = TestServer::start().await;
    let unknown = robot(&server, &basic("nobody", "x"), &CREDENTIALS).await;
    let wrong = robot(&server, &basic("robot", "x"), &CREDENTIALS).await;
    unknown.is_error(401, "invalid_client");
    assert_eq!(unknown.body, wrong.body);
    let names = |answer: &Answer| answer.headers.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&unknown), names(&wrong));
}

#[tokio::test]
async fn body_of_65_kib_is_413() {
    let server = TestServer::start().await;
    let large = "x".repeat(65 * 1024);
    let answer = server.token(&[("grant_type", &large)]).await;
    answer.is_error(413, "invalid_request");
}

#[tokio::test]
async fn a_thousand_parameters() {
    let server = TestServer::start().await;
    let names: Vec<String> = (0..1000).map(|n| format!("p{n}")).collect();
    let form: Vec<_> = names.iter().map(|name| (name.as_str(), "1")).collect();
    server.token(&form).await.is_error(400, "invalid_request");
}

/// A body that never ends, against the router itself: on a paused clock its 30 seconds pass at once.
#[tokio::test(start_paused = true)]
async fn slow_client() {
    use tower::ServiceExt as _;
    let server = TestServer::start().await;
    let body = futures::stream::pending::<Result<bytes::Bytes, std::io::Error>>();
    let peer: std::net::SocketAddr = "127.0.0.1:1".parse().unwrap();
    let request = http::Request::post("/token")
        .header(header::CONTENT_TYPE, FORM)
        .extension(axum::extract::ConnectInfo(peer))
        .body(axum::body::Body::from_stream(body))
        .unwrap();
    let router = mcp_authserver::http::public::router(server.app.public.clone());
    let answer = router.oneshot(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::REQUEST_TIMEOUT);
}

#[tokio::test]
async fn invalid_utf8() {
    let server = TestServer::start().await;
    for body in [&b"grant_type=%ff"[..], b"grant_type=\xff"] {
        let request = server
            .public(Method::POST, "/token")
            .header(header::CONTENT_TYPE, FORM);
        let body = bytes::Bytes::copy_from_slice(body);
        let answer = server.send(request.body(body.into()).unwrap()).await;
        answer.is_error(400, "invalid_request");
    }
}

#[tokio::test]
async fn a_refresh_token_used_as_a_code() {
    let server = TestServer::start().await;
    let tokens = server.tokens(&[]).await;
    let refresh = text(&tokens["refresh_token"]);
    server.redeem(&refresh).await.is_error(400, "invalid_grant");
    server
        .refresh(&text(&tokens["access_token"]))
        .await
        .is_error(400, "invalid_grant");
    server.refresh(&refresh).await.ok();
}
