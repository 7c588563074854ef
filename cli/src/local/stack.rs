//! Runs the programs for a set of manifests, on loopback.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use kube::ResourceExt;
use mcp_auth_operator::{desired::names, random};
use mcpauth_api::{ProtectedMcpServer, auth_server::Login, protected_server::ServerTemplate};
use mcpauth_wire::{authserver_config::Listen, proxy_config};
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};

use super::{
    ports,
    process::{Processes, Program, find},
    relay::{self, Record},
    walk::Target,
};
use crate::{
    config::{
        layout::{self, AUTHSERVER, Place, ServerPlace, WALKER, proxy_folder, template_of},
        write::{self, Readers},
    },
    manifests::{Manifests, namespace_of},
};

/// How long a program may take to become ready.
const START: Duration = Duration::from_secs(30);

/// The running programs.
pub struct Stack {
    /// The target of the scripted flow.
    pub target: Target,
    /// The last introspection of any proxy.
    pub record: Record,
    /// The clients of the manifests that have a secret.
    pub clients: Vec<Client>,
    /// Configuration and secrets; deleted on drop.
    _folder: TempDir,
}

/// A client that has a secret.
pub struct Client {
    /// Its client id.
    pub id: String,
    /// The file with its secret.
    pub secret_file: PathBuf,
}

/// The addresses that the programs listen on; for a proxy, its main and its health address.
struct Addresses {
    public: SocketAddr,
    internal: SocketAddr,
    health: SocketAddr,
    proxies: Vec<(SocketAddr, SocketAddr)>,
}

impl Stack {
    /// Starts the programs in `processes` and waits until each is ready.
    ///
    /// # Errors
    /// When a port is in use, a program is missing, or one does not become ready.
    pub async fn start(
        manifests: &Manifests,
        logs: &Path,
        processes: &mut Processes,
    ) -> anyhow::Result<Self> {
        let addresses = addresses(manifests)?;
        let folder = tempfile::Builder::new()
            .prefix("mcp-auth-local-")
            .tempdir()?;
        let root = folder.path().to_owned();
        let record = Record::default();
        let endpoint = format!("http://{}/introspect", addresses.internal);
        let relay = relay::start(endpoint, record.clone()).await?;
        let place = place(&addresses, relay, root.clone());
        let files = layout::files(manifests, &place, &mut |_, _, encode| {
            Ok(encode(&random::bytes()?))
        })?;
        write::write(&root, &files, Readers::Owner)?;

        let authserver = program(
            "mcp-authserver",
            &root.join(AUTHSERVER).join("authserver.yaml"),
        )?;
        processes.start(&authserver, logs)?;
        until_ready(processes, &authserver.name, addresses.health).await?;
        for (server, (_, health)) in manifests.servers.iter().zip(&addresses.proxies) {
            start_server(processes, manifests, server, logs).await?;
            let name = proxy_folder(&server.name_any());
            let config = root.join(&name).join("proxy.yaml");
            let proxy = Program {
                name,
                ..program("mcp-resource-proxy", &config)?
            };
            processes.start(&proxy, logs)?;
            until_ready(processes, &proxy.name, *health).await?;
        }
        Ok(Self {
            target: target(manifests)?,
            record,
            clients: clients(manifests, &root),
            _folder: folder,
        })
    }
}

fn addresses(manifests: &Manifests) -> anyhow::Result<Addresses> {
    let mut fields = vec![("spec.issuer", manifests.auth_server.spec.issuer.as_str())];
    fields.extend(
        manifests
            .servers
            .iter()
            .map(|s| ("spec.resource", s.spec.resource.as_str())),
    );
    let mut public = Vec::new();
    for (field, url) in fields {
        let address = ports::address_of(field, url)?;
        if public.contains(&address) {
            bail!(
                "{field}: {url} has the same port as another URL in the file: change one of them"
            );
        }
        ports::check_free(field, address)?;
        public.push(address);
    }
    for server in &manifests.servers {
        let template = template_of(server)?;
        let address = SocketAddr::from(([127, 0, 0, 1], template.http.port));
        ports::check_free("spec.server.template.http.port", address)?;
    }
    let mut public = public.into_iter();
    Ok(Addresses {
        public: public.next().context("the McpAuthServer has no issuer")?,
        internal: ports::free()?,
        health: ports::free()?,
        proxies: public
            .map(|proxy| Ok((proxy, ports::free()?)))
            .collect::<anyhow::Result<_>>()?,
    })
}

fn place(addresses: &Addresses, introspection_endpoint: String, root: PathBuf) -> Place {
    Place {
        authserver: Listen {
            public: addresses.public,
            internal: addresses.internal,
            health: addresses.health,
        },
        postgres_url_file: None,
        postgres_ca_file: None,
        introspection_endpoint,
        servers: addresses
            .proxies
            .iter()
            .map(|(proxy, health)| ServerPlace {
                listen: proxy_config::Listen {
                    proxy: *proxy,
                    health: *health,
                },
                upstream_host: "127.0.0.1".to_owned(),
            })
            .collect(),
        seen_at: Box::new(move |folder| root.join(folder).display().to_string()),
        walker: true,
    }
}

fn target(manifests: &Manifests) -> anyhow::Result<Target> {
    let server = manifests
        .servers
        .first()
        .context("the file has no ProtectedMcpServer")?;
    let spec = &manifests.auth_server.spec;
    Ok(Target {
        name: server.name_any(),
        resource: server.spec.resource.clone(),
        approves: matches!(spec.login, Login::DevelopmentAutoApprove(_)),
        client_id: (!layout::walker_registers(spec)).then(|| WALKER.to_owned()),
        friction: server.spec.friction.is_some(),
    })
}

fn clients(manifests: &Manifests, root: &Path) -> Vec<Client> {
    let with_secret =
        |client: &&mcpauth_api::McpOAuthClient| client.spec.token_endpoint_auth_method.has_secret();
    manifests
        .clients
        .iter()
        .filter(with_secret)
        .map(|client| Client {
            id: names::client_id(&namespace_of(client), &client.name_any()),
            secret_file: root
                .join(AUTHSERVER)
                .join(names::client_secret(&client.name_any())),
        })
        .collect()
}

fn program(name: &str, config: &Path) -> anyhow::Result<Program> {
    Ok(Program {
        name: name.to_owned(),
        path: find(name)?,
        args: vec!["--config".to_owned(), config.display().to_string()],
        env: Vec::new(),
    })
}

async fn start_server(
    processes: &mut Processes,
    manifests: &Manifests,
    server: &ProtectedMcpServer,
    logs: &Path,
) -> anyhow::Result<()> {
    let template = template_of(server)?;
    let name = server.name_any();
    let mut command = template.command.iter().chain(&template.args).cloned();
    let Some(program) = command.next().filter(|_| !template.command.is_empty()) else {
        bail!(
            "ProtectedMcpServer {name}: set spec.server.template.command: it is required to run the server without its image"
        );
    };
    let program = Program {
        name: format!("{name}-server"),
        path: find(&program)?,
        args: command.collect(),
        env: environment(manifests, server, template)?,
    };
    processes.start(&program, logs)?;
    let address = SocketAddr::from(([127, 0, 0, 1], template.http.port));
    wait(processes, &program.name, async || {
        TcpStream::connect(address).await.is_ok()
    })
    .await
}

fn environment(
    manifests: &Manifests,
    server: &ProtectedMcpServer,
    template: &ServerTemplate,
) -> anyhow::Result<Vec<(String, String)>> {
    let from = format!("ProtectedMcpServer {}", server.name_any());
    let namespace = namespace_of(server);
    if !template.env_from.is_empty() {
        bail!(
            "{from}: spec.server.template.envFrom needs a cluster; outside one, name each variable in env"
        );
    }
    let mut environment = Vec::new();
    for variable in &template.env {
        let name = variable.name.clone();
        let Some(source) = &variable.value_from else {
            environment.push((name, variable.value.clone().unwrap_or_default()));
            continue;
        };
        let Some(secret) = &source.secret_key_ref else {
            bail!(
                "{from}: spec.server.template.env[{name}].valueFrom: only secretKeyRef works outside a cluster; give a \
                 value or a secretKeyRef"
            );
        };
        match manifests.secret(&from, &namespace, &secret.name, &secret.key) {
            Ok(value) => environment.push((name, value)),
            Err(_) if secret.optional == Some(true) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(environment)
}

async fn until_ready(
    processes: &mut Processes,
    name: &str,
    health: SocketAddr,
) -> anyhow::Result<()> {
    let url = format!("http://{health}/readyz");
    let client = reqwest::Client::new();
    wait(processes, name, async || {
        client
            .get(&url)
            .send()
            .await
            .is_ok_and(|response| response.status().is_success())
    })
    .await
}

/// Polls until `is_up` returns true, a program ends, or it takes too long.
async fn wait(
    processes: &mut Processes,
    name: &str,
    is_up: impl AsyncFn() -> bool,
) -> anyhow::Result<()> {
    let poll = async {
        while !is_up().await {
            sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        up = timeout(START, poll) => up.with_context(|| format!("{name} did not become ready within {START:?}")),
        error = processes.any_end() => Err(error),
    }
}
