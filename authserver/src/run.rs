//! The server's life: bind, open the store, serve, stop.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::{Config, Storage};
use crate::http::health::Health;
use crate::http::state::App;
use crate::http::{health, internal as internal_port, public as public_port};
use crate::server::{Limits, bind, serve};
use crate::shutdown;
use crate::store::{MemoryStore, PostgresStore, Store};

/// How often a database that does not answer is tried.
const RETRY: Duration = Duration::from_secs(2);
/// How often what has expired is cleared away.
const CLEARING: Duration = Duration::from_secs(10);
/// Dynamically registered clients without a grant are removed after so long without use.
const UNUSED_CLIENT: Duration = Duration::from_secs(30 * 24 * 3600);

/// Runs the server until it is told to stop.
///
/// # Errors
/// When a port is taken or the server cannot start with what is in the store.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let public = bind("listen.public", &config.listen.public.to_string()).await?;
    let internal = bind("listen.internal", &config.listen.internal.to_string()).await?;
    let probes = bind("listen.health", &config.listen.health.to_string()).await?;
    let [public_at, internal_at, health_at] = [
        public.local_addr()?,
        internal.local_addr()?,
        probes.local_addr()?,
    ];
    let health = Health::default();
    let stop = CancellationToken::new();
    let signals = tokio::spawn(shutdown::on_signal(health.clone(), stop.clone()));
    // Probes are answered to the end, also while the others drain.
    let end = CancellationToken::new();
    let health_port = tokio::spawn(serve(
        probes,
        health::router(health.clone()),
        Limits::INTERNAL,
        end.clone(),
    ));
    let started = tokio::select! {
        started = start(config, &health) => Some(started?),
        () = stop.cancelled() => None,
    };
    if let Some(app) = started {
        let app = Arc::new(app);
        tracing::info!(
            issuer = %app.issuer, public = %public_at, internal = %internal_at, health = %health_at,
            "serving"
        );
        health.started(app.clone());
        let clearing = tokio::spawn(clear(app.clone(), stop.clone()));
        tokio::join!(
            serve(
                public,
                public_port::router(app.clone()),
                Limits::PUBLIC,
                stop.clone()
            ),
            serve(internal, internal_port::router(app), Limits::INTERNAL, stop),
        );
        clearing.await?;
    }
    end.cancel();
    health_port.await?;
    signals.abort();
    Ok(())
}

async fn start(config: Config, health: &Health) -> anyhow::Result<App> {
    let store: Arc<dyn Store> = match &config.storage {
        Storage::Memory => Arc::new(MemoryStore::default()),
        Storage::Postgres {
            url,
            max_connections,
        } => {
            let store = PostgresStore::new(url.reveal(), *max_connections)
                .map_err(|error| anyhow::anyhow!("storage.postgres.urlFile: {error}"))?;
            migrate(&store, health).await;
            Arc::new(store)
        }
    };
    Ok(App::new(config, store, Clock::system()).await?)
}

/// Brings the database's schema up to date, and tries until it answers: it may be starting beside us.
async fn migrate(store: &PostgresStore, health: &Health) {
    while let Err(error) = store.migrate().await {
        tracing::warn!(%error, "waiting for the database");
        health.waiting_for(error.to_string());
        tokio::time::sleep(RETRY).await;
    }
}

/// Removes what has expired, until the server stops.
async fn clear(app: Arc<App>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(CLEARING) => {}
            () = stop.cancelled() => return,
        }
        let now = app.clock.now();
        loop {
            match app
                .store
                .remove_expired(now.minus(UNUSED_CLIENT), now)
                .await
            {
                Ok(true) if !stop.is_cancelled() => {}
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!(%error, "what has expired could not be removed; trying again");
                    break;
                }
            }
        }
    }
}
