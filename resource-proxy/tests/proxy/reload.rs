//! New versions of the configuration file.

use std::os::unix::fs::symlink;
use std::sync::Arc;

use http::StatusCode;
use mcp_resource_proxy::reload::{Outcome, Reloader};

use mcpauth_test_support::logs;
use mcpauth_wire::proxy_health;

use crate::common::World;

const REJECTED: &str = "mcpauth_proxy_config_rejected";

#[tokio::test]
async fn a_changed_policy_applies_without_a_restart() {
    let world = World::new().await;
    world.introspection.grant("reader", "notes:read");
    // As a ConfigMap is mounted: proxy.yaml → ..data/proxy.yaml, ..data → ..1
    let root = world.directory.path();
    let version = |number: u32, more: &str| {
        let directory = root.join(format!("..{number}"));
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(directory.join("proxy.yaml"), more).unwrap();
        let new = root.join("..new");
        symlink(format!("..{number}"), &new).unwrap();
        std::fs::rename(new, root.join("..data")).unwrap();
    };
    let first = world.configuration("");
    version(1, &first);
    symlink("..data/proxy.yaml", root.join("proxy.yaml")).unwrap();
    let mut reloader = Reloader::new(root.join("proxy.yaml"), first, Arc::clone(&world.proxy));
    assert_eq!(reloader.look().await, Outcome::Unchanged);
    assert_eq!(world.call("reader", "read").await.status, StatusCode::OK);

    let state = reloader.state();
    let second =
        world.configuration("access: { rules: [{ tools: [read], scopes: [notes:write] }] }");
    version(2, &second);
    assert_eq!(reloader.look().await, Outcome::Applied);
    assert_eq!(state.in_force().hash, proxy_health::hash(&second));
    assert_eq!(reloader.look().await, Outcome::Unchanged);
    assert_eq!(
        world.call("reader", "read").await.status,
        StatusCode::FORBIDDEN
    );

    for bad in [
        "nonsense",
        "",
        &world.configuration("access: { rules: [{ tools: [read], scopes: [unknown] }] }"),
    ] {
        std::fs::write(root.join("proxy.yaml"), bad).unwrap();
        assert_eq!(reloader.look().await, Outcome::Refused);
        assert_eq!(reloader.look().await, Outcome::Unchanged);
        assert_eq!(state.in_force().hash, proxy_health::hash(&second));
        let rejected = state.in_force().rejected.unwrap();
        assert_eq!(rejected.hash.unwrap(), proxy_health::hash(bad));
        assert_eq!(world.metric(REJECTED), 1.0);
        assert_eq!(
            world.call("reader", "read").await.status,
            StatusCode::FORBIDDEN
        );
    }
    std::fs::remove_file(root.join("..data")).unwrap();
    assert_eq!(reloader.look().await, Outcome::Refused);
    assert_eq!(state.in_force().rejected.unwrap().hash, None);
    version(3, &world.configuration("access: { unmatched: AnyToken }"));
    assert_eq!(reloader.look().await, Outcome::Applied);
    assert_eq!(world.call("reader", "read").await.status, StatusCode::OK);
    assert_eq!(state.in_force().rejected, None);
    assert_eq!(world.metric(REJECTED), 0.0);
    let reloads = "mcpauth_proxy_config_reloads_total";
    assert_eq!(
        world.metric(&format!("{reloads}{{result=\"success\"}}")),
        2.0
    );
    assert_eq!(
        world.metric(&format!("{reloads}{{result=\"failure\"}}")),
        4.0
    );
}

#[tokio::test]
async fn what_is_known_of_a_token_is_forgotten_when_the_resource_changes() {
    let world = World::new().await;
    world.introspection.grant("good", "notes:read");
    assert_eq!(world.call("good", "read").await.status, StatusCode::OK);
    world.reconfigure("access: { unmatched: AnyToken }");
    assert_eq!(world.call("good", "read").await.status, StatusCode::OK);
    assert_eq!(world.introspection.asked().len(), 1);
    world.reconfigure("resource: http://localhost:9002/mcp");
    assert_eq!(
        world.call("good", "read").await.status,
        StatusCode::UNAUTHORIZED
    );
}

/// Where to look is in the log, on the health port, and so in the status of the object.
#[tokio::test]
async fn a_fault_in_a_new_version_has_a_line_and_a_column() {
    let logs = logs::capture();
    let world = World::new().await;
    let path = world.directory.path().join("proxy.yaml");
    let first = world.configuration("");
    let mut reloader = Reloader::new(path.clone(), first.clone(), Arc::clone(&world.proxy));
    let line = first.lines().count();
    for (more, expected) in [
        (
            "friction:\n  rate: { calls: 0, periodSeconds: 1 }",
            (line + 2, 11, "friction.rate.calls: "),
        ),
        ("limits: none", (line + 1, 1, "limits: ")),
        (
            "allowedOrigins:\n- https://a.example\n- https://b.example/x",
            (line + 3, 3, "allowedOrigins[1]: "),
        ),
        (
            "identity: { headers: {}, x: 1 }",
            (line + 1, 1, "identity: "),
        ),
    ] {
        std::fs::write(&path, format!("{}\n{more}\n", first.trim_end())).unwrap();
        assert_eq!(reloader.look().await, Outcome::Refused, "{more}");
        let (line, column, key) = expected;
        let expected = format!("line {line}, column {column}: {key}");
        let reason = reloader.state().in_force().rejected.unwrap().reason;
        assert!(reason.starts_with(&expected), "{more}: {reason}");
        let logged = logs.containing("the new configuration is invalid");
        assert!(logged.last().unwrap().contains(&expected), "{logged:?}");
        assert_eq!(world.metric(REJECTED), 1.0);
    }
    std::fs::write(&path, "a: [1,\nb: {").unwrap();
    assert_eq!(reloader.look().await, Outcome::Refused);
    let reason = reloader.state().in_force().rejected.unwrap().reason;
    assert!(reason.contains("at line 2, column 4"), "{reason}");
    std::fs::write(&path, &first).unwrap();
    assert_eq!(reloader.look().await, Outcome::Applied);
    assert_eq!(world.metric(REJECTED), 0.0);
}

#[tokio::test]
async fn what_needs_a_restart_is_said() {
    let logs = logs::capture();
    let world = World::new().await;
    let path = world.directory.path().join("proxy.yaml");
    let first = world.configuration("");
    let mut reloader = Reloader::new(path.clone(), first, Arc::clone(&world.proxy));
    let changed = world.configuration("telemetry: { logLevel: debug }");
    std::fs::write(&path, changed).unwrap();
    assert_eq!(reloader.look().await, Outcome::Applied);
    assert_eq!(logs.containing("only after a restart").len(), 1);
}
