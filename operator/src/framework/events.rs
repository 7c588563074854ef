//! Events about our objects, which `kubectl describe` shows.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

use crate::text::shorten;

/// The name under which events and leases are written.
pub const REPORTER: &str = "mcp-auth-operator";

/// Maximum length of an event's note, in bytes (the API's limit is 1 KiB).
const NOTE: usize = 1000;

/// Publishes events. A lost event is logged, but is not an error.
#[derive(Clone)]
pub struct Events(Recorder);

impl Events {
    /// Shared by all controllers, because it counts repeated events.
    pub fn new(client: kube::Client, identity: &str) -> Self {
        let reporter = Reporter {
            controller: REPORTER.to_owned(),
            instance: Some(identity.to_owned()),
        };
        Self(Recorder::new(client, reporter))
    }

    /// Publishes a normal event.
    pub async fn normal(&self, about: &ObjectReference, reason: &str, note: &str) {
        self.publish(about, EventType::Normal, reason, note).await;
    }

    /// Publishes a warning; `note` says what to do.
    pub async fn warning(&self, about: &ObjectReference, reason: &str, note: &str) {
        self.publish(about, EventType::Warning, reason, note).await;
    }

    async fn publish(&self, about: &ObjectReference, type_: EventType, reason: &str, note: &str) {
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(shorten(note, NOTE).to_owned()),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        if let Err(error) = self.0.publish(&event, about).await {
            tracing::warn!(%error, reason, "cannot publish an event");
        }
    }
}
