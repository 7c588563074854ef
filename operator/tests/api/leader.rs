//! Leader election.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{Patch, PatchParams};
use mcp_auth_operator::framework::leader::{Elector, Lost};
use mcpauth_service::clock::Clock;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::support::world::World;

fn elector(world: &World, identity: &str) -> Elector {
    Elector::new(
        world.api::<Lease>(),
        "leader".to_owned(),
        identity,
        Clock::system(),
    )
    .unwrap()
}

async fn holder(leases: &Api<Lease>) -> Option<String> {
    leases.get("leader").await.unwrap().spec?.holder_identity
}

#[tokio::test]
async fn two_operators_at_once_one_leads() {
    let world = World::new("leader").await;
    let never = CancellationToken::new();
    // Of one name: outside a cluster nothing gives each process its own.
    let (mut one, mut two) = (elector(&world, "same"), elector(&world, "same"));
    // The first to be told is the leader; the other is still waiting then.
    let first = tokio::select! {
        led = one.acquire(&never) => { assert!(led); true }
        led = two.acquire(&never) => { assert!(led); false }
    };
    let leases = world.api::<Lease>();
    let (mut leader, mut other) = if first { (one, two) } else { (two, one) };
    let first = leader.identity().to_owned();
    assert_eq!(holder(&leases).await.as_ref(), Some(&first));

    // While it is held nobody else gets it, also not in the attempt that follows at once.
    let waiting = tokio::time::timeout(Duration::from_secs(3), other.acquire(&never)).await;
    assert!(waiting.is_err());

    // Given back, it is taken without waiting for its end.
    leader.release().await.unwrap();
    assert_eq!(holder(&leases).await, None);
    assert!(other.acquire(&never).await);
    assert_ne!(holder(&leases).await, Some(first));
    let transitions = leases
        .get("leader")
        .await
        .unwrap()
        .spec
        .unwrap()
        .lease_transitions;
    assert_eq!(transitions, Some(2));
}

#[tokio::test]
async fn a_leader_whose_lease_was_taken_is_told() {
    let world = World::new("taken").await;
    let never = CancellationToken::new();
    let mut leader = elector(&world, "one");
    assert!(leader.acquire(&never).await);
    let taken = json!({ "spec": { "holderIdentity": "thief", "leaseDurationSeconds": 600 } });
    let leases = world.api::<Lease>();
    leases
        .patch("leader", &PatchParams::default(), &Patch::Merge(taken))
        .await
        .unwrap();
    assert!(matches!(leader.hold().await, Lost::Taken(holder) if holder == "thief"));
    // What is not ours is not given back.
    leader.release().await.unwrap();
    assert_eq!(holder(&leases).await.as_deref(), Some("thief"));
}

#[tokio::test]
async fn standing_by_ends_when_asked() {
    let world = World::new("standby").await;
    let mut leader = elector(&world, "one");
    assert!(leader.acquire(&CancellationToken::new()).await);
    let stop = CancellationToken::new();
    stop.cancel();
    assert!(!elector(&world, "two").acquire(&stop).await);
}
