//! The operator's lifecycle: wait to become the leader, run the controllers, shut down in order.

use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use futures::future::join_all;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::ListParams;
use kube::{Api, Client};
use mcpauth_api::{McpAuthServer, McpOAuthClient, ProtectedMcpServer};
use mcpauth_service::clock::Clock;
use mcpauth_service::health::Health;
use mcpauth_service::listener::Listener;
use mcpauth_service::shutdown::Shutdown;
use tokio_util::sync::CancellationToken;

use crate::authserver::Endpoint;
use crate::config::{Config, UserIds};
use crate::framework::apply::is_code;
use crate::framework::context::Context;
use crate::framework::guarded::Guarded;
use crate::framework::leader::Elector;
use crate::framework::reconciler::Reconcile;
use crate::framework::run as controller;
use crate::metrics::Metrics;
use crate::platform;

/// How long running reconciles may take to finish on shutdown. Shorter than the pod's grace period, so that the
/// Lease can still be released.
const DRAIN: Duration = Duration::from_secs(20);
/// How long releasing the Lease may take.
const RELEASE: Duration = Duration::from_secs(3);
/// Time between attempts to reach the API server on start.
const RETRY: Duration = Duration::from_secs(2);

/// Runs the operator until it receives a signal.
///
/// # Errors
/// When the health port is in use, the CustomResourceDefinitions are missing, or the leadership is lost;
/// the process must then exit at once.
pub async fn run(
    client: Client,
    config: Config,
    clock: Clock,
    endpoint: Endpoint,
) -> anyhow::Result<()> {
    // The operator serves no traffic that would have to move to another replica first.
    let shutdown = Shutdown::on_signal(Duration::ZERO)?;
    let probes = Listener::bind("--health-address", config.health_address).await?;
    let metrics = Arc::new(Metrics::default());
    let encoded = Arc::clone(&metrics);
    let health = Health::new(shutdown.clone(), move || encoded.encode());
    let health_port = health.serve(probes);
    tokio::select! {
        result = lead(client, config, clock, endpoint, &metrics, &health, shutdown.closing()) => result?,
        () = shutdown.is_cut().cancelled() => {}
    }
    health_port.stop().await;
    Ok(())
}

async fn lead(
    client: Client,
    mut config: Config,
    clock: Clock,
    endpoint: Endpoint,
    metrics: &Arc<Metrics>,
    health: &Health,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    health.not_ready("the Kubernetes API has not responded yet");
    if !wait_for_api(&client, &config, stop).await? {
        return Ok(());
    }
    let Some(user_ids) = wait_for_user_ids(&client, config.user_ids, stop).await else {
        return Ok(());
    };
    config.user_ids = user_ids;
    // A standby replica is ready, too.
    health.ready();
    let leases: Api<Lease> = Api::namespaced(client.clone(), &config.namespace);
    let mut elector = Elector::new(
        leases,
        config.lease_name.clone(),
        &config.identity,
        clock.clone(),
    )?;
    if !elector.acquire(stop).await {
        return Ok(());
    }
    metrics.leads(true);
    tracing::info!(
        identity = elector.identity(),
        "this replica is now the leader"
    );

    let context = Arc::new(Context::new(
        client,
        config,
        Arc::clone(metrics),
        clock,
        endpoint,
    ));
    // The Lease is held until the last reconcile has ended.
    let lost = tokio::select! {
        lost = elector.hold() => Some(lost),
        () = run_controllers(&context, stop) => None,
    };
    metrics.leads(false);
    if let Some(lost) = lost {
        bail!("lost the leader Lease, exiting: {lost}");
    }
    match tokio::time::timeout(RELEASE, elector.release()).await {
        Ok(Ok(())) => tracing::info!("stopped and released the leader Lease"),
        Ok(Err(error)) => {
            tracing::warn!(%error, "could not release the leader Lease; it will expire");
        }
        Err(_) => tracing::warn!("could not release the leader Lease; it will expire"),
    }
    Ok(())
}

/// Runs the three controllers in each watched namespace until `stop`, then finishes the running reconciles within [`DRAIN`].
pub async fn run_controllers(context: &Arc<Context>, stop: &CancellationToken) {
    let all = join_all(context.scopes().into_iter().map(|scope| async move {
        tokio::join!(
            controller::run::<McpAuthServer>(scope.clone(), stop.clone()),
            controller::run::<ProtectedMcpServer>(scope.clone(), stop.clone()),
            controller::run::<McpOAuthClient>(scope, stop.clone()),
        )
    }));
    let cut = async {
        stop.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        _ = all => {}
        () = cut => tracing::warn!("reconciles still running after {} s were aborted", DRAIN.as_secs()),
    }
}

/// Waits until the API server responds and serves our kinds. Returns `false` when `stop` came first.
async fn wait_for_api(
    client: &Client,
    config: &Config,
    stop: &CancellationToken,
) -> anyhow::Result<bool> {
    loop {
        let answer = tokio::select! {
            () = stop.cancelled() => return Ok(false),
            answer = knows_our_kinds(client, config) => answer,
        };
        match answer {
            Ok(()) => return Ok(true),
            Err((kind, error)) if is_code(&error, 404) => bail!(
                "the Kubernetes API does not serve {kind}: install the CustomResourceDefinitions \
                 (kubectl apply -f crds/, or the chart with crds.enabled)"
            ),
            Err((kind, error)) => {
                tracing::warn!(kind, %error, "cannot list objects; retrying");
            }
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(false),
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

/// Decides who chooses the uids of pods. None when `stop` came first.
async fn wait_for_user_ids(
    client: &Client,
    wanted: UserIds,
    stop: &CancellationToken,
) -> Option<UserIds> {
    loop {
        match platform::user_ids(client, wanted).await {
            Ok(user_ids) => {
                tracing::info!(?user_ids, "who chooses the uids of pods (--user-ids)");
                return Some(user_ids);
            }
            Err(error) => {
                tracing::warn!(%error, "cannot list the API groups, to see whether the platform sets the uids of pods; retrying. --user-ids=fixed or platform needs no look");
            }
        }
        tokio::select! {
            () = stop.cancelled() => return None,
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

async fn knows_our_kinds(
    client: &Client,
    config: &Config,
) -> Result<(), (&'static str, kube::Error)> {
    is_known::<McpAuthServer>(client, config).await?;
    is_known::<ProtectedMcpServer>(client, config).await?;
    is_known::<McpOAuthClient>(client, config).await
}

async fn is_known<K: Reconcile>(
    client: &Client,
    config: &Config,
) -> Result<(), (&'static str, kube::Error)> {
    let namespaces = config.watch_namespaces.iter();
    let mut apis: Vec<Api<Guarded<K>>> = namespaces
        .map(|namespace| Api::namespaced(client.clone(), namespace))
        .collect();
    if apis.is_empty() {
        apis.push(Api::all(client.clone()));
    }
    let one = ListParams::default().limit(1);
    for api in apis {
        api.list(&one).await.map_err(|error| (K::KIND, error))?;
    }
    Ok(())
}
