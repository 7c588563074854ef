//! Clients that registered themselves: how many there are, and which of them goes first.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use mcpauth_service::clock::UnixTime;

use super::super::{NewRegistration, Registered, Unused};
use super::{KnownClient, State};
use crate::oauth::client::{Client, ClientOrigin};

/// Counts, and an index of the clients that were never used.
#[derive(Default)]
pub(super) struct Registrations {
    clients: usize,
    /// By network, oldest first.
    never_used: HashMap<IpAddr, BTreeSet<(UnixTime, String)>>,
    /// The network with most of them last; of several, that with the oldest one.
    largest: BTreeSet<Rank>,
}

type Rank = (usize, Reverse<UnixTime>, IpAddr);

impl Registrations {
    /// Notes a new client.
    pub(super) fn added(&mut self, known: &KnownClient) {
        self.clients += usize::from(is_dynamic(&known.client));
        if let Some(network) = known.never_used {
            self.change(network, |clients| clients.insert(entry(known)));
        }
    }

    /// Notes that a client is gone.
    pub(super) fn removed(&mut self, known: &KnownClient) {
        self.clients -= usize::from(is_dynamic(&known.client));
        if let Some(network) = known.never_used {
            self.change(network, |clients| clients.remove(&entry(known)));
        }
    }

    /// Notes what a client was before: an administrator may declare one that registered itself.
    pub(super) fn changed(&mut self, before: &Client, known: &mut KnownClient) {
        if !is_dynamic(&known.client) {
            self.used(known);
        }
        self.clients += usize::from(is_dynamic(&known.client));
        self.clients -= usize::from(is_dynamic(before));
    }

    /// Notes that a client is used.
    fn used(&mut self, known: &mut KnownClient) {
        if let Some(network) = known.never_used.take() {
            self.change(network, |clients| clients.remove(&entry(known)));
        }
    }

    fn change(
        &mut self,
        of: IpAddr,
        change: impl FnOnce(&mut BTreeSet<(UnixTime, String)>) -> bool,
    ) {
        let clients = self.never_used.entry(of).or_default();
        if let Some(rank) = rank(of, clients) {
            self.largest.remove(&rank);
        }
        change(clients);
        match rank(of, clients) {
            Some(rank) => {
                self.largest.insert(rank);
            }
            None => {
                self.never_used.remove(&of);
            }
        }
    }

    /// Those that were never used, in the order in which they go: networks with most first, in each the oldest first.
    fn first_to_go(&self) -> impl Iterator<Item = &str> {
        let networks = self.largest.iter().rev();
        let clients = networks.filter_map(|(_, _, network)| self.never_used.get(network));
        clients.flatten().map(|(_, id)| id.as_str())
    }
}

impl State {
    pub(super) fn register_client(
        &mut self,
        registration: &NewRegistration<'_>,
        now: UnixTime,
    ) -> Registered {
        if self.registrations.clients >= registration.max_clients as usize {
            let Some(id) = self.first_to_go(now) else {
                return Registered::Full;
            };
            self.forget_client(&id);
        }
        let known = KnownClient {
            client: registration.client.clone(),
            last_used_at: now,
            never_used: Some(registration.network),
            granted_until: now,
        };
        self.registrations.added(&known);
        self.clients
            .insert(registration.client.client_id.clone(), known);
        Registered::Created
    }

    fn first_to_go(&self, now: UnixTime) -> Option<String> {
        let mut clients = self.registrations.first_to_go();
        let has_no_grant = |id: &&str| {
            let known = self.clients.get(*id);
            known.is_some_and(|known| known.granted_until <= now)
        };
        clients.find(has_no_grant).map(str::to_owned)
    }

    /// Removes a client without live grants.
    pub(super) fn forget_client(&mut self, client_id: &str) {
        if let Some(known) = self.clients.remove(client_id) {
            self.registrations.removed(&known);
        }
    }

    pub(super) fn update_registration(&mut self, client: &Client) -> bool {
        let known = self.clients.get_mut(&client.client_id);
        let Some(known) = known.filter(|known| is_dynamic(&known.client)) else {
            return false;
        };
        known.client = client.clone();
        true
    }

    pub(super) fn touch_client(&mut self, client_id: &str, now: UnixTime) {
        if let Some(known) = self.clients.get_mut(client_id) {
            self.registrations.used(known);
            known.last_used_at = known.last_used_at.max(now);
        }
    }

    /// Removes unused clients without a grant. Call it when all grants are live ones.
    pub(super) fn remove_unused_clients(&mut self, unused: Unused) {
        let grants = self.grants.values();
        let granted: HashSet<&str> = grants.map(|grant| grant.client_id.as_str()).collect();
        let is_unused = |known: &KnownClient| {
            let since = match known.never_used {
                Some(_) => unused.never_used_since,
                None => unused.idle_since,
            };
            is_dynamic(&known.client) && known.last_used_at < since
        };
        let ids: Vec<String> = self
            .clients
            .iter()
            .filter(|(id, known)| is_unused(known) && !granted.contains(id.as_str()))
            .map(|(id, _)| id.clone())
            .collect();
        for id in ids {
            self.forget_client(&id);
        }
    }
}

fn rank(network: IpAddr, clients: &BTreeSet<(UnixTime, String)>) -> Option<Rank> {
    let (oldest, _) = clients.first()?;
    Some((clients.len(), Reverse(*oldest), network))
}

fn entry(known: &KnownClient) -> (UnixTime, String) {
    (known.last_used_at, known.client.client_id.clone())
}

fn is_dynamic(client: &Client) -> bool {
    client.origin == ClientOrigin::Dynamic
}
