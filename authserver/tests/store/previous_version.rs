//! The version before refresh tokens had marks, on the same database: its statements, in a session of their own.

use mcp_authserver::oauth::grant::Refusal;
use mcp_authserver::oauth::refresh::RefreshKind::{LostResponse, Rotation, Sibling};
use mcp_authserver::oauth::token::{Token, TokenKind};
use mcpauth_service::clock::UnixTime;
use mcpauth_test_support::postgres::Postgres;
use sqlx::{Executor as _, PgConnection, Row as _};

use crate::fixture::{CLIENT, Fixture, GRACE, IDLE, NOTES, NOW, database};

const LATER: UnixTime = UnixTime::from_millis(NOW.as_millis() + 1_000_000);

/// A refresh by the previous version: its rule and its statements. None when it revokes the family.
async fn refresh(
    f: &Fixture,
    session: &mut PgConnection,
    token: &Token,
    now: UnixTime,
) -> Option<Token> {
    let row = sqlx::query(
        "SELECT g.id, t.generation AS token, g.generation, g.rotated_at, g.siblings
         FROM grants g JOIN refresh_tokens t ON t.grant_id = g.id WHERE t.hash = $1",
    )
    .bind(token.hash(&f.pepper).as_bytes().to_vec())
    .fetch_one(&mut *session)
    .await
    .unwrap();
    let (of_token, generation): (i32, i32) = (row.get("token"), row.get("generation"));
    let rotated_at = UnixTime::from_millis(row.get("rotated_at"));
    let id: Vec<u8> = row.get("id");
    let next = if of_token == generation {
        (generation + 1, now, 0)
    } else if of_token + 1 == generation && now < rotated_at.plus(GRACE) {
        (generation, rotated_at, row.get::<i32, _>("siblings") + 1)
    } else {
        return None;
    };
    let new = f.token(TokenKind::Refresh);
    sqlx::query(
        "UPDATE grants SET generation = $2, rotated_at = $3, siblings = $4, expires_at = expires_at
         WHERE id = $1",
    )
    .bind(&id)
    .bind(next.0)
    .bind(next.1.as_millis())
    .bind(next.2)
    .execute(&mut *session)
    .await
    .unwrap();
    insert(f, session, &new, &id, next.0).await;
    Some(new)
}

async fn insert(f: &Fixture, session: &mut PgConnection, token: &Token, id: &[u8], of: i32) {
    sqlx::query(
        "INSERT INTO refresh_tokens (hash, grant_id, generation, expires_at)
         VALUES ($1, $2, $3, $4)",
    )
    .bind(token.hash(&f.pepper).as_bytes().to_vec())
    .bind(id)
    .bind(of)
    .bind(NOW.plus(IDLE).as_millis())
    .execute(session)
    .await
    .unwrap();
}

async fn both() -> (Fixture, PgConnection) {
    let url = Postgres::shared().create_database().await;
    let f = Fixture::at(&url).await;
    let session = f.session(Postgres::shared()).await;
    (f, session)
}

#[tokio::test]
async fn the_previous_version_honours_what_this_one_issues() {
    let (f, mut session) = both().await;
    let first = f.family(NOW).await;
    let second = f.refresh(&first.refresh, NOW).await.unwrap();
    let sibling = f.refresh(&first.refresh, NOW).await.unwrap();
    f.refresh(&second.refresh, NOW).await.unwrap();
    let token = refresh(&f, &mut session, &sibling.refresh, LATER).await;
    let refreshed = f.refresh(&token.unwrap(), LATER).await.unwrap();
    assert_eq!(refreshed.kind, Some(Rotation));
    let token = refresh(&f, &mut session, &refreshed.refresh, LATER).await;
    assert!(token.is_some());
}

#[tokio::test]
async fn what_the_previous_version_rotates_away_is_used() {
    let (f, mut session) = both().await;
    let first = f.family(NOW).await.refresh;
    let second = refresh(&f, &mut session, &first, NOW).await.unwrap();
    // Lost or in parallel: the client asks this version with the same token.
    let sibling = f.refresh(&first, NOW).await.unwrap();
    assert_eq!(sibling.kind, Some(Sibling));
    let third = f.refresh(&second, NOW).await.unwrap();
    assert_eq!(third.kind, Some(Rotation));
    assert_eq!(f.refresh(&first, LATER).await.unwrap_err(), Refusal::Reused);

    // Two of them in a row; and the response of the second is lost.
    let first = f.family(NOW).await.refresh;
    let second = refresh(&f, &mut session, &first, NOW).await.unwrap();
    refresh(&f, &mut session, &second, NOW).await.unwrap();
    let forgiven = f.refresh(&second, LATER).await.unwrap();
    assert_eq!(forgiven.kind, Some(LostResponse));
    assert_eq!(f.refresh(&first, LATER).await.unwrap_err(), Refusal::Reused);
}

/// A family as the previous version leaves it: its tokens of generations 0, 1 and 2.
async fn old_family(f: &Fixture, session: &mut PgConnection, id: u8) -> [Token; 3] {
    let id = vec![id; 16];
    sqlx::query(
        "INSERT INTO grants (id, subject, client_id, resource, scopes, generation, rotated_at, siblings, expires_at)
         VALUES ($1, 'alice', $2, $3, 'notes:read', 2, $4, 0, $5)",
    )
    .bind(&id)
    .bind(CLIENT)
    .bind(NOTES)
    .bind(NOW.as_millis())
    .bind(NOW.plus(IDLE).as_millis())
    .execute(&mut *session)
    .await
    .unwrap();
    let tokens = [(); 3].map(|()| f.token(TokenKind::Refresh));
    for (of, token) in (0..).zip(&tokens) {
        insert(f, session, token, &id, of).await;
    }
    tokens
}

#[tokio::test]
async fn tokens_of_the_previous_version_are_marked_when_it_is_replaced() {
    let postgres = Postgres::shared();
    let url = postgres.create_database().await;
    let mut session = postgres.connect(database(&url)).await;
    let mut migrator = sqlx::migrate!("./migrations");
    migrator.migrations = migrator
        .migrations
        .iter()
        .take_while(|migration| migration.description != "refresh marks")
        .cloned()
        .collect();
    migrator.run(&mut session).await.unwrap();
    session
        .execute(
            "INSERT INTO clients (client_id, origin, metadata, last_used_at, namespace)
             VALUES ('client', 'declared', '{}', 0, 'team');
             INSERT INTO resources (id, resource, name, scopes, introspectors, namespaces)
             VALUES ('notes', 'http://localhost:9001/mcp', 'notes', '[]', '{}', '{team}')",
        )
        .await
        .unwrap();
    // Only for its pepper.
    let f = Fixture::memory().await;
    let [before, last, current] = old_family(&f, &mut session, 1).await;
    let [_, retried, _] = old_family(&f, &mut session, 2).await;

    let f = Fixture::at(&url).await;
    let sibling = f.refresh(&retried, NOW).await.unwrap();
    assert_eq!(sibling.kind, Some(Sibling));
    let forgiven = f.refresh(&retried, LATER).await.unwrap();
    assert_eq!(forgiven.kind, Some(LostResponse));
    let rotated = f.refresh(&current, LATER).await.unwrap();
    assert_eq!(rotated.kind, Some(Rotation));
    assert_eq!(f.refresh(&last, LATER).await.unwrap_err(), Refusal::Reused);
    assert_eq!(
        f.refresh(&before, LATER).await.unwrap_err(),
        Refusal::Unknown
    );
}
