//! The body of a request: read once, judged, and passed on as it is.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::request::Parts as RequestParts;
use http::{HeaderMap, HeaderValue};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};

use crate::auth::verify::Identity;
use crate::compiled::Settings;
use crate::http::refusal::Refusal;
use crate::limits::capacity::Place;
use crate::mcp::header_match;
use crate::mcp::message::{Fault, Messages};

/// How long a client may take for its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a request may wait for room: as long as the longest friction. Its token is not looked at
/// meanwhile, and perhaps its client is gone.
const ROOM_TIMEOUT: Duration = Duration::from_secs(300);

/// Reads a body up to the limit, once there is room for it.
///
/// # Errors
/// It is too long, too slow, compressed, not in UTF-8, or breaks off; or there is no room for it.
pub async fn read(
    settings: &Settings,
    parts: &RequestParts,
    body: Incoming,
    caller: &Identity,
) -> Result<(Bytes, Place), Refusal> {
    let room = async |bytes| {
        let place = settings.room.take(&caller.subject, bytes);
        let place = tokio::time::timeout(ROOM_TIMEOUT, place).await;
        place.ok().and_then(Result::ok).ok_or(Refusal::Busy)
    };
    if body.is_end_stream() {
        return Ok((Bytes::new(), room(0).await?));
    }
    if !is_plain(&parts.headers) {
        return Err(Refusal::BodyEncoded);
    }
    let limit = settings.config.limits.body_bytes;
    // One whose length is not said may become as long as that.
    let length = body
        .size_hint()
        .exact()
        .map_or(Some(limit), |length| u32::try_from(length).ok());
    let length = length.filter(|length| *length <= limit);
    let mut place = room(length.ok_or(Refusal::BodyTooLarge(limit))?).await?;
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    let collected = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, most).collect()).await;
    let collected = collected.map_err(|_| Refusal::BodyTimeout)?;
    match collected {
        Ok(body) => {
            let body = body.to_bytes();
            place.keep(body.len());
            Ok((body, place))
        }
        Err(error) if error.is::<LengthLimitError>() => Err(Refusal::BodyTooLarge(limit)),
        Err(_) => Err(Refusal::Body(Fault::Parse("it breaks off".into()))),
    }
}

/// Whether the server reads the bytes that we judge: uncompressed, and as UTF-8. Servers follow
/// `charset`, and in UTF-7 `+ACI-` is a quote: what is a string here could be a tool call there.
fn is_plain(headers: &HeaderMap) -> bool {
    let uncompressed = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    let mut kinds = headers.get_all(CONTENT_TYPE).iter();
    let kind = kinds.next().map(HeaderValue::as_bytes).unwrap_or_default();
    headers.get_all(CONTENT_ENCODING).iter().all(uncompressed)
        && kinds.next().is_none()
        && is_utf8(&kind.to_ascii_lowercase())
}

/// Whether a media type in lower case names no character set but UTF-8. Fails closed: whoever names
/// one does nothing else with the parameters.
fn is_utf8(kind: &[u8]) -> bool {
    const NAME: &[u8] = b"charset";
    let parameters = kind.splitn(2, |byte| *byte == b';').nth(1);
    let parameters = parameters.unwrap_or_default().trim_ascii();
    let plain = [&b"charset=utf-8"[..], b"charset=\"utf-8\""].contains(&parameters);
    plain || !kind.windows(NAME.len()).any(|part| part == NAME)
}

/// Judges every message of a body. One that is forbidden stops all of them.
///
/// # Errors
/// It cannot be read, a header contradicts it, or the caller lacks a scope.
pub fn judge<'a>(
    settings: &Settings,
    headers: &HeaderMap,
    body: &'a [u8],
    identity: &Identity,
) -> Result<Messages<'a>, Refusal> {
    let messages = Messages::read(body).map_err(Refusal::Body)?;
    if let Err(reason) = header_match::check(headers, &messages) {
        let id = messages
            .iter()
            .next()
            .and_then(|message| message.id.clone());
        return Err(Refusal::HeaderMismatch(reason, id));
    }
    let mut needed: Vec<&str> = Vec::new();
    for scope in messages
        .tools()
        .flat_map(|tool| settings.policy.needs(tool))
    {
        if !needed.contains(&scope.as_str()) {
            needed.push(scope);
        }
    }
    let granted = |scope: &&str| settings.hierarchy.grants(&identity.scopes, scope);
    if needed.iter().all(granted) {
        return Ok(messages);
    }
    needed.retain(|scope| *scope != "offline_access");
    Err(Refusal::InsufficientScope(needed.join(" ")))
}
