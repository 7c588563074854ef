//! Protected resources.

use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::super::{StoreError, Upsert, canonical, resource_taken};
use super::Database;
use super::clients::{from_json, to_json};
use super::sweeps::Sweep;
use crate::oauth::admission::AllowedClients;
use crate::oauth::resource::Resource;

/// Whether the resource `r` no longer admits the client `c`.
macro_rules! is_turned_away {
    () => {
        concat!(
            "(c.origin IN ('config', 'declared', 'dynamic') AND (",
            is_admitted!(),
            ") IS NOT TRUE)"
        )
    };
}

/// Marks a resource that goes. It admits nobody from then on, so that all its tokens are refused at once; its grants
/// follow in batches, and it goes with the last. Until then it keeps its URI, which the grants name, under an id that no
/// resource can have. An older version reads it as one that admits nobody, too. $1 the id, $2 the URI that stays.
const MARK_GONE: &str = "
UPDATE resources
SET id = 'gone:' || resource, canonical = NULL, introspectors = '{}', all_namespaces = false, namespaces = '{}',
    self_registered = false, without_consent = '{}', sweep = true
WHERE id = $1 AND resource IS DISTINCT FROM $2";

/// The grants that no longer belong to the resources. What a client may have whose origin only a newer version knows, that
/// version decides.
pub(super) const SWEEP: Sweep = Sweep {
    grants: concat!(
        "DELETE FROM grants WHERE id = ANY(ARRAY(
             SELECT g.id FROM resources r
             JOIN grants g ON g.resource = r.resource
             JOIN clients c ON c.client_id = g.client_id
             WHERE r.sweep AND (r.id LIKE 'gone:%' OR ",
        is_turned_away!(),
        ")
             LIMIT $1 FOR UPDATE OF g SKIP LOCKED))"
    ),
    marks: &[REMOVE_SWEPT, UNMARK_SWEPT],
    is_marked: "SELECT EXISTS (SELECT FROM resources WHERE resource = $1 AND sweep)",
};

const REMOVE_SWEPT: &str = "
DELETE FROM resources r
WHERE r.sweep AND r.id LIKE 'gone:%' AND NOT EXISTS (SELECT FROM grants g WHERE g.resource = r.resource)";

const UNMARK_SWEPT: &str = concat!(
    "UPDATE resources r SET sweep = false
     WHERE r.sweep AND r.id NOT LIKE 'gone:%' AND NOT EXISTS (
         SELECT FROM grants g JOIN clients c ON c.client_id = g.client_id
         WHERE g.resource = r.resource AND ",
    is_turned_away!(),
    ")"
);

impl Database {
    /// Beside the outcome: whether grants are to be removed.
    pub(super) async fn upsert_resource(
        &self,
        resource: &Resource,
    ) -> Result<(Upsert, bool), StoreError> {
        let stored = self.store_resource(resource).await;
        if let Err(StoreError::Conflict(_)) = &stored {
            // Another replica may have stored the same one at the same time: then it is there now.
            let same = self.resource(&resource.id).await.ok().flatten();
            if same.is_some_and(|same| same.resource == resource.resource) {
                return self.store_resource(resource).await;
            }
        }
        stored
    }

    async fn store_resource(&self, resource: &Resource) -> Result<(Upsert, bool), StoreError> {
        let (before, is_too_new) = match self.resource(&resource.id).await {
            // It is replaced as a whole.
            Err(StoreError::TooNew(_)) => (None, true),
            before => (before?, false),
        };
        let same = before.as_ref() == Some(resource);
        if same && self.is_settled(&resource.id).await? {
            return Ok((Upsert::Unchanged, false));
        }
        // What an earlier change has begun ends by its own rules first: a client that is admitted again does not
        // get back what it had, and neither does a resource that comes back.
        self.finish_sweep(&SWEEP, &resource.resource).await?;
        let keeps_uri = before.as_ref().filter(|b| b.resource == resource.resource);
        let narrowed =
            is_too_new || keeps_uri.is_some_and(|b| b.allowed_clients != resource.allowed_clients);
        let mut transaction = self.begin().await?;
        // With another URI it is another audience: the grants go with the old row.
        let moved = sqlx::query(MARK_GONE)
            .bind(&resource.id)
            .bind(&resource.resource)
            .execute(&mut *transaction)
            .await?;
        sqlx::query(
            "INSERT INTO resources (id, resource, name, scopes, introspectors, canonical,
                                    all_namespaces, namespaces, self_registered, without_consent, sweep)
             VALUES ($1, $2, $3, $4::jsonb, $5, $6, $7, $8, $9, $10::jsonb, $11)
             ON CONFLICT (id) DO UPDATE SET
                 canonical = EXCLUDED.canonical,
                 name = EXCLUDED.name,
                 scopes = EXCLUDED.scopes,
                 introspectors = EXCLUDED.introspectors,
                 all_namespaces = EXCLUDED.all_namespaces,
                 namespaces = EXCLUDED.namespaces,
                 self_registered = EXCLUDED.self_registered,
                 without_consent = EXCLUDED.without_consent,
                 sweep = EXCLUDED.sweep",
        )
        .bind(&resource.id)
        .bind(&resource.resource)
        .bind(&resource.name)
        .bind(to_json(&resource.scopes)?)
        .bind(&resource.introspectors)
        .bind(canonical(&resource.resource))
        .bind(resource.allowed_clients.all_namespaces)
        .bind(&resource.allowed_clients.namespaces)
        .bind(resource.allowed_clients.self_registered)
        .bind(to_json(&resource.allowed_clients.without_consent)?)
        .bind(narrowed)
        .execute(&mut *transaction)
        .await
        .map_err(|error| match StoreError::from(error) {
            StoreError::Conflict(_) => resource_taken(resource),
            other => other,
        })?;
        transaction.commit().await?;
        let outcome = match before {
            None if !is_too_new => Upsert::Created,
            Some(_) if same => Upsert::Unchanged,
            _ => Upsert::Updated,
        };
        Ok((outcome, narrowed || moved.rows_affected() > 0))
    }

    /// Whether there is nothing left to do for a resource that is stored as it is to be. Not what an older version
    /// wrote, nor the second of two equal ones, see migration 2; nor while grants are to be removed.
    async fn is_settled(&self, id: &str) -> Result<bool, StoreError> {
        let settled = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM resources
                            WHERE id = $1 AND canonical IS NOT NULL AND NOT sweep)",
        )
        .bind(id)
        .fetch_one(&self.pool)
        .await?;
        Ok(settled)
    }

    pub(super) async fn resource(&self, id: &str) -> Result<Option<Resource>, StoreError> {
        sqlx::query(
            "SELECT id, resource, name, scopes::text, introspectors, all_namespaces, namespaces,
                    self_registered, without_consent::text
             FROM resources WHERE id = $1 AND id NOT LIKE 'gone:%'",
        )
        .bind(id)
        .fetch_optional(&self.pool)
        .await?
        .map(|row| read_resource(&row))
        .transpose()
    }

    pub(super) async fn resources(&self) -> Result<Vec<Resource>, StoreError> {
        sqlx::query(
            r#"SELECT id, resource, name, scopes::text, introspectors, all_namespaces, namespaces,
                      self_registered, without_consent::text
               FROM resources WHERE id NOT LIKE 'gone:%' ORDER BY id COLLATE "C""#,
        )
        .fetch_all(&self.pool)
        .await?
        .iter()
        .map(read_resource)
        .filter(|resource| match resource {
            // The others must not suffer from it.
            Err(error @ StoreError::TooNew(_)) => {
                tracing::error!(%error, "leaving a resource out");
                false
            }
            _ => true,
        })
        .collect()
    }

    pub(super) async fn mark_resource_gone(&self, id: &str) -> Result<(), StoreError> {
        sqlx::query(MARK_GONE)
            .bind(id)
            .bind(None::<String>)
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}

fn read_resource(row: &PgRow) -> Result<Resource, StoreError> {
    let id: String = row.try_get("id")?;
    let of_resource = |error: StoreError| match error {
        StoreError::TooNew(what) => StoreError::TooNew(format!("resource {id}: {what}")),
        other => other,
    };
    Ok(Resource {
        resource: row.try_get("resource")?,
        name: row.try_get("name")?,
        scopes: from_json(row.try_get("scopes")?).map_err(of_resource)?,
        introspectors: row.try_get("introspectors")?,
        allowed_clients: AllowedClients {
            all_namespaces: row.try_get("all_namespaces")?,
            namespaces: row.try_get("namespaces")?,
            self_registered: row.try_get("self_registered")?,
            without_consent: from_json(row.try_get("without_consent")?).map_err(of_resource)?,
        },
        id,
    })
}
