//! The configuration and secret files that the programs need outside a cluster. Pure, except for the secrets, which
//! the caller generates.

use anyhow::{Context, bail};
use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use kube::ResourceExt;
use mcpauth_api::{
    McpAuthServerSpec, ProtectedMcpServer, auth_server::Login, protected_server::ServerTemplate,
    telemetry::Telemetry,
};

use mcp_auth_operator::desired::{
    authserver_config::{AuthServerPlace, authserver_config, initial_access_token as token_ref},
    names,
    proxy_config::{ProxyCredential, ProxyPlace, proxy_config},
    registration::{self, Selected},
    telemetry::otlp_headers as headers_ref,
    yaml,
};
use mcpauth_wire::admin::AllowedClients;
use mcpauth_wire::authserver_config::{Credential, Internal, Listen};
use mcpauth_wire::client::{
    AssertionAudience, Client, ClientResource, Consent, GrantType, TokenEndpointAuthMethod,
};
use mcpauth_wire::principal;
use mcpauth_wire::proxy_config::{self as wire_proxy, BasicCredential};

use crate::manifests::{Manifests, namespace_of};

/// Folder of the authserver's files.
pub const AUTHSERVER: &str = "authserver";
/// The public client for the scripted flow, used when clients cannot register themselves.
pub const WALKER: &str = "local-walk";
/// The redirect URI of that client.
pub const WALKER_REDIRECT: &str = "http://127.0.0.1/callback";

/// Folder of the files of a server's proxy.
pub fn proxy_folder(server: &str) -> String {
    format!("{server}-proxy")
}

/// A file to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its folder: [`AUTHSERVER`], or a server's [`proxy_folder`].
    pub folder: String,
    /// Its name in the folder.
    pub name: String,
    /// What is in it.
    pub text: String,
}

/// Addresses and paths of the programs.
pub struct Place {
    /// The authserver's addresses.
    pub authserver: Listen,
    /// The file with the Postgres URL, as the authserver sees it; in-memory storage if there is none.
    pub postgres_url_file: Option<String>,
    /// The file with the CA of Postgres' certificate, likewise.
    pub postgres_ca_file: Option<String>,
    /// The introspection endpoint for the proxies.
    pub introspection_endpoint: String,
    /// Addresses of the servers, in the order of the manifests.
    pub servers: Vec<ServerPlace>,
    /// The path at which a program sees its folder, by the folder's name.
    pub seen_at: Box<dyn Fn(&str) -> String>,
    /// Whether [`WALKER`] is registered when clients cannot register themselves.
    pub walker: bool,
}

/// Addresses of one protected server.
#[derive(Clone, Debug)]
pub struct ServerPlace {
    /// The proxy's addresses.
    pub listen: wire_proxy::Listen,
    /// Host of the MCP server, as the proxy sees it.
    pub upstream_host: String,
}

/// Generates a secret: takes the folder, the file name, and a function that encodes random bytes as the file's text.
pub type Draw<'a> = dyn FnMut(&str, &str, fn(&[u8; 32]) -> String) -> anyhow::Result<String> + 'a;

/// Every file that the programs need.
///
/// # Errors
/// When a reference cannot be resolved, or a secret cannot be generated.
pub fn files(
    manifests: &Manifests,
    place: &Place,
    draw: &mut Draw<'_>,
) -> anyhow::Result<Vec<File>> {
    let mut files = Vec::new();
    let mut credentials = Vec::new();
    let mut resources = Vec::new();
    for (server, at) in manifests.servers.iter().zip(&place.servers) {
        let name = server.name_any();
        // The credential has the folder's name.
        let id = proxy_folder(&name);
        let secret = draw(&id, "secret", password)?;
        credentials.push(Credential {
            id: id.clone(),
            secret_file: seen(place, AUTHSERVER, &id).into(),
        });
        let spec = &manifests.auth_server.spec;
        let namespace = namespace_of(server);
        let at_home = namespace_of(&manifests.auth_server);
        let mut introspectors = registration::callers(spec, &at_home, &namespace, &name);
        introspectors.push(principal::credential(&id));
        resources.push((
            names::resource_id(&namespace_of(server), &name),
            registration::resource(&name, &server.spec, introspectors, allowed_clients(server)?),
        ));
        let template = template_of(server)?;
        let config = proxy_config(
            &server.spec,
            ProxyPlace {
                listen: at.listen,
                resource_name: name.clone(),
                issuer: manifests.auth_server.spec.issuer.clone(),
                upstream_url: format!(
                    "http://{}:{}{}",
                    at.upstream_host, template.http.port, template.http.path
                ),
                introspection_endpoint: place.introspection_endpoint.clone(),
                introspection_ca: None,
                credential: ProxyCredential::Basic(BasicCredential {
                    id: id.clone(),
                    secret_file: seen(place, &id, "secret").into(),
                }),
                otlp_headers_file: seen(place, &id, "otlp-headers"),
            },
        );
        let from = format!("ProtectedMcpServer {name}");
        let headers = otlp_headers(manifests, &from, &namespace, &server.spec.telemetry)?;
        if let Some(headers) = headers {
            files.push(file(&id, "otlp-headers", headers));
        }
        files.push(file(&id, "proxy.yaml", yaml(&config)?));
        files.push(file(&id, "secret", secret.clone()));
        files.push(file(AUTHSERVER, &id, secret));
    }
    let mut clients = clients(manifests, draw, &mut files)?;
    if place.walker && !walker_registers(&manifests.auth_server.spec) {
        clients.push((WALKER.to_owned(), walker(manifests)));
    }
    files.push(file(
        AUTHSERVER,
        "pepper",
        draw(AUTHSERVER, "pepper", pepper)?,
    ));
    let spec = &manifests.auth_server.spec;
    if let Some(users) = users(manifests, spec)? {
        files.push(file(AUTHSERVER, "users.yaml", users));
    }
    if let Some(token) = initial_access_token(manifests, spec)? {
        files.push(file(AUTHSERVER, "initial-access-token", token));
    }
    let from = format!("McpAuthServer {}", manifests.auth_server.name_any());
    let namespace = namespace_of(&manifests.auth_server);
    if let Some(headers) = otlp_headers(manifests, &from, &namespace, &spec.telemetry)? {
        files.push(file(AUTHSERVER, "otlp-headers", headers));
    }
    let callers = callers(manifests, place, &mut files)?;
    let config = authserver_config(
        spec,
        AuthServerPlace {
            listen: place.authserver,
            keys_file: seen(place, AUTHSERVER, "pepper"),
            postgres_url_file: place.postgres_url_file.clone(),
            postgres_ca_file: place.postgres_ca_file.clone(),
            users_file: seen(place, AUTHSERVER, "users.yaml"),
            initial_access_token_file: seen(place, AUTHSERVER, "initial-access-token"),
            otlp_headers_file: seen(place, AUTHSERVER, "otlp-headers"),
            internal: Internal {
                credentials,
                ..Internal::default()
            },
            callers,
            resources,
            clients,
        },
    );
    files.push(file(AUTHSERVER, "authserver.yaml", yaml(&config)?));
    Ok(files)
}

/// The callers that introspect with a secret; adds their secrets to `files`.
fn callers(
    manifests: &Manifests,
    place: &Place,
    files: &mut Vec<File>,
) -> anyhow::Result<Vec<Credential>> {
    let namespace = namespace_of(&manifests.auth_server);
    let mut credentials = Vec::new();
    for caller in &manifests.auth_server.spec.introspection.callers {
        let from = format!(
            "spec.introspection.callers of the McpAuthServer, {}",
            caller.id
        );
        let secret = &caller.secret_ref;
        let text = manifests.secret(&from, &namespace, &secret.name, &secret.key)?;
        let name = format!("introspection-{}", caller.id);
        credentials.push(Credential {
            id: caller.id.clone(),
            secret_file: seen(place, AUTHSERVER, &name).into(),
        });
        files.push(file(AUTHSERVER, &name, text));
    }
    Ok(credentials)
}

/// The template of a server, which is what runs without a cluster.
///
/// # Errors
/// The server is elsewhere.
pub fn template_of(server: &ProtectedMcpServer) -> anyhow::Result<&ServerTemplate> {
    server.spec.server.template().with_context(|| {
        format!(
            "ProtectedMcpServer {}: spec.server.external is registered in a cluster only; give it a template, or leave it \
             out of the file",
            server.name_any()
        )
    })
}

/// The clients in the manifests; adds their secrets to `files`.
fn clients(
    manifests: &Manifests,
    draw: &mut Draw<'_>,
    files: &mut Vec<File>,
) -> anyhow::Result<Vec<(String, Client)>> {
    let mut clients = Vec::new();
    for client in &manifests.clients {
        let name = client.name_any();
        let mut secret = None;
        if client.spec.token_endpoint_auth_method.has_secret() {
            let file_name = names::client_secret(&name);
            let text = draw(AUTHSERVER, &file_name, password)?;
            files.push(file(AUTHSERVER, &file_name, text.clone()));
            secret = Some(text);
        }
        let resources = manifests.resources_of(client)?;
        clients.push((
            names::client_id(&namespace_of(client), &name),
            registration::client(
                &namespace_of(client),
                &name,
                &client.spec,
                resources,
                secret.as_deref(),
            ),
        ));
    }
    Ok(clients)
}

/// Whose clients a server admits. There are no labels of namespaces here to select by.
fn allowed_clients(server: &ProtectedMcpServer) -> anyhow::Result<AllowedClients> {
    let allowed = &server.spec.allowed_clients;
    let selectors = [
        ("namespaces", &allowed.namespaces.selector),
        ("withoutConsent", &allowed.without_consent.selector),
    ];
    if let Some((field, _)) = selectors.iter().find(|(_, selector)| selector.is_some()) {
        bail!(
            "ProtectedMcpServer {}: spec.allowedClients.{field}.selector needs a cluster; list the namespaces in names",
            server.name_any()
        );
    }
    let own = namespace_of(server);
    Ok(registration::allowed_clients(
        &server.spec,
        &own,
        Selected::default(),
    ))
}

/// It may ask for everything, as far as it is of a namespace that is admitted: that of the first server.
fn walker(manifests: &Manifests) -> Client {
    let resources = manifests.servers.iter().map(|server| ClientResource {
        uri: server.spec.resource.clone(),
        scopes: server.spec.scopes.iter().map(|s| s.name.clone()).collect(),
    });
    Client {
        client_id: None,
        client_name: "kubectl mcpauth local".to_owned(),
        client_uri: None,
        logo_uri: None,
        token_endpoint_auth_method: TokenEndpointAuthMethod::None,
        client_secret: None,
        jwks: None,
        assertion_audience: AssertionAudience::Issuer,
        redirect_uris: vec![WALKER_REDIRECT.to_owned()],
        grant_types: vec![GrantType::AuthorizationCode, GrantType::RefreshToken],
        namespace: manifests.servers.first().map(namespace_of),
        resources: resources.collect(),
        consent: Consent::Ask,
    }
}

/// Whether the scripted client registers itself; else it is declared.
pub fn walker_registers(spec: &McpAuthServerSpec) -> bool {
    spec.registration.dynamic.is_some() && token_ref(spec).is_none()
}

fn initial_access_token(
    manifests: &Manifests,
    spec: &McpAuthServerSpec,
) -> anyhow::Result<Option<String>> {
    let Some(token) = token_ref(spec) else {
        return Ok(None);
    };
    let from = format!("McpAuthServer {}", manifests.auth_server.name_any());
    let namespace = namespace_of(&manifests.auth_server);
    let text = manifests.secret(&from, &namespace, &token.name, &token.key);
    text.map(Some)
        .context("registration.dynamic.initialAccessTokenSecretRef")
}

fn otlp_headers(
    manifests: &Manifests,
    from: &str,
    namespace: &str,
    telemetry: &Telemetry,
) -> anyhow::Result<Option<String>> {
    let Some(headers) = headers_ref(telemetry) else {
        return Ok(None);
    };
    let text = manifests.secret(from, namespace, &headers.name, &headers.key);
    text.map(Some).context("telemetry.otlp.headersSecretRef")
}

fn users(manifests: &Manifests, spec: &McpAuthServerSpec) -> anyhow::Result<Option<String>> {
    let Login::LocalUsers(users) = &spec.login else {
        return Ok(None);
    };
    let from = format!("McpAuthServer {}", manifests.auth_server.name_any());
    let namespace = namespace_of(&manifests.auth_server);
    manifests
        .secret(
            &from,
            &namespace,
            &users.secret_ref.name,
            &users.secret_ref.key,
        )
        .map(Some)
        .context("login.localUsers")
}

fn seen(place: &Place, folder: &str, name: &str) -> String {
    format!("{}/{name}", (place.seen_at)(folder))
}

fn file(folder: &str, name: &str, text: String) -> File {
    File {
        folder: folder.to_owned(),
        name: name.to_owned(),
        text,
    }
}

/// Random bytes as a password.
fn password(bytes: &[u8; 32]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// Random bytes as the first version of the pepper.
fn pepper(bytes: &[u8; 32]) -> String {
    format!("1:{}\n", BASE64_STANDARD.encode(bytes))
}
