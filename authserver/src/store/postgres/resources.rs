//! Protected resources.

use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::super::{StoreError, Upsert, canonical, resource_taken};
use super::Database;
use super::clients::{from_json, to_json};
use super::housekeeping::BATCH;
use crate::oauth::admission::AllowedClients;
use crate::oauth::resource::Resource;

/// $1 the resource, $2 the batch.
const SWEEP: &str = concat!(
    "DELETE FROM grants WHERE id = ANY(ARRAY(
         SELECT g.id FROM grants g
         JOIN clients c ON c.client_id = g.client_id
         JOIN resources r ON r.resource = g.resource
         WHERE g.resource = $1 AND r.sweep AND (",
    is_admitted!(),
    ") IS NOT TRUE
         LIMIT $2))"
);

impl Database {
    pub(super) async fn upsert_resource(&self, resource: &Resource) -> Result<Upsert, StoreError> {
        let before = self.resource(&resource.id).await?;
        let same = before.as_ref() == Some(resource);
        if same && self.is_settled(&resource.id).await? {
            return Ok(Upsert::Unchanged);
        }
        // What an earlier change has begun ends by its own rules first: a client that is admitted again does not
        // get back what it had.
        self.sweep(&resource.resource).await?;
        let keeps_uri = before.as_ref().filter(|b| b.resource == resource.resource);
        let narrowed = keeps_uri.is_some_and(|b| b.allowed_clients != resource.allowed_clients);
        let mut transaction = self.begin().await?;
        // With another URI it is another audience: the grants go with the old row.
        sqlx::query("DELETE FROM resources WHERE id = $1 AND resource <> $2")
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
        if narrowed {
            self.sweep(&resource.resource).await?;
        }
        Ok(match before {
            None => Upsert::Created,
            Some(_) if same => Upsert::Unchanged,
            Some(_) => Upsert::Updated,
        })
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

    /// Removes the grants of clients that the resource does not admit, if it is marked for that.
    async fn sweep(&self, resource: &str) -> Result<(), StoreError> {
        while sqlx::query(SWEEP)
            .bind(resource)
            .bind(i64::from(BATCH))
            .execute(&self.pool)
            .await?
            .rows_affected()
            == u64::from(BATCH)
        {}
        sqlx::query("UPDATE resources SET sweep = false WHERE resource = $1 AND sweep")
            .bind(resource)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    pub(super) async fn resource(&self, id: &str) -> Result<Option<Resource>, StoreError> {
        sqlx::query(
            "SELECT id, resource, name, scopes::text, introspectors, all_namespaces, namespaces,
                    self_registered, without_consent::text
             FROM resources WHERE id = $1",
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
               FROM resources ORDER BY id COLLATE "C""#,
        )
        .fetch_all(&self.pool)
        .await?
        .iter()
        .map(read_resource)
        .collect()
    }

    pub(super) async fn delete_resource(&self, id: &str) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM resources WHERE id = $1")
            .bind(id)
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}

fn read_resource(row: &PgRow) -> Result<Resource, StoreError> {
    Ok(Resource {
        id: row.try_get("id")?,
        resource: row.try_get("resource")?,
        name: row.try_get("name")?,
        scopes: from_json(row.try_get("scopes")?)?,
        introspectors: row.try_get("introspectors")?,
        allowed_clients: AllowedClients {
            all_namespaces: row.try_get("all_namespaces")?,
            namespaces: row.try_get("namespaces")?,
            self_registered: row.try_get("self_registered")?,
            without_consent: from_json(row.try_get("without_consent")?)?,
        },
    })
}
