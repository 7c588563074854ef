//! `render`: the configuration files for running the programs some other way, such as compose.

use std::{fs, path::PathBuf};

use anyhow::bail;

use super::{
    files::{self, Readers},
    layout::{self, Place, ServerPlace},
};
use crate::{
    desired::{
        authserver_config::{Listen, wants_postgres},
        names::{HEALTH_PORT, INTERNAL_PORT, PUBLIC_PORT},
        proxy_config::ProxyListen,
    },
    random,
};

/// Options of `mcp-auth-operator render`.
#[derive(clap::Args, Clone, Debug)]
pub struct RenderArgs {
    /// The manifests: a YAML file with a McpAuthServer, its ProtectedMcpServers and McpOAuthClients.
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// Where to write: `authserver/` with the authserver's files, and for each ProtectedMcpServer
    /// `NAME-proxy/` with its proxy's. Secrets that are there already are kept.
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
    /// Where each program sees its folder.
    #[arg(long, default_value = "/etc/mcpauth", value_name = "DIR")]
    pub mount: String,
    /// Host at which the proxies reach the authserver.
    #[arg(long, default_value = "authserver", value_name = "HOST")]
    pub authserver_host: String,
    /// Host at which a proxy reaches its MCP server. The default is for a proxy that shares the
    /// server's network, as in a pod.
    #[arg(long, default_value = "127.0.0.1", value_name = "HOST")]
    pub upstream_host: String,
    /// Keep state in PostgreSQL, whatever the manifest says; the connection URL is in this file, as
    /// the authserver sees it.
    #[arg(long, value_name = "FILE")]
    pub postgres_url_file: Option<String>,
}

/// Writes the configuration files, and prints their names.
///
/// # Errors
/// When the manifests are of no use or a file cannot be written.
pub fn render(args: &RenderArgs) -> anyhow::Result<()> {
    let manifests = super::read(&args.file)?;
    if wants_postgres(&manifests.auth_server.spec) && args.postgres_url_file.is_none() {
        bail!(
            "the McpAuthServer keeps its state in PostgreSQL: say where with --postgres-url-file"
        );
    }
    let everywhere = |port: u16| format!("0.0.0.0:{port}");
    let mount = args.mount.clone();
    let place = Place {
        authserver: Listen {
            public: everywhere(PUBLIC_PORT),
            internal: everywhere(INTERNAL_PORT),
            health: everywhere(HEALTH_PORT),
        },
        postgres_url_file: args.postgres_url_file.clone(),
        introspection_endpoint: format!(
            "http://{}:{INTERNAL_PORT}/introspect",
            args.authserver_host
        ),
        servers: manifests
            .servers
            .iter()
            .map(|_| ServerPlace {
                listen: ProxyListen {
                    proxy: everywhere(PUBLIC_PORT),
                    health: everywhere(HEALTH_PORT),
                },
                upstream_host: args.upstream_host.clone(),
            })
            .collect(),
        seen_at: Box::new(move |_| mount.clone()),
        walker: false,
    };
    let files = layout::files(&manifests, &place, &mut |folder, name, encode| {
        let path = args.output.join(folder).join(name);
        match fs::read_to_string(&path) {
            Ok(kept) => Ok(kept),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Ok(encode(&random::bytes()?))
            }
            Err(error) => Err(anyhow::anyhow!("cannot read {}: {error}", path.display())),
        }
    })?;
    files::write(&args.output, &files, Readers::Everybody)?;
    for file in &files {
        println!(
            "{}",
            args.output.join(&file.folder).join(&file.name).display()
        );
    }
    Ok(())
}
