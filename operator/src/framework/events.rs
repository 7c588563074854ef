//! Events about our objects, which `kubectl describe` shows.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

use tokio::sync::{Mutex, Semaphore};

use crate::text::shorten;

/// The name under which events and leases are written.
pub const REPORTER: &str = "mcp-auth-operator";

/// Maximum length of an event's note, in bytes (the API's limit is 1 KiB).
const NOTE: usize = 1000;

/// How many events wait to be published. Beyond them, new ones are lost.
const QUEUE: usize = 1024;

/// Publishes events one after the other, so that no reconcile waits for them. A lost event is logged, but is not an error.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
    places: Arc<Semaphore>,
    turn: Arc<Mutex<()>>,
}

impl Events {
    /// Shared by all controllers, because it counts repeated events.
    pub fn new(client: kube::Client, identity: &str) -> Self {
        let reporter = Reporter {
            controller: REPORTER.to_owned(),
            instance: Some(identity.to_owned()),
        };
        Self {
            recorder: Recorder::new(client, reporter),
            places: Arc::new(Semaphore::new(QUEUE)),
            turn: Arc::default(),
        }
    }

    /// Publishes a normal event.
    pub fn normal(&self, about: &ObjectReference, reason: &str, note: &str) {
        self.publish(about, EventType::Normal, reason, note);
    }

    /// Publishes a warning; `note` says what to do.
    pub fn warning(&self, about: &ObjectReference, reason: &str, note: &str) {
        self.publish(about, EventType::Warning, reason, note);
    }

    fn publish(&self, about: &ObjectReference, type_: EventType, reason: &str, note: &str) {
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(shorten(note, NOTE).to_owned()),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            tracing::warn!(
                reason,
                "too many events wait to be published; this one is lost"
            );
            return;
        };
        let (recorder, turn, about) =
            (self.recorder.clone(), Arc::clone(&self.turn), about.clone());
        tokio::spawn(async move {
            // First come, first served.
            let _turn = turn.lock().await;
            if let Err(error) = recorder.publish(&event, &about).await {
                tracing::warn!(%error, reason = event.reason, "cannot publish an event");
            }
            drop(place);
        });
    }
}
