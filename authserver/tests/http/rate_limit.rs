//! The limits at the token endpoint.

use http::header;
use serde_json::json;

use crate::server::{SECRET, Setup, TestServer};

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
async fn failures_count_on_the_address_and_others_behind_it_are_let_through() {
    let server = limited().await;
    for _ in 0..3 {
        server
            .token(&STRANGER)
            .await
            .is_error(401, "invalid_client");
    }
    let answer = server.token(&STRANGER).await;
    answer.is_error(429, "temporarily_unavailable");
    assert!(answer.header(header::RETRY_AFTER).parse::<u32>().unwrap() > 0);
    server.token(&POSTER).await.ok();
}

#[tokio::test]
async fn a_stranger_cannot_use_up_a_clients_limit() {
    let server = limited().await;
    for _ in 0..20 {
        server.token(&STRANGER).await;
    }
    for _ in 0..5 {
        server.token(&POSTER).await.ok();
    }
}

#[tokio::test]
async fn guessing_codes_counts_as_failure() {
    let server = limited().await;
    for _ in 0..3 {
        server
            .redeem("mac_guess")
            .await
            .is_error(400, "invalid_grant");
    }
    server
        .redeem("mac_guess")
        .await
        .is_error(429, "temporarily_unavailable");
}

#[tokio::test]
async fn the_default_lets_a_test_suite_through() {
    let server = TestServer::start().await;
    server.put_client("busy", json!({
        "tokenEndpointAuthMethod": "client_secret_post", "clientSecret": "s",
        "grantTypes": ["client_credentials"], "redirectUris": [], "resources": [crate::server::NOTES],
    })).await;
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", "busy"),
        ("client_secret", "s"),
    ];
    for _ in 0..600 {
        server.token(&form).await.ok();
    }
    assert_eq!(server.token(&form).await.status, 429);
}
