//! How often the authorization server is asked, and what happens when it does not answer.

use std::time::Duration;

use futures::future::join_all;
use http::StatusCode;
use mcp_resource_proxy::config::Config;
use mcpauth_test_support::certificates::Authority;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::common::introspection::{CREDENTIAL, IntrospectionServer, active};
use crate::common::{NOW, World};

const WINDOW: Duration = Duration::from_millis(900);

async fn world_with(more: &str) -> World {
    let world = World::with(more).await;
    world.introspection.grant("good", "notes:read");
    world
}

async fn status(world: &World, token: &str) -> StatusCode {
    world.call(token, "read").await.status
}

#[tokio::test]
async fn fifty_calls_at_once_are_one_question() {
    let world = world_with("").await;
    world.introspection.close();
    let calls = join_all((0..50).map(|_| status(&world, "good")));
    let open = async {
        world.introspection.arrived(1).await;
        // All the others stand in the same queue before the answer comes.
        while world.metric("mcpauth_proxy_token_lookups_total{result=\"joined\"}") < 49.0 {
            tokio::task::yield_now().await;
        }
        world.introspection.open(1);
    };
    let (statuses, ()) = tokio::join!(calls, open);
    assert_eq!(statuses, [StatusCode::OK; 50]);
    assert_eq!(world.introspection.asked(), ["good"]);
}

/// Each of them holds its head in memory, and HTTP/2 lets one connection send many.
#[tokio::test]
async fn a_flood_of_calls_with_one_unknown_token_is_turned_away_and_those_with_a_good_one_are_not()
{
    let world = world_with("").await;
    assert_eq!(status(&world, "good").await, StatusCode::OK);
    world.introspection.arrived(1).await;
    world.clock.advance(WINDOW);
    world.introspection.close();
    let flood = join_all((0..1100).map(|_| status(&world, "flood")));
    let rest = async {
        while world.metric("mcpauth_proxy_token_lookups_total{result=\"joined\"}") < 1099.0 {
            tokio::task::yield_now().await;
        }
        let good = join_all((0..50).map(|_| status(&world, "good")));
        let open = async {
            while world.metric("mcpauth_proxy_token_lookups_total{result=\"joined\"}") < 1148.0 {
                tokio::task::yield_now().await;
            }
            world.introspection.open(2);
        };
        tokio::join!(good, open).0
    };
    let (flood, good) = tokio::join!(flood, rest);
    assert_eq!(good, [StatusCode::OK; 50]);
    let away = flood
        .iter()
        .filter(|status| **status == StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(away.count(), 1100 - 1 - 512);
}

#[tokio::test]
async fn a_cached_token_lives_no_longer_than_its_window() {
    let world = world_with("").await;
    assert_eq!(status(&world, "good").await, StatusCode::OK);
    world.introspection.set("good", &json!({"active": false}));
    world.clock.advance(WINDOW - Duration::from_millis(1));
    assert_eq!(status(&world, "good").await, StatusCode::OK);
    world.clock.advance(Duration::from_millis(1));
    assert_eq!(status(&world, "good").await, StatusCode::UNAUTHORIZED);
    assert_eq!(world.introspection.asked().len(), 2);
}

#[tokio::test]
async fn a_cached_token_lives_no_longer_than_its_exp() {
    let world = world_with("").await;
    let mut answer = active("notes:read");
    answer["exp"] = json!(NOW as f64 + 0.25);
    world.introspection.set("short", &answer);
    assert_eq!(status(&world, "short").await, StatusCode::OK);
    world.clock.advance(Duration::from_millis(249));
    assert_eq!(status(&world, "short").await, StatusCode::OK);
    assert_eq!(world.introspection.asked().len(), 1);
    world.clock.advance(Duration::from_millis(1));
    assert_eq!(status(&world, "short").await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_bad_token_is_not_asked_for_again_and_again() {
    let world = world_with("").await;
    for _ in 0..3 {
        assert_eq!(status(&world, "unknown").await, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(world.introspection.asked(), ["unknown"]);
    world.introspection.grant("unknown", "notes:read");
    world.clock.advance(WINDOW);
    assert_eq!(status(&world, "unknown").await, StatusCode::OK);
}

#[tokio::test]
async fn a_flood_of_unknown_tokens_cannot_evict_good_ones() {
    let world =
        world_with("introspection: { endpoint: ENDPOINT, tokenFile: TOKEN, cacheEntries: 4 }")
            .await;
    assert_eq!(status(&world, "good").await, StatusCode::OK);
    for flood in 0..100 {
        status(&world, &format!("flood-{flood}")).await;
    }
    assert_eq!(status(&world, "good").await, StatusCode::OK);
    let asked = world.introspection.asked();
    assert_eq!(asked.iter().filter(|token| *token == "good").count(), 1);
}

#[tokio::test]
async fn a_flood_of_unknown_tokens_cannot_flood_introspection() {
    let world = world_with("").await;
    assert_eq!(status(&world, "good").await, StatusCode::OK);
    world.introspection.arrived(1).await;
    world.clock.advance(WINDOW);
    world.introspection.close();
    let flood: Vec<String> = (0..300).map(|index| format!("flood-{index}")).collect();
    let statuses = join_all(flood.iter().map(|token| status(&world, token)));
    let rest = async {
        // As many as are asked at once; the others wait or are turned away.
        world.introspection.arrived(16).await;
        while world.metric("mcpauth_proxy_token_lookups_total{result=\"miss\"}") < 301.0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(world.introspection.asked().len(), 17);
        // A token that was good a moment ago does not stand in that queue.
        let good = status(&world, "good");
        let answer = async {
            world.introspection.arrived(1).await;
            assert_eq!(world.introspection.asked().last().unwrap(), "good");
            world.introspection.open(1000);
        };
        tokio::join!(good, answer).0
    };
    let (statuses, good) = tokio::join!(statuses, rest);
    assert_eq!(good, StatusCode::OK);
    let refused = statuses
        .iter()
        .filter(|status| **status == StatusCode::UNAUTHORIZED)
        .count();
    let away = statuses
        .iter()
        .filter(|status| **status == StatusCode::SERVICE_UNAVAILABLE)
        .count();
    assert_eq!((refused, away), (256, 44));
}

#[tokio::test]
async fn the_authorization_server_away() {
    let world = world_with(
        "introspection: { endpoint: 'http://127.0.0.1:1/introspect', tokenFile: TOKEN }",
    )
    .await;
    let answer = world.call("good", "read").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.header("retry-after"), "2");
    assert_eq!(answer.header("www-authenticate"), "");
    assert_eq!(answer.json()["error"], "temporarily_unavailable");
    assert!(world.mcp.received().is_empty());
}

/// A replica that stops closes its connections, also one on which the next request already is.
#[tokio::test]
async fn a_connection_that_is_closed_under_a_question_costs_no_request() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stopping = tokio::spawn(async move {
        let body = active("notes:read").to_string();
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        for answers in [false, true] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let read = stream.read(&mut [0; 4096]).await.unwrap();
            assert_ne!(read, 0);
            if answers {
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    });
    let endpoint = format!("http://{address}/introspect");
    let world = world_with(&format!(
        "introspection: {{ endpoint: '{endpoint}', tokenFile: TOKEN }}"
    ))
    .await;
    assert_eq!(status(&world, "good").await, StatusCode::OK);
    stopping.await.unwrap();
}

#[tokio::test]
async fn a_useless_answer_fails_closed() {
    let world = world_with("").await;
    for (status, body) in [
        (StatusCode::INTERNAL_SERVER_ERROR, "{\"active\":true}"),
        (StatusCode::TOO_MANY_REQUESTS, ""),
        (StatusCode::UNAUTHORIZED, ""),
        (StatusCode::FORBIDDEN, ""),
        (StatusCode::FOUND, ""),
        (StatusCode::OK, ""),
        (StatusCode::OK, "true"),
        (StatusCode::OK, "{\"active\":\"true\"}"),
        (StatusCode::OK, "{\"active\":false,\"active\":true}"),
        (
            StatusCode::OK,
            "{\"active\":true,\"aud\":\"http://localhost:9001/mcp\"}",
        ),
    ] {
        world.introspection.respond("odd", status, body);
        let answer = world.call("odd", "read").await;
        assert_eq!(
            answer.status,
            StatusCode::SERVICE_UNAVAILABLE,
            "{status} {body}"
        );
    }
    assert!(world.mcp.received().is_empty());
    // Nothing of it is remembered.
    world.introspection.grant("odd", "notes:read");
    assert_eq!(status(&world, "odd").await, StatusCode::OK);
}

#[tokio::test]
async fn an_endpoint_that_hangs_fails_closed() {
    let world = world_with(
        "introspection: { endpoint: ENDPOINT, tokenFile: TOKEN, timeoutMilliseconds: 50 }",
    )
    .await;
    world.introspection.close();
    assert_eq!(
        status(&world, "good").await,
        StatusCode::SERVICE_UNAVAILABLE
    );
    // With time enough, for a machine that is busy with other tests.
    world.introspection.open(1000);
    world.reconfigure("");
    assert_eq!(status(&world, "good").await, StatusCode::OK);
}

#[tokio::test]
async fn a_cached_token_works_while_the_authorization_server_is_away_and_only_so_long() {
    let world = world_with("").await;
    assert_eq!(status(&world, "good").await, StatusCode::OK);
    world
        .introspection
        .respond("good", StatusCode::BAD_GATEWAY, "");
    world.clock.advance(WINDOW - Duration::from_millis(1));
    assert_eq!(status(&world, "good").await, StatusCode::OK);
    world.clock.advance(Duration::from_millis(1));
    assert_eq!(
        status(&world, "good").await,
        StatusCode::SERVICE_UNAVAILABLE
    );
}

#[tokio::test]
async fn the_credential_is_read_when_it_changes() {
    let world = world_with("").await;
    std::fs::write(world.token_file(), "outdated\n").unwrap();
    assert_eq!(
        status(&world, "good").await,
        StatusCode::SERVICE_UNAVAILABLE
    );
    std::fs::remove_file(world.token_file()).unwrap();
    assert_eq!(
        status(&world, "good").await,
        StatusCode::SERVICE_UNAVAILABLE
    );
    std::fs::write(world.token_file(), format!("{CREDENTIAL}\n")).unwrap();
    assert_eq!(status(&world, "good").await, StatusCode::OK);
    let shown = ["Bearer outdated", "Bearer proxy-credential"];
    assert_eq!(world.introspection.credentials(), shown);
}

#[tokio::test]
async fn a_basic_credential_is_encoded_as_rfc_6749_says() {
    let world = world_with(
        "introspection: { endpoint: ENDPOINT, basic: { id: 'a:b', secretFile: TOKEN } }",
    )
    .await;
    std::fs::write(world.token_file(), "s+ %").unwrap();
    assert_eq!(
        status(&world, "good").await,
        StatusCode::SERVICE_UNAVAILABLE
    );
    // base64("a%3Ab:s%2B+%25")
    assert_eq!(
        world.introspection.credentials(),
        ["Basic YSUzQWI6cyUyQislMjU="]
    );
}

#[tokio::test]
async fn a_token_that_cannot_be_one_is_refused_here() {
    let world = world_with("").await;
    assert_eq!(
        status(&world, &"a".repeat(9000)).await,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(status(&world, "a,b").await, StatusCode::BAD_REQUEST);
    assert!(world.introspection.asked().is_empty());
}

/// The configuration with this endpoint, whose certificate is of one of these authorities.
fn over_tls(world: &World, server: &IntrospectionServer, authorities: &[&Authority]) -> Config {
    let mut config = Config::parse(&world.configuration("")).unwrap();
    let port = server.address.port();
    config.introspection.endpoint = format!("https://localhost:{port}/introspect");
    let read = |authority: &&Authority| std::fs::read_to_string(authority.ca()).unwrap();
    config.introspection.ca = Some(authorities.iter().map(read).collect());
    config
}

#[tokio::test]
async fn over_tls_only_the_ca_of_the_configuration_is_trusted_and_the_name_counts() {
    let world = World::new().await;
    let (authority, other) = (Authority::new(), Authority::new());
    let server = IntrospectionServer::with_tls(&authority, "localhost").await;
    let elsewhere = IntrospectionServer::with_tls(&authority, "elsewhere").await;
    for one in [&server, &elsewhere] {
        one.grant("good", "notes:read");
    }
    for (server, authorities, expected) in [
        (&server, &[&authority][..], StatusCode::OK),
        // A rotation of the CA: both are trusted.
        (&server, &[&other, &authority], StatusCode::OK),
        (&server, &[&other], StatusCode::SERVICE_UNAVAILABLE),
        (&elsewhere, &[&authority], StatusCode::SERVICE_UNAVAILABLE),
    ] {
        let config = over_tls(&world, server, authorities);
        world.proxy.reconfigure(config).unwrap();
        assert_eq!(status(&world, "good").await, expected);
    }
    assert_eq!(server.asked(), ["good", "good"]);
    assert_eq!(elsewhere.asked().len(), 0);
    // A CA that cannot be used is no configuration.
    let mut config = over_tls(&world, &server, &[&authority]);
    let text = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    config.introspection.ca = Some(text.to_owned());
    let error = world.proxy.reconfigure(config).unwrap_err().to_string();
    assert!(error.starts_with("introspection.ca: "), "{error}");
}
