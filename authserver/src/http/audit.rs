//! Who did what, for those who look into an incident: log lines with the target `audit`.

use std::net::IpAddr;

use http::{HeaderMap, header};
use mcpauth_service::trace::subject_hash;

use crate::http::peer::Peer;
use crate::metrics::RefreshOutcome;
use crate::oauth::grant::Grant;

/// How much of a `User-Agent` is logged, in bytes.
const MAX_USER_AGENT: usize = 256;

/// Where a request comes from.
pub(super) struct Caller<'a> {
    address: IpAddr,
    user_agent: &'a str,
}

impl<'a> Caller<'a> {
    pub(super) fn new(peer: &Peer, headers: &'a HeaderMap) -> Self {
        let user_agent = headers.get(header::USER_AGENT);
        // Visible ASCII, so that it can be cut anywhere.
        let user_agent = user_agent.and_then(|value| value.to_str().ok());
        let user_agent = user_agent.unwrap_or_default();
        Self {
            address: peer.0,
            user_agent: user_agent.get(..MAX_USER_AGENT).unwrap_or(user_agent),
        }
    }
}

/// A refresh that can mean that somebody has copied the token: it was used before.
pub(super) fn refresh(outcome: RefreshOutcome, grant: &Grant, caller: &Caller<'_>) {
    let event = match outcome {
        RefreshOutcome::Rotation | RefreshOutcome::Refused => return,
        RefreshOutcome::Sibling => "refresh_sibling",
        RefreshOutcome::LostResponse => "refresh_lost_response",
        RefreshOutcome::Reuse => "refresh_reuse",
    };
    tracing::info!(
        target: "audit",
        event,
        grant = %grant.id,
        client = grant.client_id,
        subject = grant.subject.as_deref().map(subject_hash),
        resource = grant.resource,
        address = %caller.address,
        user_agent = caller.user_agent,
    );
}
