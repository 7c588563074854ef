//! Clients and resources.

use std::collections::BTreeMap;

use mcpauth_service::clock::UnixTime;

use super::super::{StoreError, Upsert, resource_taken, same_resource};
use super::{KnownClient, State};
use crate::oauth::client::Client;
use crate::oauth::grant::Grant;
use crate::oauth::resource::Resource;

impl State {
    pub(super) fn upsert_client(&mut self, client: &Client, now: UnixTime) -> Upsert {
        match self.clients.get_mut(&client.client_id) {
            Some(known) if known.client == *client => Upsert::Unchanged,
            Some(known) => {
                let before = std::mem::replace(&mut known.client, client.clone());
                self.registrations.changed(&before, known);
                self.grants.retain(|_, grant| {
                    grant.client_id != client.client_id || client.may_ask_for(&grant.resource)
                });
                Upsert::Updated
            }
            None => {
                let known = KnownClient {
                    client: client.clone(),
                    last_used_at: now,
                    never_used: None,
                    granted_until: now,
                };
                self.registrations.added(&known);
                self.clients.insert(client.client_id.clone(), known);
                Upsert::Created
            }
        }
    }

    pub(super) fn client(&self, client_id: &str) -> Option<Client> {
        self.clients
            .get(client_id)
            .map(|known| known.client.clone())
    }

    pub(super) fn delete_client(&mut self, client_id: &str) {
        self.forget_client(client_id);
        self.grants.retain(|_, grant| grant.client_id != client_id);
    }

    pub(super) fn upsert_resource(&mut self, resource: &Resource) -> Result<Upsert, StoreError> {
        let taken = self.resources.values().any(|other| {
            other.id != resource.id && same_resource(&other.resource, &resource.resource)
        });
        if taken {
            return Err(resource_taken(resource));
        }
        let before = self.resources.get(&resource.id);
        if before == Some(resource) {
            return Ok(Upsert::Unchanged);
        }
        let before = self.resources.insert(resource.id.clone(), resource.clone());
        let Some(before) = before else {
            return Ok(Upsert::Created);
        };
        if before.resource != resource.resource {
            self.revoke_resource(&before.resource);
        }
        let clients = &self.clients;
        self.grants.retain(|_, grant| {
            grant.resource != resource.resource || is_admitted(clients, resource, grant)
        });
        Ok(Upsert::Updated)
    }

    pub(super) fn resource(&self, id: &str) -> Option<Resource> {
        self.resources.get(id).cloned()
    }

    pub(super) fn resources(&self) -> Vec<Resource> {
        self.resources.values().cloned().collect()
    }

    pub(super) fn delete_resource(&mut self, id: &str) {
        if let Some(resource) = self.resources.remove(id) {
            self.revoke_resource(&resource.resource);
        }
    }

    fn revoke_resource(&mut self, resource: &str) {
        self.grants.retain(|_, grant| grant.resource != resource);
    }
}

/// Whether a resource still admits the client of a grant.
fn is_admitted(
    clients: &BTreeMap<String, KnownClient>,
    resource: &Resource,
    grant: &Grant,
) -> bool {
    let client = clients.get(&grant.client_id);
    client.is_some_and(|known| resource.allowed_clients.admit(known.client.owner()))
}
