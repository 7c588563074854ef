//! `render`: the configuration files for running the programs without a cluster, for example with compose.

use std::{fs, path::PathBuf};

use anyhow::bail;

use mcp_auth_operator::{
    desired::{
        authserver_config::{postgres_ca, wants_postgres},
        everywhere,
        names::{HEALTH_PORT, INTERNAL_PORT, PUBLIC_PORT},
    },
    random,
};
use mcpauth_wire::{authserver_config::Listen, proxy_config};

use crate::{
    config::{
        layout::{self, Place, ServerPlace},
        write::{self, Readers},
    },
    manifests,
};

/// Write the programs' configuration files, to run them without a cluster
///
/// Writes the files that the operator would put into ConfigMaps and Secrets: DIR/authserver/ for the authorization server
/// and DIR/NAME-proxy/ for the resource-proxy of each ProtectedMcpServer. See compose.yaml for an example.
/// Running the command again keeps existing secrets.
#[derive(clap::Args, Clone, Debug)]
pub struct RenderArgs {
    /// YAML file with one McpAuthServer, at least one ProtectedMcpServer, and the McpOAuthClients and Secrets that
    /// go with them
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// Directory to write to
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
    /// Path at which each program sees its own directory
    #[arg(long, default_value = "/etc/mcpauth", value_name = "DIR")]
    pub mount: String,
    /// Host name at which the proxies reach the authorization server
    #[arg(long, default_value = "authserver", value_name = "HOST")]
    pub authserver_host: String,
    /// Host name at which a proxy reaches its MCP server; the default is for a proxy that shares the server's
    /// network namespace, as in a pod
    #[arg(long, default_value = "127.0.0.1", value_name = "HOST")]
    pub upstream_host: String,
    /// Store state in PostgreSQL, regardless of spec.storage; FILE holds the connection URL and is read by the
    /// authorization server when it starts
    #[arg(long, value_name = "FILE")]
    pub postgres_url_file: Option<String>,
    /// The CA of PostgreSQL's certificate: connections are then encrypted and verified. Needed where the manifest
    /// names one (caSecretRef, caConfigMapRef)
    #[arg(long, value_name = "FILE", requires = "postgres_url_file")]
    pub postgres_ca_file: Option<String>,
}

/// Writes the configuration files, and prints their names.
///
/// # Errors
/// When the manifests cannot be used or a file cannot be written.
pub fn render(args: &RenderArgs) -> anyhow::Result<()> {
    let manifests = manifests::read(&args.file)?;
    if wants_postgres(&manifests.auth_server.spec) && args.postgres_url_file.is_none() {
        bail!(
            "the McpAuthServer stores its state in PostgreSQL: set --postgres-url-file to a file with the connection URL"
        );
    }
    if postgres_ca(&manifests.auth_server.spec).is_some() && args.postgres_ca_file.is_none() {
        bail!(
            "the McpAuthServer verifies its PostgreSQL by a CA: set --postgres-ca-file to a file with its certificates"
        );
    }
    let mount = args.mount.clone();
    let place = Place {
        authserver: Listen {
            public: everywhere(PUBLIC_PORT),
            internal: everywhere(INTERNAL_PORT),
            health: everywhere(HEALTH_PORT),
        },
        postgres_url_file: args.postgres_url_file.clone(),
        postgres_ca_file: args.postgres_ca_file.clone(),
        introspection_endpoint: format!(
            "http://{}:{INTERNAL_PORT}/introspect",
            args.authserver_host
        ),
        servers: manifests
            .servers
            .iter()
            .map(|_| ServerPlace {
                listen: proxy_config::Listen {
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
    write::write(&args.output, &files, Readers::Everybody)?;
    for file in &files {
        println!(
            "{}",
            args.output.join(&file.folder).join(&file.name).display()
        );
    }
    Ok(())
}
