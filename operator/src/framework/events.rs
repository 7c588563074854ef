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

/// After how many events a new recorder takes over: each remembers all that it published in the last minutes, to count
/// repetitions, and looks through them for each new one.
const REMEMBERED: usize = 256;

/// Publishes events one after the other, so that no reconcile waits for them. A lost event is logged, but is not an error.
#[derive(Clone)]
pub struct Events {
    client: kube::Client,
    reporter: Reporter,
    places: Arc<Semaphore>,
    turn: Arc<Mutex<Turn>>,
}

/// What publishes the next event.
struct Turn {
    recorder: Recorder,
    published: usize,
}

impl Events {
    /// Shared by all controllers, because it counts repeated events.
    pub fn new(client: kube::Client, identity: &str) -> Self {
        let reporter = Reporter {
            controller: REPORTER.to_owned(),
            instance: Some(identity.to_owned()),
        };
        Self {
            turn: Arc::new(Mutex::new(Turn {
                recorder: Recorder::new(client.clone(), reporter.clone()),
                published: 0,
            })),
            client,
            reporter,
            places: Arc::new(Semaphore::new(QUEUE)),
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
        let (events, about) = (self.clone(), about.clone());
        tokio::spawn(async move {
            // First come, first served.
            let mut turn = events.turn.lock().await;
            if turn.published == REMEMBERED {
                turn.recorder = Recorder::new(events.client.clone(), events.reporter.clone());
                turn.published = 0;
            }
            turn.published += 1;
            if let Err(error) = turn.recorder.publish(&event, &about).await {
                tracing::warn!(%error, reason = event.reason, "cannot publish an event");
            }
            drop(place);
        });
    }
}
