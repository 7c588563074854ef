//! Login and consent in a browser.

use http::header;
use serde_json::json;

use crate::browser::{Browser, ticket};
use crate::server::{Answer, PASSWORD, Setup, TestServer, authorize_path, password_hash, text};

fn is_guarded(page: &Answer) {
    let policy = page.header(header::CONTENT_SECURITY_POLICY);
    assert!(
        policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
        "{policy}"
    );
    assert_eq!(page.header(header::X_FRAME_OPTIONS), "DENY");
    assert_eq!(page.header(header::REFERRER_POLICY), "no-referrer");
    assert_eq!(page.header(header::CACHE_CONTROL), "no-store");
    assert!(
        !page
            .headers
            .contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN)
    );
    assert!(
        !page.body.contains("<script") && !page.body.contains(" style="),
        "{page:?}"
    );
}

/// Nothing was decided: the page comes again, as it is now.
fn is_asked_again(server: &TestServer, answer: &Answer) {
    assert_eq!(answer.status, 303, "{answer:?}");
    let authorize = server.app.core.issuer.url("/authorize?");
    let location = answer.header(header::LOCATION);
    assert!(location.starts_with(&authorize), "{location}");
}

fn is_stale(page: &Answer) {
    assert_eq!(page.status, 400, "{page:?}");
    assert!(page.body.contains("no longer valid"), "{page:?}");
}

#[tokio::test]
async fn login_consent_code_tokens() {
    let server = TestServer::with_users().await;
    let mut browser = Browser::default();
    let login = browser.get(&server, &authorize_path(&[])).await;
    is_guarded(&login);
    let answer = browser.log_in(&server, &login, "alice", PASSWORD).await;
    assert_eq!(answer.status, 303);
    let consent = browser.get(&server, answer.header(header::LOCATION)).await;
    is_guarded(&consent);
    for shown in [
        "The app",
        "Read notes",
        "notes:read",
        "127.0.0.1:7777",
        "http://localhost:9001/mcp",
        "alice",
    ] {
        assert!(consent.body.contains(shown), "{shown}: {consent:?}");
    }
    let allowed = browser.decide(&server, &ticket(&consent), "allow").await;
    assert_eq!(
        allowed.location_param("iss").as_deref(),
        Some(server.issuer())
    );
    let tokens = server
        .redeem(&allowed.location_param("code").unwrap())
        .await
        .ok();
    let token = text(&tokens["access_token"]);
    let answer = server.introspect_as("notes-proxy", &token).await.ok();
    assert_eq!(answer["sub"], "alice");
}

#[tokio::test]
async fn denied() {
    let server = TestServer::with_users().await;
    let mut browser = Browser::of(&server, "alice").await;
    let page = browser.get(&server, &authorize_path(&[])).await;
    for decision in ["deny", ""] {
        let answer = browser.decide(&server, &ticket(&page), decision).await;
        assert_eq!(
            answer.location_param("error").as_deref(),
            Some("access_denied")
        );
        assert_eq!(
            answer.location_param("iss").as_deref(),
            Some(server.issuer())
        );
    }
}

#[tokio::test]
async fn post_is_answered_with_303_never_307() {
    let server = TestServer::with_users().await;
    let mut browser = Browser::of(&server, "alice").await;
    let page = browser.get(&server, &authorize_path(&[])).await;
    let answer = browser.decide(&server, &ticket(&page), "allow").await;
    assert_eq!(answer.status, 303);
    assert_eq!(answer.header(header::REFERRER_POLICY), "no-referrer");
}

#[tokio::test]
async fn consent_without_csrf_token() {
    let server = TestServer::with_users().await;
    let mut browser = Browser::of(&server, "alice").await;
    is_stale(
        &browser
            .post(&server, "/consent", &[("decision", "allow")])
            .await,
    );
    // The ticket of the attacker's browser, with the attacker's session even, in the victim's.
    let mut attacker = Browser::of(&server, "bob").await;
    let page = attacker.get(&server, &authorize_path(&[])).await;
    let answer = browser.decide(&server, &ticket(&page), "allow").await;
    is_asked_again(&server, &answer);
    // And without cookies.
    is_stale(
        &Browser::default()
            .decide(&server, &ticket(&page), "allow")
            .await,
    );
}

#[tokio::test]
async fn another_sessions_consent() {
    let server = TestServer::with_users().await;
    let mut browser = Browser::of(&server, "alice").await;
    let page = browser.get(&server, &authorize_path(&[])).await;
    // In the same browser somebody else logs in.
    let login = browser
        .get(&server, &authorize_path(&[("prompt", "login")]))
        .await;
    let answer = browser.log_in(&server, &login, "bob", PASSWORD).await;
    assert_eq!(answer.status, 303);
    let answer = browser.decide(&server, &ticket(&page), "allow").await;
    is_asked_again(&server, &answer);
    let page = browser.get(&server, answer.header(header::LOCATION)).await;
    assert!(page.body.contains("bob"), "{page:?}");
}

#[tokio::test]
async fn consent_with_tampered_scope() {
    let server = TestServer::with_users().await;
    let mut browser = Browser::of(&server, "alice").await;
    let page = browser.get(&server, &authorize_path(&[])).await;
    let good = ticket(&page);
    let (message, signature) = good.split_once('.').unwrap();
    use base64::Engine as _;
    let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let message = String::from_utf8(engine.decode(message).unwrap()).unwrap();
    let tampered = message
        .replace("notes:read", "notes:write")
        .replace("notes%3Aread", "notes%3Awrite");
    assert_ne!(message, tampered);
    let forged = format!("{}.{signature}", engine.encode(tampered));
    is_stale(&browser.decide(&server, &forged, "allow").await);
    // A scope beside the ticket changes nothing.
    let form = [
        ("ticket", good.as_str()),
        ("decision", "allow"),
        ("scope", "notes:write"),
    ];
    let answer = browser.post(&server, "/consent", &form).await;
    let tokens = server
        .redeem(&answer.location_param("code").unwrap())
        .await
        .ok();
    assert_eq!(tokens["scope"], "notes:read");
}

#[tokio::test]
async fn a_login_ticket_is_no_consent() {
    let server = TestServer::with_users().await;
    let mut browser = Browser::of(&server, "alice").await;
    let login = browser
        .get(&server, &authorize_path(&[("prompt", "login")]))
        .await;
    is_stale(&browser.decide(&server, &ticket(&login), "allow").await);
}

#[tokio::test]
async fn consent_to_what_has_changed_meanwhile() {
    let server = TestServer::with_users().await;
    let mut browser = Browser::of(&server, "alice").await;
    let page = browser
        .get(
            &server,
            &authorize_path(&[("scope", "notes:read notes:write")]),
        )
        .await;
    server
        .put_client(
            "app",
            json!({ "resources": [crate::server::notes(&["notes:read"])] }),
        )
        .await;
    let answer = browser.decide(&server, &ticket(&page), "allow").await;
    is_asked_again(&server, &answer);
    let page = browser.get(&server, answer.header(header::LOCATION)).await;
    assert!(!page.body.contains("notes:write"), "{page:?}");
}

#[tokio::test]
async fn an_old_page() {
    let server = TestServer::with_users().await;
    let mut browser = Browser::of(&server, "alice").await;
    let page = browser.get(&server, &authorize_path(&[])).await;
    server.clock.advance(std::time::Duration::from_secs(600));
    for decision in ["allow", "deny"] {
        let answer = browser.decide(&server, &ticket(&page), decision).await;
        is_asked_again(&server, &answer);
    }
    let page = browser.get(&server, &authorize_path(&[])).await;
    let answer = browser.decide(&server, &ticket(&page), "allow").await;
    assert!(answer.location_param("code").is_some(), "{answer:?}");
}

#[tokio::test]
async fn session_fixation() {
    let server = TestServer::with_users().await;
    let mut attacker = Browser::of(&server, "bob").await;
    let planted = attacker.cookie("session").to_owned();
    let mut victim = Browser::default();
    let page = victim.get(&server, &authorize_path(&[])).await;
    victim.log_in(&server, &page, "alice", PASSWORD).await;
    assert_ne!(victim.cookie("session"), planted);
    // The attacker's cookie is still the attacker's.
    let page = attacker.get(&server, &authorize_path(&[])).await;
    assert!(page.body.contains("bob") && !page.body.contains("alice"));
    // A login over a planted session begins a new one.
    victim.plant("session", &planted);
    let login = victim
        .get(&server, &authorize_path(&[("prompt", "login")]))
        .await;
    victim.log_in(&server, &login, "alice", PASSWORD).await;
    assert_ne!(victim.cookie("session"), planted);
}

#[tokio::test]
async fn a_forged_or_expired_session_is_none() {
    let server = TestServer::with_users().await;
    let mut browser = Browser::of(&server, "alice").await;
    let good = browser.cookie("session").to_owned();
    browser.plant("session", &format!("{good}x"));
    let page = browser.get(&server, &authorize_path(&[])).await;
    assert!(page.body.contains("Sign in"), "{page:?}");
    browser.plant("session", &good);
    server
        .clock
        .advance(std::time::Duration::from_secs(8 * 3600));
    let page = browser.get(&server, &authorize_path(&[])).await;
    assert!(page.body.contains("Sign in"), "{page:?}");
}

#[tokio::test]
async fn a_session_ends_with_its_password() {
    let server = TestServer::with_users().await;
    let mut browser = Browser::of(&server, "alice").await;
    let mut other = Browser::of(&server, "bob").await;
    let file = std::fs::read_to_string(server.users_file()).unwrap();
    let changed = file.replacen(&password_hash(PASSWORD), &password_hash("another one"), 1);
    std::fs::write(server.users_file(), changed + "\n").unwrap();
    let page = browser.get(&server, &authorize_path(&[])).await;
    assert!(page.body.contains("Sign in"), "{page:?}");
    let page = other.get(&server, &authorize_path(&[])).await;
    assert!(page.body.contains("bob"), "{page:?}");
}

#[tokio::test]
async fn open_return_to() {
    let server = TestServer::with_users().await;
    let mut browser = Browser::default();
    let page = browser.get(&server, &authorize_path(&[])).await;
    let form = [
        ("ticket", ticket(&page)),
        ("username", "alice".into()),
        ("password", PASSWORD.into()),
        ("return_to", "https://evil.example".into()),
    ];
    let form: Vec<(&str, &str)> = form
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let answer = browser.post(&server, "/login?return_to=x", &form).await;
    assert_eq!(answer.status, 400);
    let answer = browser.post(&server, "/login", &form).await;
    assert!(
        answer
            .header(header::LOCATION)
            .starts_with(&server.app.core.issuer.url("/authorize?")),
        "{answer:?}"
    );
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_user_look_the_same() {
    let server = TestServer::with_users().await;
    let mut browser = Browser::default();
    let page = browser.get(&server, &authorize_path(&[])).await;
    let wrong = browser.log_in(&server, &page, "alice", "wrong").await;
    let unknown = browser.log_in(&server, &page, "nobody", PASSWORD).await;
    for answer in [&wrong, &unknown] {
        assert_eq!(answer.status, 401);
        assert!(
            answer.body.contains("The user name or password is wrong"),
            "{answer:?}"
        );
        assert!(browser.cookie("session").is_empty());
    }
    // The form in the answer works.
    assert_eq!(
        browser
            .log_in(&server, &wrong, "alice", PASSWORD)
            .await
            .status,
        303
    );
}

#[tokio::test]
async fn repeated_failures_are_slowed_down_for_that_user_only() {
    let server = TestServer::with_users().await;
    let mut browser = Browser::default();
    let page = browser.get(&server, &authorize_path(&[])).await;
    for _ in 0..10 {
        assert_eq!(
            browser
                .log_in(&server, &page, "alice", "wrong")
                .await
                .status,
            401
        );
    }
    let answer = browser.log_in(&server, &page, "alice", PASSWORD).await;
    assert_eq!(answer.status, 429);
    assert!(answer.header(header::RETRY_AFTER).parse::<u32>().unwrap() > 0);
    assert_eq!(
        browser.log_in(&server, &page, "bob", PASSWORD).await.status,
        303
    );
    server.clock.advance(std::time::Duration::from_secs(120));
    let page = browser
        .get(&server, &authorize_path(&[("prompt", "login")]))
        .await;
    assert_eq!(
        browser
            .log_in(&server, &page, "alice", PASSWORD)
            .await
            .status,
        303
    );
}

#[tokio::test]
async fn guesses_that_come_together_are_slowed_down_too() {
    let server = TestServer::with_users().await;
    let mut browser = Browser::default();
    let page = browser.get(&server, &authorize_path(&[])).await;
    let (ticket, cookies) = (ticket(&page), browser.cookie_header());
    let form = [
        ("ticket", ticket.as_str()),
        ("username", "alice"),
        ("password", "wrong"),
    ];
    let headers = [(header::COOKIE, cookies.as_str())];
    let guesses = (0..40).map(|_| server.post_with("/login", &headers, &form));
    let answers = futures::future::join_all(guesses).await;
    let judged = answers.iter().filter(|answer| answer.status == 401).count();
    let refused = answers.iter().filter(|answer| answer.status == 429).count();
    assert_eq!((judged, refused), (10, 30));
}

/// A stranger behind the same gateway, who guesses a user's password or makes up names.
#[tokio::test]
async fn a_browser_that_was_used_before_is_not_locked_out() {
    let server = TestServer::with_users().await;
    let mut alice = Browser::of(&server, "alice").await;
    let mut stranger = Browser::default();
    let page = stranger.get(&server, &authorize_path(&[])).await;
    let mut guess = async |name: &str| {
        let answer = stranger.log_in(&server, &page, name, "wrong").await;
        answer.status.as_u16()
    };
    while guess("alice").await != 429 {}
    for n in 0..100 {
        guess(&format!("made-up-{n}")).await;
    }
    assert_eq!(guess("bob").await, 429, "over all names");
    let page = alice
        .get(&server, &authorize_path(&[("prompt", "login")]))
        .await;
    let again = alice.log_in(&server, &page, "alice", PASSWORD).await;
    assert_eq!(again.status, 303, "{again:?}");
    // The cookie is for its user alone, and no way to guess for ever.
    let other = alice.log_in(&server, &page, "bob", PASSWORD).await;
    assert_eq!(other.status, 429);
    let mut guesses = Vec::new();
    for _ in 0..12 {
        let guess = alice.log_in(&server, &page, "alice", "wrong").await;
        guesses.push(guess.status.as_u16());
    }
    assert_eq!(guesses[10..], [429, 429]);
}

async fn log_in_from(server: &TestServer, peer: &str, page: &Answer, cookies: &str) -> u16 {
    use tower::ServiceExt as _;
    let ticket = ticket(page);
    let form = [
        ("ticket", ticket.as_str()),
        ("username", "alice"),
        ("password", PASSWORD),
    ];
    let peer: std::net::SocketAddr = peer.parse().unwrap();
    let request = http::Request::post("/login")
        .header(header::CONTENT_TYPE, crate::server::FORM)
        .header(header::COOKIE, cookies)
        .extension(axum::extract::ConnectInfo(peer))
        .body(axum::body::Body::from(crate::server::query(&form)))
        .unwrap();
    let router = mcp_authserver::http::public::router(server.app.public.clone());
    router.oneshot(request).await.unwrap().status().as_u16()
}

/// 150 connections with made-up names, while a user logs in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_made_up_names_is_refused_and_costs_a_user_a_turn() {
    let server = TestServer::with_users().await;
    let mut stranger = Browser::default();
    let page = stranger.get(&server, &authorize_path(&[])).await;
    let (ticket, cookies) = (ticket(&page), stranger.cookie_header());
    let headers = [(header::COOKIE, cookies.as_str())];
    let flood = (0..150).map(async |n| {
        let name = format!("made-up-{n}");
        let form = [
            ("ticket", ticket.as_str()),
            ("username", &name),
            ("password", "wrong"),
        ];
        server
            .post_with("/login", &headers, &form)
            .await
            .status
            .as_u16()
    });
    let login = async {
        // From another address, behind the flood: it is asked first.
        log_in_from(&server, "192.0.2.7:1", &page, &cookies).await
    };
    let (answers, login) = futures::join!(futures::future::join_all(flood), login);
    assert_eq!(login, 303);
    let with = |status: u16| answers.iter().filter(|answer| **answer == status).count();
    assert!(with(401) <= 60, "{answers:?}");
    assert_eq!(with(401) + with(429) + with(503), 150, "{answers:?}");
    assert!(with(429) + with(503) >= 90, "{answers:?}");
}

#[tokio::test]
async fn a_password_that_is_too_long_is_refused_without_work() {
    let server = TestServer::with_users().await;
    let mut browser = Browser::default();
    let page = browser.get(&server, &authorize_path(&[])).await;
    let long = "x".repeat(1025);
    for _ in 0..20 {
        let answer = browser.log_in(&server, &page, "alice", &long).await;
        assert_eq!(answer.status, 401);
    }
    // None was counted.
    let answer = browser.log_in(&server, &page, "alice", PASSWORD).await;
    assert_eq!(answer.status, 303);
}

#[tokio::test]
async fn cookies_on_https_have_the_host_prefix() {
    let server = TestServer::with(Setup {
        issuer: "https://auth.example",
        local_users: true,
        ..Setup::default()
    })
    .await;
    let page = server.get(&authorize_path(&[])).await;
    let cookie = page.header(header::SET_COOKIE);
    assert!(cookie.starts_with("__Host-"), "{cookie}");
    for attribute in ["; Path=/", "; HttpOnly", "; SameSite=Lax", "; Secure"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
}

#[tokio::test]
async fn who_comes_to_a_forms_address_gets_a_page() {
    let server = TestServer::with_users().await;
    for path in ["/login", "/consent"] {
        let page = server.get(path).await;
        is_stale(&page);
        is_guarded(&page);
    }
}

#[tokio::test]
async fn a_users_file_that_is_away_is_not_the_users_fault() {
    let server = TestServer::with_users().await;
    let mut browser = Browser::of(&server, "alice").await;
    let page = browser.get(&server, &authorize_path(&[])).await;
    std::fs::remove_file(server.users_file()).unwrap();
    let answer = browser.decide(&server, &ticket(&page), "allow").await;
    assert_eq!(
        answer.location_param("error").as_deref(),
        Some("temporarily_unavailable")
    );
}

/// What is short enough before the login is short enough after it.
#[tokio::test]
async fn a_long_state_survives_the_login() {
    let server = TestServer::with_users().await;
    for (length, status) in [(2000, 200), (4000, 400)] {
        let path = authorize_path(&[]) + "&extra=" + &"/".repeat(length);
        let mut browser = Browser::default();
        let page = browser.get(&server, &path).await;
        assert_eq!(page.status, status);
        if status == 200 {
            let answer = browser.log_in(&server, &page, "alice", PASSWORD).await;
            let page = browser.get(&server, answer.header(header::LOCATION)).await;
            assert_eq!(page.status, 200);
        }
    }
}

#[tokio::test]
async fn the_consent_page_says_what_is_implied_and_where_the_answer_goes() {
    let server = TestServer::with_users().await;
    let uri = "cursor://anysphere.cursor-mcp/oauth/callback";
    let client = json!({ "clientName": " \u{3000}", "redirectUris": [uri] });
    server.put_client("cursor", client).await;
    let mut browser = Browser::of(&server, "alice").await;
    let changes = [
        ("client_id", "cursor"),
        ("redirect_uri", uri),
        ("scope", "notes:write"),
    ];
    let page = browser.get(&server, &authorize_path(&changes)).await;
    for shown in [
        ">cursor</bdi> wants access",
        "Change notes",
        "Read notes",
        "cursor:",
        "a program on this computer",
    ] {
        assert!(page.body.contains(shown), "{shown}: {page:?}");
    }
    let answer = browser.decide(&server, &ticket(&page), "allow").await;
    assert!(
        answer.header(header::LOCATION).starts_with(uri),
        "{answer:?}"
    );
    assert!(answer.location_param("code").is_some());
}

/// Clients with several servers open a tab for each at once: the cookie of the second replaces that of
/// the first.
#[tokio::test]
async fn tabs_opened_at_once_both_get_there() {
    let server = TestServer::with_users().await;
    let (mut browser, mut second) = (Browser::default(), Browser::default());
    let page = browser.get(&server, &authorize_path(&[])).await;
    second.get(&server, &authorize_path(&[])).await;
    browser.plant("form", second.cookie("form"));
    let again = browser.log_in(&server, &page, "alice", PASSWORD).await;
    assert_eq!(again.status, 400);
    is_guarded(&again);
    for shown in ["Sign in again", r#"value="alice""#] {
        assert!(again.body.contains(shown), "{again:?}");
    }
    assert!(browser.cookie("session").is_empty());
    let answer = browser.log_in(&server, &again, "alice", PASSWORD).await;
    assert_eq!(answer.status, 303, "{answer:?}");
}

#[tokio::test]
async fn a_resource_without_scopes_is_given_whole_and_consent_says_so() {
    let server = TestServer::with_users().await;
    let uri = "https://plain.example/mcp";
    let allowed = json!({ "namespaces": ["team"] });
    let resource = json!({ "resource": uri, "name": "plain", "allowedClients": allowed });
    let path = "/admin/v1/resources/plain";
    let answer = server.admin(http::Method::PUT, path, &resource).await;
    answer.ok();
    let named = json!([{ "uri": uri }, crate::server::notes(&["notes:read"])]);
    server
        .put_client("app", json!({ "resources": named }))
        .await;
    let mut browser = Browser::of(&server, "alice").await;
    for scope in ["", "openid"] {
        let changes = [("resource", uri), ("scope", scope)];
        let page = browser.get(&server, &authorize_path(&changes)).await;
        assert!(page.body.contains("Use all features"), "{page:?}");
    }
    let page = browser.get(&server, &authorize_path(&[])).await;
    assert!(!page.body.contains("Use all features"), "{page:?}");
}

#[tokio::test]
async fn a_trusted_client_needs_no_consent_where_the_resource_agrees() {
    let server = TestServer::with_users().await;
    let put = async |consent: &str, without_consent: serde_json::Value| {
        let path = "/admin/v1/resources/notes";
        let found = server.admin(http::Method::GET, path, &json!(null)).await;
        let mut resource = found.ok();
        resource["allowedClients"]["withoutConsent"] = without_consent;
        server.admin(http::Method::PUT, path, &resource).await.ok();
        let changes = json!({ "consent": consent, "redirectUris": [crate::server::WEB] });
        server.put_client("app", changes).await;
    };
    let own = json!({ "namespaces": ["team"] });
    let mut browser = Browser::of(&server, "alice").await;
    let mut visit = async |changes: &[(&str, &str)]| {
        let changes = [&[("redirect_uri", crate::server::WEB)], changes].concat();
        browser.get(&server, &authorize_path(&changes)).await
    };
    let none = json!({ "namespaces": [] });
    let others = json!({ "namespaces": ["others"] });
    for (consent, without_consent) in [("ask", &own), ("trusted", &none), ("trusted", &others)] {
        put(consent, without_consent.clone()).await;
        let page = visit(&[]).await;
        assert_eq!(page.status, 200, "{consent} {without_consent}: {page:?}");
        let silent = visit(&[("prompt", "none")]).await;
        let error = silent.location_param("error");
        assert_eq!(error.as_deref(), Some("consent_required"), "{silent:?}");
    }
    for without_consent in [own, json!({ "allNamespaces": true })] {
        put("trusted", without_consent).await;
        for changes in [&[][..], &[("prompt", "none")]] {
            let answer = visit(changes).await;
            assert!(answer.location_param("code").is_some(), "{answer:?}");
        }
        // Unless the client asks for the page; and nobody is signed in by trust.
        for prompt in ["consent", "login"] {
            let page = visit(&[("prompt", prompt)]).await;
            assert_eq!(page.status, 200, "{prompt}: {page:?}");
        }
    }
    let stranger = Browser::default()
        .get(
            &server,
            &authorize_path(&[("redirect_uri", crate::server::WEB)]),
        )
        .await;
    assert_eq!(stranger.status, 200, "{stranger:?}");
}

/// The `Path` of each cookie that an answer sets.
fn cookie_paths(answer: &Answer) -> Vec<String> {
    let lines = answer.headers.get_all(header::SET_COOKIE).iter();
    let path = |line: &str| {
        let (_, rest) = line.split_once("; Path=").unwrap();
        rest.split(';').next().unwrap().to_owned()
    };
    lines.map(|line| path(line.to_str().unwrap())).collect()
}

/// The place in a URL, such as `/browser/…`.
fn place(url: &str) -> &str {
    let from = url.find("/browser/").unwrap_or_else(|| panic!("{url}"));
    let rest = &url[from..];
    let end = rest.match_indices('/').nth(2).unwrap().0;
    &rest[..end]
}

/// A13: browsers send the cookies of http://localhost:1 to http://localhost:2, so to a client's callback server, too.
#[tokio::test]
async fn on_loopback_no_other_port_gets_the_cookies_of_a_session() {
    let server = TestServer::with_users_on_loopback().await;
    let mut browser = Browser::default();
    let answer = browser.get(&server, &authorize_path(&[])).await;
    assert_eq!(answer.status, 303, "{answer:?}");
    assert_eq!(cookie_paths(&answer), Vec::<String>::new());
    let login_url = answer.header(header::LOCATION).to_owned();
    let first = place(&login_url);
    let page = browser.get(&server, &login_url).await;
    assert_eq!(cookie_paths(&page), [first]);
    let form = [
        ("ticket", &*ticket(&page)),
        ("username", "alice"),
        ("password", PASSWORD),
    ];
    let answer = browser
        .post(&server, &format!("{first}/login"), &form)
        .await;
    let consent_url = answer.header(header::LOCATION).to_owned();
    let second = place(&consent_url);
    // Somebody could have sent the browser to the first one.
    assert_ne!(first, second);
    assert_eq!(cookie_paths(&answer), [second, second]);
    let page = browser.get(&server, &consent_url).await;
    let form = [("ticket", &*ticket(&page)), ("decision", "allow")];
    let answer = browser
        .post(&server, &format!("{second}/consent"), &form)
        .await;
    assert!(answer.location_param("code").is_some(), "{answer:?}");

    // Where no cookie can be, nobody signs in.
    let page = Browser::default().get(&server, &login_url).await;
    let answer = Browser::default()
        .log_in(&server, &page, "alice", PASSWORD)
        .await;
    is_stale(&answer);
    let made_up = authorize_path(&[]).replace("/authorize", "/browser/x%3B%20Domain%3Da/authorize");
    let answer = Browser::default().get(&server, &made_up).await;
    assert_eq!(answer.status, 303, "{answer:?}");
    assert_ne!(place(answer.header(header::LOCATION)), "/browser/x");
}

/// A19: a page on the web gets no token for who merely visits it.
#[tokio::test]
async fn development_mode_asks_for_a_click_where_the_web_could_be_behind_it() {
    let server = TestServer::start().await;
    let uris = [
        "http://127.0.0.1/callback",
        "cursor://x/callback",
        "https://app.example/callback",
        "other:/callback",
    ];
    let changes = json!({ "redirectUris": uris });
    server.put_client("app", changes).await;
    for (uri, site, asks) in [
        (uris[0], "none", false),
        (uris[0], "same-origin", false),
        (uris[0], "same-site", false),
        (uris[0], "cross-site", true),
        (uris[1], "none", false),
        (uris[1], "cross-site", true),
        (uris[2], "none", true),
        (uris[2], "cross-site", true),
        (uris[3], "none", true),
    ] {
        let mut browser = Browser::default();
        let path = authorize_path(&[("redirect_uri", uri)]);
        let request = server
            .public(http::Method::GET, &path)
            .header("sec-fetch-site", site);
        let answer = server.send(request.body(Default::default()).unwrap()).await;
        let code = answer.location_param("code");
        assert_eq!(code.is_none(), asks, "{uri} {site}: {answer:?}");
        if !asks {
            continue;
        }
        browser.keep(&answer.headers);
        let url = answer.header(header::LOCATION).to_owned();
        let page = browser.get(&server, &url).await;
        is_guarded(&page);
        assert!(page.body.contains("developer"), "{page:?}");
        let form = [("ticket", &*ticket(&page)), ("decision", "allow")];
        let answer = browser
            .post(&server, &format!("{}/consent", place(&url)), &form)
            .await;
        assert!(answer.location_param("code").is_some(), "{answer:?}");
    }
    let silent = [("redirect_uri", uris[2]), ("prompt", "none")];
    let answer = server.authorize(&silent).await;
    let error = answer.location_param("error");
    assert_eq!(error.as_deref(), Some("consent_required"), "{answer:?}");
}

/// Put back, the old password does not bring the grants back.
#[tokio::test]
async fn a_changed_password_ends_the_users_grants() {
    let server = TestServer::with_users().await;
    let mut browser = Browser::of(&server, "alice").await;
    let page = browser.get(&server, &authorize_path(&[])).await;
    let allowed = browser.decide(&server, &ticket(&page), "allow").await;
    let unused = browser.get(&server, &authorize_path(&[])).await;
    let unused = browser.decide(&server, &ticket(&unused), "allow").await;
    let code = |answer: &Answer| answer.location_param("code").unwrap();
    let tokens = server.redeem(&code(&allowed)).await.ok();
    let before = std::fs::read_to_string(server.users_file()).unwrap();
    let hash = crate::server::password_hash("another password");
    let users = json!({ "users": [{ "name": "alice", "passwordHash": hash }] });
    std::fs::write(server.users_file(), users.to_string()).unwrap();
    let refresh = text(&tokens["refresh_token"]);
    server
        .refresh(&refresh)
        .await
        .is_error(400, "invalid_grant");
    server
        .redeem(&code(&unused))
        .await
        .is_error(400, "invalid_grant");
    assert!(!server.is_active(&text(&tokens["access_token"])).await);
    std::fs::write(server.users_file(), before).unwrap();
    server
        .refresh(&refresh)
        .await
        .is_error(400, "invalid_grant");
}
