//! A real API server: etcd and kube-apiserver as processes, one of each for a test program.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test says so when it fails"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{KeyPair, KeySize, PublicKey};
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Config, ResourceExt};
use tokio::sync::OnceCell;

use crate::process::{Process, free_ports};
use crate::run::Run;
use crate::wait::eventually;

/// The token of an administrator.
const TOKEN: &str = "admin-token-of-the-tests";

/// The programs, which end with this one.
pub struct Cluster {
    folder: PathBuf,
    url: String,
    // None where another test of the run has started them.
    _processes: Vec<Process>,
}

static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();

impl Cluster {
    /// The one of this program, with our kinds installed.
    pub async fn get() -> &'static Self {
        CLUSTER
            .get_or_init(async || match Run::current("api") {
                Some(run) => Self::of_run(&run).await,
                None => Self::alone().await,
            })
            .await
    }

    /// One that no other test uses. It ends with this program.
    pub async fn apart() -> &'static Self {
        Box::leak(Box::new(Self::alone().await))
    }

    async fn alone() -> Self {
        let folder = tempfile::Builder::new().prefix("mcp-auth-api-").tempdir();
        let cluster = Self::start(folder.unwrap().keep(), None);
        cluster.prepare().await;
        cluster
    }

    async fn of_run(run: &Run) -> Self {
        let turn = run.turn().unwrap();
        let folder = run.folder().to_owned();
        let url = folder.join("url");
        if turn.is_made() {
            return Self {
                url: std::fs::read_to_string(url).unwrap(),
                folder,
                _processes: Vec::new(),
            };
        }
        let cluster = Self::start(folder, Some(run));
        cluster.prepare().await;
        std::fs::write(url, &cluster.url).unwrap();
        turn.made().unwrap();
        cluster
    }

    fn start(folder: PathBuf, shared_by: Option<&Run>) -> Self {
        let etcd = program("ETCD");
        let apiserver = program("KUBE_APISERVER");
        let [client_port, peer_port, port] = free_ports();
        let (client, peer) = (loopback(client_port), loopback(peer_port));
        write_keys(&folder);
        std::fs::write(
            folder.join("tokens.csv"),
            format!("{TOKEN},admin,admin,\"system:masters\"\n"),
        )
        .unwrap();

        let mut database = Command::new(etcd);
        database
            .args(["--unsafe-no-fsync", "--log-level", "error"])
            .arg("--data-dir")
            .arg(folder.join("etcd"))
            .args([
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
            ])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .args(["--initial-cluster", &format!("default={peer}")]);
        let file = |name: &str| folder.join(name).into_os_string();
        let mut server = Command::new(apiserver);
        server
            .args(["--etcd-servers", &client])
            .args([
                "--bind-address",
                "127.0.0.1",
                "--advertise-address",
                "127.0.0.1",
            ])
            .args(["--secure-port", &port.to_string()])
            .arg("--cert-dir")
            .arg(file("certs"))
            .args(["--endpoint-reconciler-type", "none"])
            .args(["--service-cluster-ip-range", "10.0.0.0/16"])
            .args(["--service-account-issuer", "https://kubernetes.default.svc"])
            .arg("--service-account-key-file")
            .arg(file("sa.pub"))
            .arg("--service-account-signing-key-file")
            .arg(file("sa.key"))
            .args(["--authorization-mode", "RBAC"])
            .arg("--token-auth-file")
            .arg(file("tokens.csv"))
            .args(["--disable-admission-plugins", "ServiceAccount"])
            .args([
                "--max-requests-inflight",
                "2000",
                "--max-mutating-requests-inflight",
                "1000",
            ]);
        let processes = vec![
            Process::in_folder(&mut database, &folder, "etcd.log", shared_by),
            Process::in_folder(&mut server, &folder, "apiserver.log", shared_by),
        ];
        Self {
            folder,
            url: format!("https://127.0.0.1:{port}"),
            _processes: processes,
        }
    }

    async fn prepare(&self) {
        eventually("the API server is ready", || self.answers()).await;
        let api: Api<CustomResourceDefinition> = Api::all(self.client());
        let params = PatchParams::apply("tests").force();
        for crd in mcpauth_api::crds().unwrap() {
            api.patch(&crd.name_any(), &params, &Patch::Apply(&crd))
                .await
                .unwrap();
        }
        for name in mcpauth_api::crds()
            .unwrap()
            .iter()
            .map(ResourceExt::name_any)
        {
            eventually(&format!("{name} is established"), || async {
                let status = api.get(&name).await.ok()?.status?;
                let mut conditions = status.conditions?.into_iter();
                conditions
                    .any(|c| c.type_ == "Established" && c.status == "True")
                    .then_some(())
            })
            .await;
        }
    }

    async fn answers(&self) -> Result<(), String> {
        // Its certificate is made at the first start.
        if !self.certificate().exists() {
            return Err(self.log());
        }
        let request = http::Request::get("/readyz").body(Vec::new()).unwrap();
        match self.client().request_text(request).await {
            Ok(text) if text == "ok" => Ok(()),
            Ok(text) => Err(text),
            Err(error) => Err(format!("{error}\n{}", self.log())),
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("apiserver.log")).unwrap_or_default()
    }

    fn certificate(&self) -> PathBuf {
        self.folder.join("certs/apiserver.crt")
    }

    /// How an administrator connects.
    pub fn config(&self) -> Config {
        let mut config = Config::new(self.url.parse().unwrap());
        let pem = std::fs::read_to_string(self.certificate()).unwrap();
        config.root_cert = Some(certificates(&pem));
        config.auth_info.token = Some(TOKEN.to_owned().into());
        // A failure is to be seen, not tried again for a minute.
        config.default_retry = false;
        config
    }

    /// An administrator's client.
    pub fn client(&self) -> Client {
        Client::try_from(self.config()).unwrap()
    }

    /// A kubeconfig file of the administrator, for processes.
    pub fn kubeconfig(&self) -> PathBuf {
        let path = self.folder.join("kubeconfig");
        self.write_kubeconfig(&path, TOKEN);
        path
    }

    /// Writes a kubeconfig file of whoever has this token.
    pub fn write_kubeconfig(&self, path: &Path, token: &str) {
        let text = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{ "name": "c", "cluster": {
                "server": self.url, "certificate-authority": self.certificate() } }],
            "users": [{ "name": "u", "user": { "token": token } }],
            "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }],
        });
        std::fs::write(path, text.to_string()).unwrap();
    }
}

/// The path of a program that the environment names.
fn program(variable: &str) -> PathBuf {
    let path = std::env::var_os(variable)
        .map(PathBuf::from)
        .filter(|path| path.is_file());
    path.unwrap_or_else(|| {
        panic!("{variable} must be the path of the program: run `make test-api`, which builds it and sets it")
    })
}

fn loopback(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// The keys of ServiceAccount tokens.
fn write_keys(folder: &Path) {
    let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let private = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der>::as_der(&pair).unwrap();
    let public: &PublicKey = pair.public_key();
    let public = AsDer::<aws_lc_rs::encoding::PublicKeyX509Der>::as_der(public).unwrap();
    std::fs::write(folder.join("sa.key"), pem("PRIVATE KEY", private.as_ref())).unwrap();
    std::fs::write(folder.join("sa.pub"), pem("PUBLIC KEY", public.as_ref())).unwrap();
}

fn pem(label: &str, der: &[u8]) -> String {
    let body = BASE64_STANDARD.encode(der);
    let lines: Vec<&str> = body
        .as_bytes()
        .chunks(64)
        .map(|l| std::str::from_utf8(l).unwrap())
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}

/// The certificates of a PEM file, each as DER.
fn certificates(pem: &str) -> Vec<Vec<u8>> {
    pem.split("-----BEGIN CERTIFICATE-----")
        .skip(1)
        .map(|block| {
            let body: String = block
                .split("-----END")
                .next()
                .unwrap()
                .split_whitespace()
                .collect();
            BASE64_STANDARD.decode(body).unwrap()
        })
        .collect()
}
