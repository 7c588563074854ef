//! `server/discover` of the notes, through the proxy.

use serde_json::{Value, json};

use crate::common::World;
use crate::common::programs::notes;

const CREDENTIALS: &str = "io.modelcontextprotocol/oauth-client-credentials";
const ENTERPRISE: &str = "io.modelcontextprotocol/enterprise-managed-authorization";

/// What a client that supports these extensions discovers.
async fn discovered(world: &World, extensions: &[&str]) -> Value {
    let extensions: Value = extensions.iter().map(|id| (*id, json!({}))).collect();
    let capabilities = json!({ "extensions": extensions });
    world
        .post_stateless("good", "server/discover", capabilities)
        .await
}

#[tokio::test]
async fn the_extensions_of_authorization_are_declared_to_clients_that_declare_them() {
    let (_notes, url) = notes().await;
    let world = World::new().await;
    world.introspection.grant("good", "");
    let upstream = format!("upstream: {{ url: {url} }}");
    world.reconfigure(&upstream);
    let plain = discovered(&world, &[CREDENTIALS]).await;
    assert!(plain["result"]["supportedVersions"].is_array(), "{plain}");
    assert_eq!(plain["result"]["capabilities"].get("extensions"), None);

    world.reconfigure(&format!(
        "{upstream}\nauthorizationExtensions: [{CREDENTIALS}]"
    ));
    for extensions in [&[][..], &[ENTERPRISE]] {
        assert_eq!(
            discovered(&world, extensions).await,
            plain,
            "{extensions:?}"
        );
    }
    let mut expected = plain;
    expected["result"]["capabilities"]["extensions"] = json!({ CREDENTIALS: {} });
    let declared = discovered(&world, &[CREDENTIALS, ENTERPRISE]).await;
    assert_eq!(declared, expected);
    // No other answer declares it.
    let list = world.post_stateless(
        "good",
        "tools/list",
        json!({ "extensions": { CREDENTIALS: {} } }),
    );
    assert!(!list.await.to_string().contains(CREDENTIALS));
}
