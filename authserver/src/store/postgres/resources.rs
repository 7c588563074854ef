//! Protected resources.

use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::super::{StoreError, Upsert, canonical, resource_taken};
use super::Database;
use super::clients::{from_json, to_json};
use crate::oauth::resource::Resource;

impl Database {
    pub(super) async fn upsert_resource(&self, resource: &Resource) -> Result<Upsert, StoreError> {
        let before = self.resource(&resource.id).await?;
        let same = before.as_ref() == Some(resource);
        if same && self.has_canonical(&resource.id).await? {
            return Ok(Upsert::Unchanged);
        }
        let mut transaction = self.pool.begin().await?;
        // With another URI it is another audience: the grants go with the old row.
        sqlx::query("DELETE FROM resources WHERE id = $1 AND resource <> $2")
            .bind(&resource.id)
            .bind(&resource.resource)
            .execute(&mut *transaction)
            .await?;
        sqlx::query(
            "INSERT INTO resources (id, resource, name, scopes, introspectors, canonical)
             VALUES ($1, $2, $3, $4::jsonb, $5, $6)
             ON CONFLICT (id) DO UPDATE SET
                 canonical = EXCLUDED.canonical,
                 name = EXCLUDED.name,
                 scopes = EXCLUDED.scopes,
                 introspectors = EXCLUDED.introspectors",
        )
        .bind(&resource.id)
        .bind(&resource.resource)
        .bind(&resource.name)
        .bind(to_json(&resource.scopes)?)
        .bind(&resource.introspectors)
        .bind(canonical(&resource.resource))
        .execute(&mut *transaction)
        .await
        .map_err(|error| match StoreError::from(error) {
            StoreError::Conflict(_) => resource_taken(resource),
            other => other,
        })?;
        transaction.commit().await?;
        Ok(match before {
            None => Upsert::Created,
            Some(_) if same => Upsert::Unchanged,
            Some(_) => Upsert::Updated,
        })
    }

    /// Not what an older version wrote, nor the second of two equal ones, see migration 2.
    async fn has_canonical(&self, id: &str) -> Result<bool, StoreError> {
        let known = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM resources WHERE id = $1 AND canonical IS NOT NULL)",
        )
        .bind(id)
        .fetch_one(&self.pool)
        .await?;
        Ok(known)
    }

    pub(super) async fn resource(&self, id: &str) -> Result<Option<Resource>, StoreError> {
        sqlx::query(
            "SELECT id, resource, name, scopes::text, introspectors FROM resources
             WHERE id = $1",
        )
        .bind(id)
        .fetch_optional(&self.pool)
        .await?
        .map(|row| read_resource(&row))
        .transpose()
    }

    pub(super) async fn resources(&self) -> Result<Vec<Resource>, StoreError> {
        sqlx::query(
            r#"SELECT id, resource, name, scopes::text, introspectors FROM resources
               ORDER BY id COLLATE "C""#,
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
    })
}
