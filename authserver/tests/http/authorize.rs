//! `/authorize`. Until client and redirect URI are good, every fault is a page here and goes nowhere.

use http::header;

use crate::browser::{Browser, ticket};
use crate::server::{CHALLENGE, FORM, LOOPBACK, Setup, TestServer, WEB, authorize_path, query};

/// A fault that only the user sees.
async fn stays_here(changes: &[(&str, &str)]) {
    let server = TestServer::start().await;
    let answer = server.authorize(changes).await;
    assert_eq!(answer.status, 400, "{changes:?} {answer:?}");
    assert!(!answer.headers.contains_key(header::LOCATION), "{answer:?}");
    assert!(answer.header(header::CONTENT_TYPE).starts_with("text/html"));
    assert!(answer.body.contains("cannot be used"), "{answer:?}");
}

/// A fault that the client is told, with `state` and `iss`.
async fn goes_back(changes: &[(&str, &str)], code: &str) {
    let server = TestServer::start().await;
    let answer = server.authorize(changes).await;
    assert_eq!(answer.status, 303, "{changes:?} {answer:?}");
    assert!(
        answer.header(header::LOCATION).starts_with(LOOPBACK),
        "{answer:?}"
    );
    assert_eq!(
        answer.location_param("error").as_deref(),
        Some(code),
        "{answer:?}"
    );
    assert_eq!(answer.location_param("state").as_deref(), Some("st&te"));
    assert_eq!(
        answer.location_param("iss").as_deref(),
        Some(server.issuer())
    );
    assert_eq!(answer.location_param("code"), None);
}

#[tokio::test]
async fn a_good_request_gets_a_code_with_state_and_iss() {
    let server = TestServer::start().await;
    let path = authorize_path(&[]);
    let first = server.get(&path).await;
    let second = server.get(&path).await;
    for answer in [&first, &second] {
        assert_eq!(answer.status, 303);
        assert_eq!(answer.location_param("state").as_deref(), Some("st&te"));
        assert_eq!(
            answer.location_param("iss").as_deref(),
            Some(server.issuer())
        );
        assert!(answer.location_param("code").unwrap().starts_with("mac_"));
        assert_eq!(answer.header(header::CACHE_CONTROL), "no-store");
    }
    // Asked twice, both answers are good: GET is idempotent.
    for answer in [second, first] {
        server
            .redeem(&answer.location_param("code").unwrap())
            .await
            .ok();
    }
}

#[tokio::test]
async fn the_redirects_own_query_is_kept() {
    let server = TestServer::with_users().await;
    let mut browser = Browser::of(&server, "alice").await;
    let path = authorize_path(&[("redirect_uri", WEB)]);
    let page = browser.get(&server, &path).await;
    let answer = browser.decide(&server, &ticket(&page), "allow").await;
    let location = answer.header(header::LOCATION);
    assert!(
        location.starts_with(&format!("{WEB}&code=mac_")),
        "{location}"
    );
}

#[tokio::test]
async fn unknown_client() {
    stays_here(&[("client_id", "nobody")]).await;
    stays_here(&[("client_id", "<script>alert(1)</script>")]).await;
    stays_here(&[("client_id", "")]).await;
}

#[tokio::test]
async fn redirect_mismatch() {
    stays_here(&[("redirect_uri", "https://evil.example/callback")]).await;
}

#[tokio::test]
async fn redirect_missing_where_several_are_registered() {
    stays_here(&[("redirect_uri", "")]).await;
}

#[tokio::test]
async fn redirect_missing_where_one_is_registered() {
    let server = TestServer::start().await;
    server.put_client("one", serde_json::json!({})).await;
    let answer = server
        .authorize(&[("client_id", "one"), ("redirect_uri", "")])
        .await;
    assert!(
        answer.header(header::LOCATION).starts_with(LOOPBACK),
        "{answer:?}"
    );
}

#[tokio::test]
async fn extra_query_on_the_redirect() {
    stays_here(&[("redirect_uri", &format!("{LOOPBACK}?x=1"))]).await;
    stays_here(&[("redirect_uri", &format!("{WEB}&x=1"))]).await;
    stays_here(&[("redirect_uri", "https://app.example/callback")]).await;
}

#[tokio::test]
async fn path_traversal() {
    for path in [
        "/callback/../callback",
        "/callback/..",
        "/./callback",
        "/x/%2e%2e/callback",
        "/callback\\",
    ] {
        stays_here(&[("redirect_uri", &format!("http://127.0.0.1:7777{path}"))]).await;
    }
}

#[tokio::test]
async fn case_or_percent_variant() {
    stays_here(&[("redirect_uri", "http://127.0.0.1:7777/Callback")]).await;
    stays_here(&[("redirect_uri", "http://127.0.0.1:7777/c%61llback")]).await;
    stays_here(&[("redirect_uri", "HTTP://127.0.0.1:7777/callback")]).await;
    stays_here(&[("redirect_uri", "https://APP.example/callback?app=1")]).await;
}

#[tokio::test]
async fn userinfo_or_several_at_signs() {
    stays_here(&[(
        "redirect_uri",
        "https://app.example@evil.example/callback?app=1",
    )])
    .await;
    stays_here(&[("redirect_uri", "https://x@app.example/callback?app=1")]).await;
    stays_here(&[(
        "redirect_uri",
        "http://127.0.0.1:7777@evil.example/callback",
    )])
    .await;
    stays_here(&[("redirect_uri", "http://a@b@127.0.0.1:7777/callback")]).await;
}

#[tokio::test]
async fn fragment() {
    stays_here(&[("redirect_uri", &format!("{LOOPBACK}#"))]).await;
    stays_here(&[("redirect_uri", &format!("{WEB}#x"))]).await;
}

#[tokio::test]
async fn javascript_or_data_scheme() {
    stays_here(&[("redirect_uri", "javascript:alert(1)")]).await;
    stays_here(&[("redirect_uri", "data:text/html,x")]).await;
}

#[tokio::test]
async fn localhost_evil_example() {
    stays_here(&[("redirect_uri", "http://localhost.evil.example/callback")]).await;
    stays_here(&[(
        "redirect_uri",
        "http://127.0.0.1.evil.example:7777/callback",
    )])
    .await;
}

#[tokio::test]
async fn loopback_with_another_port_is_fine_with_another_path_is_not() {
    let server = TestServer::start().await;
    let other_port = "http://127.0.0.1:60123/callback";
    let answer = server.authorize(&[("redirect_uri", other_port)]).await;
    assert!(
        answer.header(header::LOCATION).starts_with(other_port),
        "{answer:?}"
    );
    stays_here(&[("redirect_uri", "http://127.0.0.1:60123/other")]).await;
}

#[tokio::test]
async fn another_port_off_loopback() {
    stays_here(&[("redirect_uri", "https://app.example:8443/callback?app=1")]).await;
}

/// A23: what decides where the answer goes is named once.
#[tokio::test]
async fn duplicate_client_id_or_redirect_uri() {
    let server = TestServer::start().await;
    for double in [
        "client_id=app".to_owned(),
        query(&[("redirect_uri", LOOPBACK)]),
    ] {
        let path = format!("{}&{double}", authorize_path(&[]));
        let answer = server.get(&path).await;
        assert_eq!(answer.status, 400, "{double}");
        assert!(!answer.headers.contains_key(header::LOCATION));
    }
}

#[tokio::test]
async fn any_other_parameter_twice() {
    let server = TestServer::start().await;
    for (double, state) in [
        ("st%61te=x", None),
        ("state=", None),
        ("nonce=1&nonce=1", Some("st&te")),
        ("code_challenge_method=S256", Some("st&te")),
        ("scope=notes:read", Some("st&te")),
        ("unknown=1&unknown=2", Some("st&te")),
    ] {
        let path = format!("{}&{double}", authorize_path(&[]));
        let answer = server.get(&path).await;
        let error = answer.location_param("error");
        assert_eq!(error.as_deref(), Some("invalid_request"), "{double}");
        assert_eq!(answer.location_param("state").as_deref(), state, "{double}");
        assert_eq!(answer.location_param("code"), None, "{double}");
    }
}

#[tokio::test]
async fn response_type_token() {
    goes_back(&[("response_type", "token")], "unsupported_response_type").await;
    goes_back(
        &[("response_type", "code id_token")],
        "unsupported_response_type",
    )
    .await;
    goes_back(&[("response_type", "")], "invalid_request").await;
}

/// So there is no verifier without a challenge, either: no code is without one.
#[tokio::test]
async fn no_pkce() {
    let none = [("code_challenge", ""), ("code_challenge_method", "")];
    goes_back(&none, "invalid_request").await;
}

#[tokio::test]
async fn plain_pkce() {
    goes_back(&[("code_challenge_method", "plain")], "invalid_request").await;
}

#[tokio::test]
async fn method_omitted() {
    goes_back(&[("code_challenge_method", "")], "invalid_request").await;
}

#[tokio::test]
async fn challenge_not_43_characters() {
    goes_back(&[("code_challenge", &CHALLENGE[1..])], "invalid_request").await;
    goes_back(
        &[("code_challenge", &format!("{CHALLENGE}x"))],
        "invalid_request",
    )
    .await;
}

#[tokio::test]
async fn unsupported_request_object() {
    goes_back(&[("request", "x.y.z")], "request_not_supported").await;
    goes_back(&[("request_uri", "urn:x")], "request_uri_not_supported").await;
}

#[tokio::test]
async fn response_mode_fragment() {
    goes_back(&[("response_mode", "fragment")], "invalid_request").await;
    goes_back(&[("response_mode", "form_post")], "invalid_request").await;
}

#[tokio::test]
async fn a_client_without_the_grant() {
    let server = TestServer::start().await;
    let more = serde_json::json!({
        "grantTypes": ["client_credentials"], "tokenEndpointAuthMethod": "client_secret_post", "clientSecret": crate::server::SECRET,
    });
    server.put_client("machine", more).await;
    let answer = server.authorize(&[("client_id", "machine")]).await;
    assert_eq!(
        answer.location_param("error").as_deref(),
        Some("unauthorized_client")
    );
}

#[tokio::test]
async fn prompt_none_without_a_session_is_login_required_with_iss() {
    let server = TestServer::with_users().await;
    let answer = server.authorize(&[("prompt", "none")]).await;
    assert_eq!(
        answer.location_param("error").as_deref(),
        Some("login_required")
    );
    assert_eq!(
        answer.location_param("iss").as_deref(),
        Some(server.issuer())
    );
    let answer = server.authorize(&[("prompt", "none login")]).await;
    assert_eq!(
        answer.location_param("error").as_deref(),
        Some("invalid_request")
    );
}

/// Else anybody who registers could send users wherever they like, from our address (OAuth 2.1,
/// section 7.12.2).
#[tokio::test]
async fn a_client_that_registered_itself_gets_no_redirect_unasked() {
    let server = TestServer::with_users().await;
    let uris = ["https://evil.example/cb", LOOPBACK, "cursor://x/cb"];
    let body = serde_json::json!({ "redirect_uris": uris, "client_name": "Claude" }).to_string();
    let request = server.public(http::Method::POST, "/register");
    let registered = server.send(request.body(body.into()).unwrap()).await;
    let id = crate::server::text(&registered.json()["client_id"]);
    for fault in [("scope", "unknown"), ("prompt", "none")] {
        for uri in uris {
            let changes = [("client_id", id.as_str()), ("redirect_uri", uri), fault];
            let answer = server.authorize(&changes).await;
            if uri.starts_with("https") {
                assert_eq!(answer.status, 200, "{fault:?} {answer:?}");
                assert!(!answer.headers.contains_key(header::LOCATION), "{answer:?}");
                let link = "<a href=\"https://evil.example/cb?error=";
                assert!(answer.body.contains(link), "{answer:?}");
                assert!(answer.body.contains("evil.example</a>"), "{answer:?}");
                assert_eq!(answer.header(header::REFERRER_POLICY), "no-referrer");
                assert_eq!(answer.header(header::X_FRAME_OPTIONS), "DENY");
            } else {
                assert_eq!(answer.status, 303, "{fault:?} {answer:?}");
            }
        }
    }
}

/// OpenID Connect Core, section 3.1.2.1: by POST, too. The browser goes on with GET, which brings its cookies.
#[tokio::test]
async fn post_is_the_same_as_get() {
    let server = TestServer::start().await;
    let path = authorize_path(&[]);
    let (_, form) = path.split_once('?').unwrap();
    let post = async |body: &str| {
        let request = server
            .public(http::Method::POST, "/authorize")
            .header(header::CONTENT_TYPE, FORM);
        server
            .send(request.body(body.to_owned().into()).unwrap())
            .await
    };
    let answer = post(form).await;
    assert_eq!(answer.status, 303, "{answer:?}");
    let location = answer.header(header::LOCATION);
    assert_eq!(location, server.app.core.issuer.url(&path));
    let answer = server.get(location).await;
    assert!(answer.location_param("code").is_some(), "{answer:?}");
    for bad in [
        &format!("{form}&client_id=app"),
        "client_id=%ff",
        &"x".repeat(9 * 1024),
    ] {
        let answer = post(bad).await;
        assert_eq!(answer.status, 400, "{bad}");
        assert!(answer.body.contains("cannot be used"), "{answer:?}");
    }
}

#[tokio::test]
async fn only_get_and_post_and_no_cors() {
    let server = TestServer::start().await;
    let request = server.public(http::Method::PUT, "/authorize");
    let answer = server.send(request.body(Default::default()).unwrap()).await;
    assert_eq!(answer.status, 405, "{answer:?}");
    let request = server
        .public(http::Method::OPTIONS, "/authorize")
        .header(header::ORIGIN, "https://evil.example")
        .header(header::ACCESS_CONTROL_REQUEST_METHOD, "GET");
    let answer = server.send(request.body(Default::default()).unwrap()).await;
    assert!(
        !answer
            .headers
            .contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN),
        "{answer:?}"
    );
}

#[tokio::test]
async fn an_issuer_with_a_path_has_its_endpoints_under_it() {
    let server = TestServer::with(Setup {
        issuer: "http://localhost:{PORT}/t1",
        ..Setup::default()
    })
    .await;
    assert_eq!(server.get(&authorize_path(&[])).await.status, 404);
    let answer = server.get(&format!("/t1{}", authorize_path(&[]))).await;
    assert_eq!(
        answer.location_param("iss").as_deref(),
        Some(server.issuer())
    );
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", "app"),
        ("code", &answer.location_param("code").unwrap()),
        ("code_verifier", crate::server::VERIFIER),
    ];
    server.post("/t1/token", &form).await.ok();
}
