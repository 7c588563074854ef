//! The body of a request: read once, and passed on as it is.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts as RequestParts;
use http::{HeaderMap, HeaderValue};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};

use crate::http::media_type::is_encoded;
use crate::http::refusal::Refusal;
use crate::limits::capacity::{Capacity, Reservation};
use crate::mcp::message::Fault;

/// Timeout for receiving a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a request may wait for capacity: as long as the longest friction. Its token is not checked
/// meanwhile, and its client may be gone.
const CAPACITY_TIMEOUT: Duration = Duration::from_secs(300);

/// Reads a body of at most `limit` bytes, once there is capacity for it.
///
/// # Errors
/// It is too long, too slow, compressed, not in UTF-8 or incomplete, or no capacity became available.
pub async fn read(
    capacity: &Arc<Capacity>,
    limit: u32,
    parts: &RequestParts,
    body: Incoming,
    subject: &str,
) -> Result<(Bytes, Reservation), Refusal> {
    let reserve = async |bytes| {
        let reserved = capacity.reserve(subject, bytes);
        let reserved = tokio::time::timeout(CAPACITY_TIMEOUT, reserved).await;
        reserved.ok().and_then(Result::ok).ok_or(Refusal::Busy)
    };
    if body.is_end_stream() {
        return Ok((Bytes::new(), reserve(0).await?));
    }
    if !is_plain(&parts.headers) {
        return Err(Refusal::BodyEncoded);
    }
    // A body whose length is not given may reach the limit.
    let length = body
        .size_hint()
        .exact()
        .map_or(Some(limit), |length| u32::try_from(length).ok());
    let length = length.filter(|length| *length <= limit);
    let mut reserved = reserve(length.ok_or(Refusal::BodyTooLarge(limit))?).await?;
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    let collected = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, most).collect()).await;
    let collected = collected.map_err(|_| Refusal::BodyTimeout)?;
    match collected {
        Ok(body) => {
            let body = body.to_bytes();
            reserved.keep(body.len());
            Ok((body, reserved))
        }
        Err(error) if error.is::<LengthLimitError>() => Err(Refusal::BodyTooLarge(limit)),
        Err(_) => Err(Refusal::Body(Fault::Parse("it is incomplete".into()))),
    }
}

/// Whether the server reads the same text as this check: uncompressed, and as UTF-8. Servers honor
/// `charset`, and in UTF-7 `+ACI-` is a quote: a string here could be a tool call there.
fn is_plain(headers: &HeaderMap) -> bool {
    let mut kinds = headers.get_all(CONTENT_TYPE).iter();
    let kind = kinds.next().map(HeaderValue::as_bytes).unwrap_or_default();
    !is_encoded(headers) && kinds.next().is_none() && is_utf8(&kind.to_ascii_lowercase())
}

/// Whether a media type in lower case names no character set but UTF-8. Fails closed: a `charset` beside any
/// other parameter is refused.
fn is_utf8(kind: &[u8]) -> bool {
    const NAME: &[u8] = b"charset";
    let parameters = kind.splitn(2, |byte| *byte == b';').nth(1);
    let parameters = parameters.unwrap_or_default().trim_ascii();
    let plain = [&b"charset=utf-8"[..], b"charset=\"utf-8\""].contains(&parameters);
    plain || !kind.windows(NAME.len()).any(|part| part == NAME)
}
