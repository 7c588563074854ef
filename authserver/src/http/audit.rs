//! The audit of the request under way: handlers note what they learn about it, and say what happened. A refusal says it by
//! itself, when the response is one.

use std::cell::{Cell, RefCell};

use axum::extract::Request;
use axum::response::Response;
use http::{Method, StatusCode, header};
use mcpauth_service::audit::{Audit, bounded};
use mcpauth_service::trace::trace_id;

use crate::audit::{About, Event, Line, Origin, Refusal, Request as Asked};
use crate::http::error::Refused;
use crate::http::peer::Peer;

/// How much of a `User-Agent` is kept, in bytes.
const MAX_USER_AGENT: usize = 256;

tokio::task_local! {
    static UNDER_WAY: UnderWay;
}

struct UnderWay {
    audit: Audit,
    origin: Origin,
    /// Whether its method is one that changes something.
    changes: bool,
    about: RefCell<About>,
    /// Whether a line has said what came of it.
    settled: Cell<bool>,
}

impl UnderWay {
    /// None where there is no audit, or no connection.
    fn new(audit: &Audit, route: &str, request: &Request) -> Option<Self> {
        if !audit.is_on() {
            return None;
        }
        let peer = Peer::of(request.extensions())?;
        let headers = request.headers();
        let user_agent = headers.get(header::USER_AGENT);
        let user_agent = user_agent.map(|value| String::from_utf8_lossy(value.as_bytes()));
        Some(Self {
            audit: audit.clone(),
            origin: Origin {
                endpoint: route.to_owned(),
                address: peer.0,
                user_agent: user_agent.map(|text| bounded(&text, MAX_USER_AGENT)),
                trace_id: trace_id(headers).map(str::to_owned),
            },
            changes: *request.method() != Method::GET,
            about: RefCell::default(),
            settled: Cell::new(false),
        })
    }

    fn write(&self, event: Event) {
        let line = Line {
            event,
            about: &self.about.borrow(),
            origin: &self.origin,
        };
        match event.is_by_anybody() {
            true => {
                let network = Peer(self.origin.address).network();
                let (name, _) = event.names();
                self.audit.record_within_budget(name, network, &line);
            }
            false => self.audit.record(&line),
        }
    }

    /// A line for a refusal that none was written for.
    fn refused(&self, response: &Response) {
        let Some(refused) = response.extensions().get::<Refused>() else {
            return;
        };
        if self.settled.get() || response.status() == StatusCode::METHOD_NOT_ALLOWED {
            return;
        }
        let asked = Asked::of(&self.origin.endpoint, refused.error, self.changes);
        if let Some(asked) = asked {
            let error = refused.error;
            self.about.borrow_mut().refused(error, &refused.reason);
            self.write(Event::Refused(
                asked,
                Refusal::of(response.status().as_u16()),
            ));
        }
    }
}

/// Answers a request, with an audit line for its refusal. Its response has a [`Refused`] if it is one.
pub(super) async fn request(
    audit: &Audit,
    route: &str,
    request: Request,
    answered: impl AsyncFnOnce(Request) -> Response,
) -> Response {
    match UnderWay::new(audit, route, &request) {
        None => answered(request).await,
        Some(under_way) => {
            let answered = async {
                let response = answered(request).await;
                UNDER_WAY.with(|under_way| under_way.refused(&response));
                response
            };
            UNDER_WAY.scope(under_way, answered).await
        }
    }
}

/// Notes something about the request under way.
pub(super) fn about(note: impl FnOnce(&mut About)) {
    // Without an audit there is nobody to note it for.
    let _ = UNDER_WAY.try_with(|under_way| note(&mut under_way.about.borrow_mut()));
}

/// Writes what happened, with all that was noted.
pub(super) fn record(event: Event) {
    let _ = UNDER_WAY.try_with(|under_way| {
        under_way.settled.set(true);
        under_way.write(event);
    });
}
