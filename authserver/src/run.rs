//! The server's lifecycle: open the ports and the store, serve, drain.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use mcpauth_service::audit::Audit;
use mcpauth_service::clock::Clock;
use mcpauth_service::health::Health;
use mcpauth_service::listener::{Limits, Listener};
use mcpauth_service::shutdown::Shutdown;
use mcpauth_wire::authserver_config::DynamicRegistration;
use tokio::runtime::Handle;

use crate::config::{Config, Storage};
use crate::http::app::App;
use crate::http::core::Core;
use crate::http::internal::InternalPort;
use crate::http::internal::token_verifier::TokenVerifier;
use crate::http::public as public_port;
use crate::http::serve::{serve, serve_internal};
use crate::internal_tls::Certificate;
use crate::metrics::Metrics;
use crate::pepper_use;
use crate::readiness::Readiness;
use crate::signing::Signing;
use crate::store::{MemoryStore, ObservedStore, PostgresStore, Store, Unused};

/// How long new requests are still served after SIGTERM, while Kubernetes takes the pod out of its Services.
const LEAD: Duration = Duration::from_secs(2);
/// How long the last audit lines may take to be written.
const FLUSH: Duration = Duration::from_secs(2);
/// How often an unresponsive database is retried.
const RETRY: Duration = Duration::from_secs(2);
/// How long the store may take to answer a readiness probe.
const PING: Duration = Duration::from_secs(2);
/// How often expired tokens and unused clients are removed.
const HOUSEKEEPING: Duration = Duration::from_secs(10);
/// How often it is counted what other peppers than the current one are needed for.
const COUNTING: Duration = Duration::from_mins(5);
/// How often the signing keys are looked after: more often than a set of them may be kept.
const KEYS: Duration = Duration::from_mins(1);

/// Runs the server until it is told to stop. The public port has threads of its own: who floods it keeps neither resource
/// servers waiting, nor the operator, nor probes.
///
/// # Errors
/// When a port is taken or the server cannot start with what is in the store.
pub async fn run(config: Config, public_threads: &Handle) -> anyhow::Result<()> {
    let shutdown = Shutdown::on_signal(LEAD)?;
    let listen = &config.listen;
    let public = Listener::bind("listen.public", listen.public);
    let public = public_threads.spawn(public).await??;
    let mut internal = Listener::bind("listen.internal", listen.internal).await?;
    let probes = Listener::bind("listen.health", listen.health).await?;
    let addresses = [&public, &internal, &probes].map(Listener::address);

    let certificate = config.internal.tls.clone().map(Certificate::load);
    let certificate = certificate.transpose()?;
    if let Some(certificate) = &certificate {
        internal = internal.with_tls(certificate.tls());
    }
    let metrics = Arc::new(Metrics::default());
    let audit = audit(&config, &metrics)?;
    let encoded = Arc::clone(&metrics);
    let health = Health::new(shutdown.clone(), move || encoded.encode());
    let health_port = health.serve(probes);
    let registration = config.registration.dynamic.clone().unwrap_or_default();
    // Nothing is served yet, so a stop during startup needs no lead time.
    let started = tokio::select! {
        started = start(config, Arc::clone(&metrics), audit.clone(), &health) => Some(started?),
        () = shutdown.draining().cancelled() => None,
    };
    if let Some(app) = started {
        let queues = app.public.clone();
        metrics.on_scrape(move |metrics| queues.count_waiting(metrics));
        let store = Arc::clone(&app.core.store);
        let verifier = app.service_accounts.clone();
        let keys = tokio::spawn(keep_keys(app.service_accounts, shutdown.clone()));
        let readiness = Arc::new(Readiness::default());
        health.ready_if(move || {
            let check = ready(Arc::clone(&store), verifier.clone());
            let readiness = Arc::clone(&readiness);
            async move { readiness.ask(check).await }
        });
        let [public_at, internal_at, health_at] = addresses;
        tracing::info!(
            issuer = %app.core.issuer, public = %public_at, internal = %internal_at, health = %health_at,
            "serving"
        );
        let (core, counted) = (Arc::clone(&app.core), Arc::clone(&metrics));
        let counting = tokio::spawn(count_pepper_uses(core, counted, shutdown.clone()));
        let counted = Arc::clone(&metrics);
        let renewal = tokio::spawn(renew(certificate, counted, shutdown.clone()));
        let core = Arc::clone(&app.core);
        let rotation = tokio::spawn(rotate_keys(core, app.signing, metrics, shutdown.clone()));
        let housekeeping = tokio::spawn(housekeeping(app.core, registration, shutdown.clone()));
        let routes = public_port::router(app.public);
        let serving_public = serve(public, routes, Limits::PUBLIC, shutdown.clone());
        let port = InternalPort::new(app.internal);
        let serving_internal = serve_internal(internal, port, Limits::INTERNAL, shutdown);
        let serving_public = public_threads.spawn(serving_public);
        serving_internal.await;
        serving_public.await?;
        housekeeping.await?;
        counting.await?;
        rotation.await?;
        renewal.await?;
        keys.await?;
    }
    health_port.stop().await;
    if !audit.flush(FLUSH) {
        tracing::error!("audit lines are lost: nobody reads standard output");
    }
    Ok(())
}

/// The audit, if there is one.
fn audit(config: &Config, metrics: &Metrics) -> anyhow::Result<Audit> {
    if !config.audit {
        return Ok(Audit::off());
    }
    let audit = Audit::on_standard_output(Clock::system(), metrics.audit_lines.clone());
    audit.context("cannot start the audit")
}

async fn start(
    config: Config,
    metrics: Arc<Metrics>,
    audit: Audit,
    health: &Health,
) -> anyhow::Result<App> {
    let store: Arc<dyn Store> = match &config.storage {
        Storage::Memory => Arc::new(MemoryStore::default()),
        Storage::Postgres {
            url,
            ca_file,
            max_connections,
        } => {
            let store = PostgresStore::with_ca(url.reveal(), ca_file.as_deref(), *max_connections)
                .map_err(|error| anyhow::anyhow!("storage.postgres.urlFile: {error}"))?;
            migrate(&store, health).await;
            let (pool, max) = (store.connections(), *max_connections);
            metrics.on_scrape(move |metrics| {
                metrics.database_connections(pool.size(), pool.num_idle(), max);
            });
            Arc::new(ObservedStore::new(store, Arc::clone(&metrics)))
        }
    };
    Ok(App::new(config, store, Clock::system(), metrics, audit).await?)
}

/// Brings the database's schema up to date, and tries until it answers: it may be starting beside us.
async fn migrate(store: &PostgresStore, health: &Health) {
    while let Err(error) = store.migrate().await {
        tracing::warn!(%error, "waiting for the database");
        health.not_ready(error.to_string());
        tokio::time::sleep(RETRY).await;
    }
}

/// Keeps the keys of ServiceAccount tokens up to date, until the server stops.
async fn keep_keys(verifier: Option<Arc<TokenVerifier>>, shutdown: Shutdown) {
    if let Some(verifier) = verifier {
        tokio::select! {
            () = verifier.keep_up_to_date() => {}
            () = shutdown.closing().cancelled() => {}
        }
    }
}

/// Follows changes of the internal port's certificate, until the server stops.
async fn renew(certificate: Option<Certificate>, metrics: Arc<Metrics>, shutdown: Shutdown) {
    if let Some(certificate) = certificate {
        tokio::select! {
            () = certificate.watch(&metrics) => {}
            () = shutdown.closing().cancelled() => {}
        }
    }
}

/// Readiness: whether callers of the internal port can be authenticated, and the store responds.
async fn ready(store: Arc<dyn Store>, verifier: Option<Arc<TokenVerifier>>) -> Result<(), String> {
    verifier.map_or(Ok(()), |verifier| verifier.ready())?;
    match tokio::time::timeout(PING, store.ping()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("storage did not respond within 2 s".to_owned()),
    }
}

/// Counts what other peppers than the current one are needed for, until the server stops.
async fn count_pepper_uses(core: Arc<Core>, metrics: Arc<Metrics>, shutdown: Shutdown) {
    let counting = async {
        loop {
            let now = core.clock.now();
            if let Err(error) =
                pepper_use::count(core.store.as_ref(), &core.pepper, &metrics, now).await
            {
                tracing::warn!(%error, "cannot count what is stored under older peppers; retrying");
            }
            tokio::time::sleep(COUNTING).await;
        }
    };
    tokio::select! {
        () = counting => {}
        () = shutdown.closing().cancelled() => {}
    }
}

/// Looks after the signing keys, until the server stops.
async fn rotate_keys(
    core: Arc<Core>,
    signing: Arc<Signing>,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
) {
    let tending = async {
        loop {
            signing.count(&metrics, core.clock.now());
            tokio::time::sleep(KEYS).await;
            let (store, now) = (core.store.as_ref(), core.clock.now());
            if let Err(error) = signing.tend(store, &core.pepper, now).await {
                tracing::warn!(%error, "cannot look after the signing keys; retrying");
            }
        }
    };
    tokio::select! {
        () = tending => {}
        () = shutdown.closing().cancelled() => {}
    }
}

/// Removes what has expired, until the server stops.
async fn housekeeping(core: Arc<Core>, registration: DynamicRegistration, shutdown: Shutdown) {
    let closing = shutdown.closing();
    loop {
        tokio::select! {
            () = tokio::time::sleep(HOUSEKEEPING) => {}
            () = closing.cancelled() => return,
        }
        let now = core.clock.now();
        let unused = Unused {
            never_used_since: now.minus(registration.never_used()),
            idle_since: now.minus(registration.idle()),
        };
        loop {
            match core.store.remove_expired(unused, now).await {
                Ok(true) if !closing.is_cancelled() => {}
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!(%error, "cannot remove expired tokens; retrying");
                    break;
                }
            }
        }
    }
}
