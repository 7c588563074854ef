//! Clients that register themselves: how many there are, how long they stay, and who makes room for whom.

use std::net::IpAddr;
use std::time::Duration;

use futures::future::join_all;
use mcp_authserver::issue::Minter;
use mcp_authserver::oauth::client::{Client, ClientOrigin};
use mcp_authserver::oauth::token::TokenKind;
use mcp_authserver::store::{NewRegistration, Registered, Unused};
use mcpauth_service::clock::UnixTime;

use crate::fixture::{Fixture, MINUTE, NOW, client};

pub const HOUR: Duration = Duration::from_hours(1);
pub const DAY: Duration = Duration::from_hours(24);
const HERE: &str = "192.0.2.0";
const THERE: &str = "198.51.100.0";

/// A client that registered itself.
pub fn dynamic(id: &str) -> Client {
    let mut client = client(id);
    client.origin = ClientOrigin::Dynamic;
    client
}

impl Fixture {
    /// Registers, where there are at most three.
    pub async fn register(&self, id: &str, network: &str, now: UnixTime) -> Registered {
        let registration = NewRegistration {
            client: &dynamic(id),
            network: network.parse::<IpAddr>().unwrap(),
            max_clients: 3,
        };
        let registered = self.store.register_client(&registration, now).await;
        registered.unwrap()
    }

    /// The self-registered clients of these that are there.
    async fn present(&self, ids: &[&'static str]) -> Vec<&'static str> {
        let mut present = Vec::new();
        for id in ids {
            if self.store.client(id).await.unwrap().is_some() {
                present.push(*id);
            }
        }
        present
    }

    async fn remove_unused(&self, now: UnixTime) {
        let unused = Unused {
            never_used_since: now.minus(HOUR * 6),
            idle_since: now.minus(DAY * 90),
        };
        while self.store.remove_expired(unused, now).await.unwrap() {}
    }
}

pub async fn a_registered_client_is_there(f: &Fixture) {
    assert_eq!(f.register("a", HERE, NOW).await, Registered::Created);
    let stored = f.store.client("a").await.unwrap();
    assert_eq!(stored, Some(dynamic("a")));
}

pub async fn the_oldest_never_used_one_of_the_largest_network_makes_room(f: &Fixture) {
    for (id, network, minute) in [("alone", THERE, 0), ("first", HERE, 1), ("second", HERE, 2)] {
        f.register(id, network, NOW.plus(MINUTE * minute)).await;
    }
    let ids = ["alone", "first", "second", "third", "fourth"];
    let later = NOW.plus(MINUTE * 3);
    f.register("third", HERE, later).await;
    assert_eq!(f.present(&ids).await, ["alone", "second", "third"]);
    // Neither a used one nor one that an administrator has declared counts among them.
    f.store.touch_client("second", later).await.unwrap();
    f.store
        .upsert_client(&client("third"), later)
        .await
        .unwrap();
    f.register("fourth", HERE, later).await;
    assert_eq!(
        f.present(&ids).await,
        ["alone", "second", "third", "fourth"]
    );
    // Networks with equally many: the oldest.
    f.register("fifth", HERE, later.plus(MINUTE)).await;
    let ids = ["alone", "second", "fourth", "fifth"];
    assert_eq!(f.present(&ids).await, ["second", "fourth", "fifth"]);
}

pub async fn what_is_registered_is_replaced_and_never_revived(f: &Fixture) {
    f.register("a", HERE, NOW).await;
    let mut changed = dynamic("a");
    changed.metadata.redirect_uris = vec!["http://localhost/other".into()];
    changed.secret_hash = Some(f.pepper.hash_client_secret("s3cret"));
    changed.registration_token = Some(f.token(TokenKind::Registration).hash(&f.pepper));
    assert!(f.store.update_registration(&changed).await.unwrap());
    let stored = f.store.client("a").await.unwrap();
    assert_eq!(stored.as_ref(), Some(&changed));
    // An update is no use.
    f.remove_unused(NOW.plus(HOUR * 7)).await;
    assert_eq!(f.store.client("a").await.unwrap(), None);
    assert!(!f.store.update_registration(&changed).await.unwrap());
    assert_eq!(f.store.client("a").await.unwrap(), None);
    // What an administrator has declared is not a registration.
    let declared = dynamic("client");
    assert!(!f.store.update_registration(&declared).await.unwrap());
    let stored = f.store.client("client").await.unwrap();
    assert_eq!(stored, Some(client("client")));
}

pub async fn where_all_are_in_use_nobody_else_registers(f: &Fixture) {
    for id in ["a", "b", "c"] {
        f.register(id, HERE, NOW).await;
        f.store.touch_client(id, NOW).await.unwrap();
    }
    assert_eq!(f.register("d", THERE, NOW).await, Registered::Full);
    assert_eq!(f.present(&["a", "b", "c", "d"]).await, ["a", "b", "c"]);
    f.store.delete_client("b").await.unwrap();
    assert_eq!(f.register("d", THERE, NOW).await, Registered::Created);
}

pub async fn a_client_that_a_user_is_signing_in_with_does_not_make_room(f: &Fixture) {
    f.register("granted", HERE, NOW).await;
    f.register("second", HERE, NOW.plus(MINUTE)).await;
    f.register("third", HERE, NOW.plus(MINUTE)).await;
    let code = f.token(TokenKind::Code);
    let grant = f.new_grant("granted", Some("alice"));
    let now = NOW.plus(MINUTE * 2);
    let new = f.new_code(&code, now);
    f.store
        .create_authorization(grant, &new, now)
        .await
        .unwrap();
    f.register("fourth", HERE, now).await;
    let ids = ["granted", "second", "third"];
    assert!(f.present(&ids).await.contains(&"granted"));
    assert_eq!(f.present(&ids).await.len(), 2);
    // The code is never redeemed.
    f.register("fifth", HERE, now.plus(MINUTE * 2)).await;
    assert!(!f.present(&ids).await.contains(&"granted"));
}

pub async fn sixteen_registrations_at_once_keep_to_the_maximum(f: &Fixture) {
    let ids: Vec<String> = (0..16).map(|n| format!("raced-{n}")).collect();
    let network = |n: usize| if n.is_multiple_of(2) { HERE } else { THERE };
    let race = ids.iter().enumerate();
    let race = join_all(race.map(|(n, id)| f.register(id, network(n), NOW))).await;
    assert!(race.iter().all(|one| *one == Registered::Created));
    let mut kept = 0;
    for id in &ids {
        kept += usize::from(f.store.client(id).await.unwrap().is_some());
    }
    assert_eq!(kept, 3);
}

pub async fn unused_clients_are_removed(f: &Fixture) {
    f.register("never", HERE, NOW).await;
    f.register("used", HERE, NOW).await;
    f.register("granted", HERE, NOW).await;
    f.store.touch_client("used", NOW.plus(HOUR)).await.unwrap();
    f.store.touch_client("nobody", NOW).await.unwrap();
    let far = NOW.plus(DAY * 200);
    let minter = Minter {
        access: far.since(NOW),
        ..f.minter()
    };
    let grant = f.new_grant("granted", None);
    f.store
        .issue_access_token(grant, minter, NOW)
        .await
        .unwrap();

    let ids = ["never", "used", "granted", "client"];
    f.remove_unused(NOW.plus(HOUR * 6)).await;
    assert_eq!(f.present(&ids).await, ids);
    f.remove_unused(NOW.plus(HOUR * 6 + MINUTE)).await;
    assert_eq!(f.present(&ids).await, ["used", "granted", "client"]);
    f.remove_unused(NOW.plus(DAY * 90)).await;
    assert_eq!(f.present(&ids).await, ["used", "granted", "client"]);
    // An earlier use does not count against a later one.
    f.store.touch_client("used", NOW.plus(DAY)).await.unwrap();
    f.store.touch_client("used", NOW.plus(HOUR)).await.unwrap();
    f.remove_unused(NOW.plus(DAY * 91)).await;
    assert_eq!(f.present(&ids).await, ["used", "granted", "client"]);
    f.remove_unused(NOW.plus(DAY * 91 + MINUTE)).await;
    assert_eq!(f.present(&ids).await, ["granted", "client"]);
    f.remove_unused(far).await;
    assert_eq!(
        f.present(&ids).await,
        ["client"],
        "only self-registered ones"
    );
    // What was removed has made room.
    for id in ["a", "b", "c"] {
        f.register(id, HERE, far).await;
        f.store.touch_client(id, far).await.unwrap();
    }
    assert_eq!(f.present(&["a", "b", "c"]).await.len(), 3);
}
