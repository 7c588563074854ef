//! The limits at the token endpoint.

use std::collections::BTreeSet;

use http::{HeaderName, header};
use serde_json::json;

use crate::server::{Answer, FORM, SECRET, Setup, TestServer, query, text};

async fn limited() -> TestServer {
    TestServer::with(Setup {
        more: "rateLimit: { clientRequestsPerMinute: 5, addressFailuresPerMinute: 3 }",
        ..Setup::default()
    })
    .await
}

const POSTER: [(&str, &str); 3] = [
    ("grant_type", "client_credentials"),
    ("client_id", "poster"),
    ("client_secret", SECRET),
];
const STRANGER: [(&str, &str); 3] = [
    ("grant_type", "client_credentials"),
    ("client_id", "poster"),
    ("client_secret", "guess"),
];

#[tokio::test]
async fn a_client_over_its_limit_gets_429_with_retry_after() {
    let server = limited().await;
    for _ in 0..5 {
        server.token(&POSTER).await.ok();
    }
    let answer = server.token(&POSTER).await;
    answer.is_error(429, "temporarily_unavailable");
    let wait: u64 = answer.header(header::RETRY_AFTER).parse().unwrap();
    server.clock.advance(std::time::Duration::from_secs(wait));
    server.token(&POSTER).await.ok();
}

#[tokio::test]
async fn guessing_a_secret_ends_before_the_right_one_is_tried() {
    let server = limited().await;
    for _ in 0..3 {
        server
            .token(&STRANGER)
            .await
            .is_error(401, "invalid_client");
    }
    for guess in [STRANGER, POSTER] {
        let answer = server.token(&guess).await;
        answer.is_error(429, "temporarily_unavailable");
        assert!(answer.header(header::RETRY_AFTER).parse::<u32>().unwrap() > 0);
    }
    // Neither another client nor one without a secret is concerned, nor one that does not exist.
    server.tokens(&[]).await;
    let unknown = [STRANGER[0], ("client_id", "nobody"), STRANGER[2]];
    for _ in 0..10 {
        let answer = server.token(&unknown).await;
        answer.is_error(401, "invalid_client");
    }
    server.clock.advance(std::time::Duration::from_secs(120));
    server.token(&POSTER).await.ok();
}

/// Behind a gateway everybody has one address.
#[tokio::test]
async fn guessing_locks_nobody_out_where_the_right_secret_came_from() {
    let server = limited().await;
    server.token(&POSTER).await.ok();
    for _ in 0..20 {
        let answer = server.token(&STRANGER).await;
        answer.is_error(401, "invalid_client");
    }
    // Nor does it use up the client's limit.
    for _ in 1..5 {
        server.token(&POSTER).await.ok();
    }
    // Nor after a restart, or at another replica.
    let failures = mcp_authserver::http::client_auth::guesses::Guesses::new(
        std::sync::Arc::clone(&server.app.core),
        1,
    );
    let here = failures.of("poster", std::net::Ipv4Addr::LOCALHOST.into());
    let elsewhere = failures.of("poster", std::net::Ipv4Addr::new(192, 0, 2, 1).into());
    for source in [&here, &elsewhere] {
        source.failed();
    }
    assert!(here.admit().await.is_ok());
    assert!(elsewhere.admit().await.is_err());
}

#[tokio::test]
async fn a_trusted_header_from_an_untrusted_peer() {
    let server = limited().await;
    let from = async |address: &'static str| {
        let headers = [
            (header::FORWARDED, address),
            (HeaderName::from_static("x-forwarded-for"), address),
            (HeaderName::from_static("x-real-ip"), address),
        ];
        server.post_with("/token", &headers, &STRANGER).await
    };
    for address in ["10.0.0.1", "10.0.0.2", "10.0.0.3"] {
        from(address).await.is_error(401, "invalid_client");
    }
    let answer = from("10.0.0.4").await;
    answer.is_error(429, "temporarily_unavailable");
}

async fn behind_a_gateway(networks: &str) -> TestServer {
    let more = format!(
        "rateLimit: {{ clientRequestsPerMinute: 5, addressFailuresPerMinute: 3, loginFailuresPerMinute: 3 }}\n\
         clientAddress: {{ trustedProxies: [{networks}] }}"
    );
    TestServer::with(Setup {
        issuer: "https://auth.example",
        local_users: true,
        more: more.leak(),
        ..Setup::default()
    })
    .await
}

async fn forwarded(server: &TestServer, values: &'static str, form: &[(&str, &str)]) -> Answer {
    let header = HeaderName::from_static("x-forwarded-for");
    server.post_with("/token", &[(header, values)], form).await
}

#[tokio::test]
async fn behind_a_trusted_proxy_each_client_has_its_own_limit() {
    let server = behind_a_gateway("127.0.0.1/32, 10.0.0.0/8").await;
    for _ in 0..3 {
        let answer = forwarded(&server, "198.51.100.1", &STRANGER).await;
        answer.is_error(401, "invalid_client");
    }
    for same in [
        "198.51.100.1",
        "203.0.113.9, 198.51.100.1",
        "198.51.100.1, 10.0.0.7",
    ] {
        let answer = forwarded(&server, same, &STRANGER).await;
        answer.is_error(429, "temporarily_unavailable");
    }
    for other in ["198.51.100.2", "198.51.100.1, 198.51.100.3", "unknown"] {
        let answer = forwarded(&server, other, &STRANGER).await;
        answer.is_error(401, "invalid_client");
    }
    // The audit has the same addresses: those of three clients, and the gateway's.
    let lines = server.audited();
    let addresses: BTreeSet<_> = lines.iter().map(|line| text(&line["address"])).collect();
    let expected = ["127.0.0.1", "198.51.100.1", "198.51.100.2", "198.51.100.3"];
    assert_eq!(addresses, expected.map(str::to_owned).into());
}

#[tokio::test]
async fn a_proxy_that_is_not_listed_is_not_believed() {
    let server = behind_a_gateway("192.0.2.10/32").await;
    for address in ["198.51.100.1", "198.51.100.2", "198.51.100.3"] {
        let answer = forwarded(&server, address, &STRANGER).await;
        answer.is_error(401, "invalid_client");
    }
    let answer = forwarded(&server, "198.51.100.4", &STRANGER).await;
    answer.is_error(429, "temporarily_unavailable");
}

/// Whoever has one IPv6 address has 2^64 of them.
#[tokio::test]
async fn addresses_of_one_ipv6_network_count_together() {
    use tower::ServiceExt as _;
    let server = limited().await;
    let status = async |address: &str| {
        let peer: std::net::SocketAddr = format!("[{address}]:1").parse().unwrap();
        let request = http::Request::post("/token")
            .header(header::CONTENT_TYPE, FORM)
            .extension(axum::extract::ConnectInfo(peer))
            .body(axum::body::Body::from(query(&STRANGER)))
            .unwrap();
        let router = mcp_authserver::http::public::router(server.app.public.clone());
        router.oneshot(request).await.unwrap().status().as_u16()
    };
    for (address, expected) in [
        ("2001:db8:0:1::1", 401),
        ("2001:db8:0:1::2", 401),
        ("2001:db8:0:1:ffff::1", 401),
        ("2001:db8:0:1::4", 429),
        ("2001:db8:0:2::1", 401),
        // An IPv4 address mapped into IPv6 is one address.
        ("::ffff:192.0.2.1", 401),
        ("::ffff:192.0.2.1", 401),
        ("::ffff:192.0.2.1", 401),
        ("::ffff:192.0.2.1", 429),
        ("::ffff:192.0.2.2", 401),
    ] {
        assert_eq!(status(address).await, expected, "{address}");
    }
}

/// A client must learn that its user has to log in again.
#[tokio::test]
async fn invalid_grant_is_never_masked() {
    let server = limited().await;
    server.put_client("other", json!({})).await;
    for client in ["app", "other"] {
        for _ in 0..5 {
            let form = [
                ("grant_type", "refresh_token"),
                ("client_id", client),
                ("refresh_token", "mrt_guess"),
            ];
            server.token(&form).await.is_error(400, "invalid_grant");
        }
    }
}

#[tokio::test]
async fn the_default_lets_a_test_suite_through() {
    let server = TestServer::start().await;
    server.put_client("busy", json!({
        "tokenEndpointAuthMethod": "client_secret_post", "clientSecret": crate::server::SECRET,
        "grantTypes": ["client_credentials"], "redirectUris": [], "resources": [crate::server::notes(&["notes:read"])],
    })).await;
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", "busy"),
        ("client_secret", crate::server::SECRET),
    ];
    for _ in 0..600 {
        server.token(&form).await.ok();
    }
    assert_eq!(server.token(&form).await.status, 429);
}
