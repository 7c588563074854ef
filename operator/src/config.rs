//! The operator's flags and environment variables.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};

use crate::desired::{Admin, Images};
use crate::text;

/// Flags of `mcp-auth-operator`. Each can also be set by an environment variable.
#[derive(Args, Clone, Debug)]
pub struct Config {
    /// Watch only this namespace; repeat the option or separate names by commas [default: all namespaces].
    #[arg(
        long = "watch-namespace",
        value_name = "NAMESPACE",
        env = "WATCH_NAMESPACE",
        value_delimiter = ',',
        value_parser = namespace
    )]
    pub watch_namespaces: Vec<String>,
    /// Default image of the authorization server.
    #[arg(
        long,
        env = "AUTHSERVER_IMAGE",
        default_value = "mcp-authserver:latest"
    )]
    pub authserver_image: String,
    /// Default image of the resource-proxy.
    #[arg(
        long,
        env = "RESOURCE_PROXY_IMAGE",
        default_value = "mcp-resource-proxy:latest"
    )]
    pub resource_proxy_image: String,
    /// Default image of the managed PostgreSQL.
    #[arg(
        long,
        env = "POSTGRES_IMAGE",
        default_value = "docker.io/library/postgres:15"
    )]
    pub postgres_image: String,
    /// Image pull secret for every pod that the operator creates; repeat the option or separate names by commas. The Secret
    /// must be in the pod's namespace.
    #[arg(
        long = "image-pull-secret",
        value_name = "SECRET",
        env = "IMAGE_PULL_SECRETS",
        value_delimiter = ',',
        value_parser = secret
    )]
    pub image_pull_secrets: Vec<String>,
    /// Who chooses the uids and gids of the pods that the operator creates.
    #[arg(long, env = "USER_IDS", value_enum, default_value_t = UserIds::Auto)]
    pub user_ids: UserIds,
    /// Create NetworkPolicies for the pods; `false` deletes existing ones.
    #[arg(long, env = "NETWORK_POLICIES", default_value_t = true, action = ArgAction::Set)]
    pub network_policies: bool,
    /// Maximum number of objects whose pods are replaced at a time because the operator was upgraded: other default images,
    /// or pods that are rendered differently. A change of an object's spec never waits.
    #[arg(long, env = "MAX_CONCURRENT_UPGRADES", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub max_concurrent_upgrades: u16,
    /// Maximum number of concurrent reconciles per kind, and per namespace with --watch-namespace.
    #[arg(long, env = "CONCURRENCY", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub concurrency: u16,
    /// Seconds between checks that an authorization server with in-memory storage still has its clients and
    /// resources.
    #[arg(long, env = "RESYNC_SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub resync_seconds: u32,
    /// Seconds between reconciles of anything else that is ready. Changes are reconciled at once.
    #[arg(long, env = "LONG_RESYNC_SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub long_resync_seconds: u32,
    /// Timeout of one reconcile, in seconds.
    #[arg(long, env = "RECONCILE_TIMEOUT_SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub reconcile_timeout_seconds: u32,
    /// Namespace of the operator itself, with its Lease and its ServiceAccount.
    #[arg(long, env = "POD_NAMESPACE", default_value = "mcp-auth-system")]
    pub namespace: String,
    /// ServiceAccount of the operator itself. Authorization servers accept it on their admin API.
    #[arg(long, env = "SERVICE_ACCOUNT", default_value = "mcp-auth-operator")]
    pub service_account: String,
    /// Another ServiceAccount that authorization servers accept on their admin API, such as that of an installation
    /// which is about to take over; repeat it, or use commas, for several.
    #[arg(
        long = "admin",
        value_name = "NAMESPACE:NAME",
        env = "ADMINS",
        value_delimiter = ',',
        value_parser = admin
    )]
    pub admins: Vec<Admin>,
    /// Name of this process in the leader election: the pod's name. A random part is added.
    #[arg(long, env = "POD_NAME", default_value = "mcp-auth-operator")]
    pub identity: String,
    /// Name of the Lease for leader election. With the namespace, it is the name of this installation.
    #[arg(long, env = "LEASE_NAME", default_value = "mcp-auth-operator")]
    pub lease_name: String,
    /// Address that serves `/livez`, `/readyz` and `/metrics`.
    #[arg(long, env = "HEALTH_ADDRESS", default_value = "[::]:9090")]
    pub health_address: SocketAddr,
}

/// Who chooses the uids and gids of pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum UserIds {
    /// The platform on OpenShift (the cluster serves the API group security.openshift.io), the operator elsewhere.
    Auto,
    /// The operator: 65532, and 999 for PostgreSQL.
    Fixed,
    /// The platform, such as a security context constraint of OpenShift: pods name no uid or gid.
    Platform,
}

impl Config {
    /// Time until the next reconcile of something that is ready; `forgotten`: whether its registration is lost when a
    /// pod restarts.
    pub fn resync(&self, forgotten: bool) -> Duration {
        Duration::from_secs(match forgotten {
            true => self.resync_seconds.into(),
            false => self.long_resync_seconds.into(),
        })
    }

    /// [`Self::reconcile_timeout_seconds`].
    pub fn reconcile_timeout(&self) -> Duration {
        Duration::from_secs(self.reconcile_timeout_seconds.into())
    }

    /// Who may use the admin API of authorization servers.
    pub fn admins(&self) -> BTreeSet<Admin> {
        let own = Admin {
            namespace: self.namespace.clone(),
            service_account: self.service_account.clone(),
        };
        self.admins.iter().cloned().chain([own]).collect()
    }

    /// Default images.
    pub fn images(&self) -> Images {
        Images {
            authserver: self.authserver_image.clone(),
            resource_proxy: self.resource_proxy_image.clone(),
            postgres: self.postgres_image.clone(),
            pull_secrets: self.image_pull_secrets.clone(),
            fixed_user_ids: self.user_ids != UserIds::Platform,
        }
    }

    /// Whether the operator watches this namespace.
    pub fn serves(&self, namespace: &str) -> bool {
        let only = &self.watch_namespaces;
        only.is_empty() || only.iter().any(|only| only == namespace)
    }
}

fn namespace(value: &str) -> Result<String, String> {
    match text::is_label(value) {
        true => Ok(value.to_owned()),
        false => Err(
            "give the name of a namespace, or omit the option to watch all namespaces".to_owned(),
        ),
    }
}

fn admin(value: &str) -> Result<Admin, String> {
    let parts = value.split_once(':');
    let valid = parts.filter(|(namespace, name)| {
        text::is_label(namespace) && name.split('.').all(text::is_label)
    });
    let (namespace, name) = valid.ok_or("give a ServiceAccount as NAMESPACE:NAME")?;
    Ok(Admin {
        namespace: namespace.to_owned(),
        service_account: name.to_owned(),
    })
}

fn secret(value: &str) -> Result<String, String> {
    match value.split('.').all(text::is_label) {
        true => Ok(value.to_owned()),
        false => Err("give the name of a Secret, or omit the option".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::{Command, FromArgMatches as _};

    use super::*;

    fn parse(flags: &[&str]) -> Result<Config, clap::Error> {
        let command = Config::augment_args(Command::new("operator")).no_binary_name(true);
        Config::from_arg_matches(&command.try_get_matches_from(flags)?)
    }

    #[test]
    fn lists_are_repeated_or_have_commas() {
        let config = parse(&[
            "--watch-namespace=a,b",
            "--watch-namespace=c",
            "--image-pull-secret=mirror.example",
            "--image-pull-secret=other",
        ])
        .unwrap();
        assert_eq!(config.watch_namespaces, ["a", "b", "c"]);
        assert_eq!(config.images().pull_secrets, ["mirror.example", "other"]);
        assert!(config.serves("b") && !config.serves("d"));
        assert!(parse(&[]).unwrap().serves("d"));
    }

    #[test]
    fn user_ids_are_fixed_unless_the_platform_sets_them() {
        for (flags, fixed) in [
            (&[][..], true),
            (&["--user-ids=auto"], true),
            (&["--user-ids=fixed"], true),
            (&["--user-ids=platform"], false),
        ] {
            let images = parse(flags).unwrap().images();
            assert_eq!(images.fixed_user_ids, fixed, "{flags:?}");
        }
        assert!(parse(&["--user-ids=1000"]).is_err());
    }

    #[test]
    fn the_operator_itself_is_always_an_admin() {
        let own = "--namespace=a --service-account=b".split(' ');
        let more = ["--admin=a:b,z:y", "--admin=a.b:c"];
        assert!(parse(&more).is_err(), "a namespace has no dots");
        let config = parse(&own.chain(["--admin=z:y,a:b"]).collect::<Vec<_>>()).unwrap();
        let principals = config.admins().into_iter().map(|admin| admin.principal());
        let expected = ["system:serviceaccount:a:b", "system:serviceaccount:z:y"];
        assert_eq!(principals.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_cannot_be_a_name_is_refused_with_what_to_do() {
        for (flag, advice) in [
            ("--watch-namespace=", "omit the option to watch all"),
            ("--watch-namespace=a,", "omit the option to watch all"),
            ("--watch-namespace=Team_A", "give the name of a namespace"),
            ("--image-pull-secret=", "give the name of a Secret"),
            ("--image-pull-secret=a/b", "give the name of a Secret"),
            ("--admin=operator", "NAMESPACE:NAME"),
            ("--admin=a:b:c", "NAMESPACE:NAME"),
        ] {
            let error = parse(&[flag]).expect_err(flag).to_string();
            assert!(error.contains(advice), "{flag}: {error}");
        }
    }

    #[test]
    fn network_policies_are_made_unless_told_otherwise() {
        assert!(parse(&[]).unwrap().network_policies);
        assert!(
            !parse(&["--network-policies=false"])
                .unwrap()
                .network_policies
        );
    }

    /// A flag that this version does not know would be a crash loop.
    #[test]
    fn every_flag_of_the_chart_is_known() {
        let template = include_str!("../../charts/mcp-auth-operator/templates/deployment.yaml");
        let lines = template
            .lines()
            .filter_map(|line| line.trim().strip_prefix("- --"));
        let given: Vec<&str> = lines
            .filter_map(|line| Some(line.split_once('=')?.0))
            .collect();
        assert!(given.len() > 7, "{given:?}");
        let command = Config::augment_args(Command::new("operator"));
        for flag in given {
            let known = command
                .get_arguments()
                .any(|known| known.get_long() == Some(flag));
            assert!(known, "--{flag}");
        }
    }
}
