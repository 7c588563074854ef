//! Introspection, many tokens at a time.
//!
//! A query of its own for each call costs a round trip and a wake-up of one of many database processes. So calls queue:
//! while a query is under way the next ones gather, and one query answers them all. A single call does not wait.
//!
//! It has connections of its own: a flood at the public port cannot use them up.

use std::collections::HashMap;
use std::sync::Arc;

use mcpauth_service::clock::UnixTime;
use mcpauth_wire::Scopes;
use sqlx::Row as _;
use sqlx::postgres::{PgPool, PgRow};
use tokio::sync::{Mutex, mpsc, oneshot};
use tracing::{Instrument as _, Span};

use super::super::{ActiveToken, Extent, StoreError};
use super::clients::{from_json, read_origin};
use super::connections::Generation;
use super::grants::{read_grant_id, read_hash, read_scopes};
use super::kept::Kept;
use super::{OPERATION_TIMEOUT, as_slices, read_time, within};
use crate::keys::pepper::KeyedHash;
use crate::oauth::client::{AllowedResource, ClientOrigin, grantable};
use crate::oauth::resource::ResourceScope;

/// How many queries are under way at once: a connection that broke delays only those who wait for it.
const QUERIES: u32 = 2;
/// How many connections that takes: one that comes back after an error is tried by the pool while another is in use.
pub(super) const CONNECTIONS: u32 = 2 * QUERIES;
/// How many calls one query answers at most.
const CALLS: usize = 256;
/// How many calls wait before new ones wait for a place.
const QUEUE: usize = 1024;

macro_rules! select {
    ($more:literal) => {
        concat!(
            "SELECT t.hash, t.grant_id, t.scopes, t.issued_at, t.expires_at,
                    g.client_id, g.subject, g.resource, r.introspectors, c.origin",
            $more,
            " FROM access_tokens t
             JOIN grants g ON g.id = t.grant_id
             JOIN clients c ON c.client_id = g.client_id
             JOIN resources r ON r.resource = g.resource
             WHERE t.hash = ANY($1) AND (c.origin NOT IN ('config', 'declared', 'dynamic') OR ",
            is_admitted!(),
            ")"
        )
    };
}

const SELECT: &str = select!("");
/// With what [`grantable`] depends on. It is a statement of its own, so that calls that do not ask for it cost nothing more; they
/// may only share a query with one that does.
const SELECT_GRANTABLE: &str = select!(
    ", (c.metadata -> 'allowedResources')::text AS allowed_resources, r.scopes::text AS known_scopes"
);

/// Asks the database. Ends, when it is dropped, with what is under way.
#[derive(Debug)]
pub(super) struct Introspection {
    queue: mpsc::Sender<Call>,
}

struct Call {
    hashes: Vec<KeyedHash>,
    extent: Extent,
    answer: oneshot::Sender<Result<Option<ActiveToken>, StoreError>>,
    span: Span,
}

impl Introspection {
    /// Must be called within a Tokio runtime.
    pub(super) fn new(pool: PgPool, generation: &Generation) -> Self {
        let connections = Kept::new(pool, QUERIES, generation);
        let (queue, calls) = mpsc::channel(QUEUE);
        let calls = Arc::new(Mutex::new(calls));
        for _ in 0..QUERIES {
            tokio::spawn(answer_all(connections.clone(), Arc::clone(&calls)));
        }
        Self { queue }
    }

    /// The access token with one of these hashes, if it is live.
    pub(super) async fn ask(
        &self,
        hashes: &[KeyedHash],
        extent: Extent,
        now: UnixTime,
    ) -> Result<Option<ActiveToken>, StoreError> {
        let (answer, answered) = oneshot::channel();
        let hashes = hashes.to_vec();
        let gone = || StoreError::Unavailable("the server is draining".into());
        let call = Call {
            hashes,
            extent,
            answer,
            span: Span::current(),
        };
        self.queue.send(call).await.map_err(|_| gone())?;
        let token = answered.await.map_err(|_| gone())??;
        Ok(token.filter(|token| token.expires_at > now))
    }
}

async fn answer_all(connections: Kept, calls: Arc<Mutex<mpsc::Receiver<Call>>>) {
    let mut batch = Vec::with_capacity(CALLS);
    while gather(&calls, &mut batch).await {
        // Who gave up waits no longer.
        batch.retain(|call| !call.answer.is_closed());
        let Some(first) = batch.first() else {
            continue;
        };
        // A statement is in one trace only.
        let span = first.span.clone();
        let hashes: Vec<_> = batch
            .iter()
            .flat_map(|call| &call.hashes)
            .copied()
            .collect();
        let query = match batch.iter().any(|call| call.extent == Extent::Grantable) {
            true => SELECT_GRANTABLE,
            false => SELECT,
        };
        let rows = within(OPERATION_TIMEOUT, find(&connections, query, &hashes));
        let rows = rows.instrument(span).await;
        for call in batch.drain(..) {
            let token = match &rows {
                Ok(rows) => {
                    let mut hashes = call.hashes.iter();
                    let row = hashes.find_map(|hash| rows.get(hash));
                    row.map(|row| read(row, call.extent)).transpose()
                }
                Err(error) => Err(error.clone()),
            };
            // The caller may have given up meanwhile.
            let _ = call.answer.send(token);
        }
    }
}

/// Takes the calls that wait, once there is one. False when there will be none.
async fn gather(calls: &Mutex<mpsc::Receiver<Call>>, batch: &mut Vec<Call>) -> bool {
    let mut calls = calls.lock().await;
    if calls.recv_many(batch, CALLS).await == 0 {
        return false;
    }
    // Requests that have arrived already come along, so that fewer queries answer all.
    tokio::task::yield_now().await;
    while batch.len() < CALLS
        && let Ok(call) = calls.try_recv()
    {
        batch.push(call);
    }
    true
}

async fn find(
    connections: &Kept,
    query: &'static str,
    hashes: &[KeyedHash],
) -> Result<HashMap<KeyedHash, PgRow>, StoreError> {
    let mut connection = connections.acquire().await?;
    let rows = sqlx::query(query)
        .bind(as_slices(hashes))
        .fetch_all(&mut *connection)
        .await?;
    connection.keep();
    rows.into_iter()
        .map(|row| Ok((read_hash(&row)?, row)))
        .collect()
}

fn read(row: &PgRow, extent: Extent) -> Result<ActiveToken, StoreError> {
    // Only the version that knows it can tell whether the token is good. "Inactive" would end it at the client.
    let origin = read_origin(row)?;
    let grantable = match extent {
        Extent::Token => None,
        Extent::Grantable => Some(read_grantable(row, origin)?),
    };
    Ok(ActiveToken {
        grant_id: read_grant_id(row, "grant_id")?,
        client_id: row.try_get("client_id")?,
        subject: row.try_get("subject")?,
        resource: row.try_get("resource")?,
        scopes: read_scopes(row)?,
        issued_at: read_time(row, "issued_at")?,
        expires_at: read_time(row, "expires_at")?,
        introspectors: row.try_get("introspectors")?,
        token_id: read_hash(row)?.public_id(),
        grantable,
    })
}

/// Of a row of [`SELECT_GRANTABLE`].
fn read_grantable(row: &PgRow, origin: ClientOrigin) -> Result<Scopes, StoreError> {
    let allowed: Option<&str> = row.try_get("allowed_resources")?;
    let allowed: Vec<AllowedResource> = from_json(allowed.unwrap_or("[]"))?;
    let known: Vec<ResourceScope> = from_json(row.try_get("known_scopes")?)?;
    let grantable = grantable(origin, &allowed, row.try_get("resource")?, &known);
    Ok(grantable.unwrap_or_default())
}
