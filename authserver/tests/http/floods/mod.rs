//! What a known user feels while somebody else floods the server: sign-in, token and introspection succeed, and the
//! server's memory stays as it is. The server, those who flood, and the user are processes of their own, and each attacker has
//! an address, so that limits by network can tell them from the user.
//!
//! Each flood lasts ten seconds here. `make test-long` sends all of them in turn to one server for an hour, and `make bench`
//! measures how long the user waits.

mod attacker;
pub(crate) mod requests;
mod user;

use std::net::Ipv4Addr;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mcp_authserver::keys::signing_key::SigningKey;
use mcpauth_test_support::memory::Memory;
use mcpauth_test_support::postgres::Postgres;
use mcpauth_wire::authserver_config::SigningAlgorithm;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, timeout};

use crate::process::{Running, on_postgres};
use crate::server::{PASSWORD, configuration, notes};
use attacker::Attacker;
use requests::Target;
use user::User;

const FLOOD: Duration = Duration::from_secs(10);
/// After which the server's memory has what the flood makes it hold.
const WARM_UP: Duration = Duration::from_secs(4);
/// How often the user does all that they do.
const PACE: Duration = Duration::from_millis(250);
/// No limit of what is good: the end of a test that hangs.
const HANGS: Duration = Duration::from_secs(25);
/// How many requests are under way at once, and from how many addresses.
const ATTACKERS: u8 = 64;
const ADDRESSES: u8 = 16;
/// The most memory that the server holds, in MB, and by how much it may grow once it is warm.
const MOST: f64 = 160.0;
const GROWTH: f64 = 24.0;

#[derive(Clone, Copy, Debug)]
enum Flood {
    MadeUpLogins,
    IdleSockets,
    SlowReaders,
    Registrations,
    Discovery,
    FailingTokenRequests,
    WrongSecrets,
    BadAssertions,
    JunkBearersInside,
    Refreshes,
}

impl Flood {
    const ALL: [Self; 10] = [
        Self::MadeUpLogins,
        Self::IdleSockets,
        Self::SlowReaders,
        Self::Registrations,
        Self::Discovery,
        Self::FailingTokenRequests,
        Self::WrongSecrets,
        Self::BadAssertions,
        Self::JunkBearersInside,
        Self::Refreshes,
    ];
}

macro_rules! floods {
    ($store:ident, $storage:expr, $($name:ident: $flood:ident,)+) => {
        mod $store {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::withstand(super::Flood::$flood, $storage).await;
            })+
        }
    };
}

floods! {
    in_memory, None,
    made_up_logins: MadeUpLogins,
    idle_sockets: IdleSockets,
    slow_readers: SlowReaders,
    registrations: Registrations,
    discovery: Discovery,
    failing_token_requests: FailingTokenRequests,
    wrong_client_secrets: WrongSecrets,
    bad_assertions: BadAssertions,
    junk_bearers_inside: JunkBearersInside,
    refreshes: Refreshes,
}

// Those that the database is asked about: its connections are fewer than the requests.
floods! {
    on_postgres, Some(super::Postgres::shared()),
    registrations: Registrations,
    failing_token_requests: FailingTokenRequests,
    wrong_client_secrets: WrongSecrets,
    refreshes: Refreshes,
}

/// A server with users whose passwords cost what they cost, and a client with a key.
fn start(database: Option<&str>) -> Running {
    let files = tempfile::tempdir().unwrap();
    // The user signs in more often than people do.
    let more = "registration: { dynamic: {} }
rateLimit: { loginFailuresPerMinute: 1000 }";
    let text = configuration(&files, "https://auth.example", true, more);
    let text = match database {
        Some(url) => on_postgres(&files, &text, url, 16),
        None => text,
    };
    let line = text
        .lines()
        .find(|line| line.starts_with("clients: "))
        .unwrap();
    let mut clients: Vec<Value> = serde_json::from_str(&line["clients: ".len()..]).unwrap();
    clients.push(json!({
        "clientId": "signer", "tokenEndpointAuthMethod": "private_key_jwt", "grantTypes": ["client_credentials"],
        "jwks": { "keys": [SigningKey::generate(SigningAlgorithm::Es256).unwrap().public_jwk()] },
        "namespace": "team", "resources": [notes(&["notes:read"])],
    }));
    let text = text.replace(line, &format!("clients: {}", json!(clients)));
    let hash = mcp_authserver::login::password::hash(PASSWORD, [7; 16]).unwrap();
    let user = |name: &str| json!({ "name": name, "passwordHash": hash });
    let users = json!({ "users": [user("alice"), user("bob")] });
    std::fs::write(files.path().join("users.yaml"), users.to_string()).unwrap();
    Running::with(files, &text, "error,mcp_authserver::run=info")
}

/// A server, and a user in a browser that they have signed in with before.
struct Scene {
    running: Running,
    target: Target,
    user: User,
}

impl Scene {
    async fn set(postgres: Option<&Postgres>) -> Self {
        let url = match postgres {
            Some(postgres) => Some(postgres.create_database().await),
            None => None,
        };
        let running = start(url.as_deref());
        let port = |number: usize| running.addresses[number].parse().unwrap();
        let target = Target {
            public: port(0),
            internal: port(1),
        };
        let mut user = User::new(target, Ipv4Addr::LOCALHOST, "alice");
        user.log_in().await;
        Self {
            running,
            target,
            user,
        }
    }

    fn memory(&self) -> f64 {
        Memory::of(self.running.process.id()).unwrap().allocated
    }

    /// The user signs in, gets tokens and has them introspected, again and again. How long each took, in the order of
    /// [`STEPS`].
    async fn live(&mut self, until: Instant, pace: Duration) -> [Vec<Duration>; 3] {
        let mut took: [Vec<Duration>; 3] = Default::default();
        let mut pace = interval(pace);
        while Instant::now() < until {
            pace.tick().await;
            let began = Instant::now();
            self.user.log_in().await;
            let signed_in = Instant::now();
            let tokens = self.user.tokens().await;
            let with_tokens = Instant::now();
            self.user.introspect(&tokens).await;
            took[0].push(signed_in - began);
            took[1].push(with_tokens - signed_in);
            took[2].push(with_tokens.elapsed());
        }
        took
    }

    /// Floods the server for so long. How often that arrived, once it is over.
    fn flood(&self, flood: Flood, time: Duration) -> impl Future<Output = usize> + use<> {
        let number = Flood::ALL
            .iter()
            .position(|other| *other as u8 == flood as u8);
        // Not `nice`: even at 19, a thread that runs keeps its processor for some milliseconds from one that wakes up.
        let mut attackers = Command::new("chrt");
        let attackers = attackers
            .args(["--idle", "0"])
            .arg(std::env::current_exe().unwrap())
            .args(["floods::attackers", "--exact", "--ignored", "--nocapture"])
            .env("FLOOD", number.unwrap().to_string())
            .env("FLOOD_PUBLIC", self.target.public.to_string())
            .env("FLOOD_INTERNAL", self.target.internal.to_string())
            .env("FLOOD_MILLISECONDS", time.as_millis().to_string())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        async move {
            let ended = attackers.wait_with_output().await.unwrap();
            let printed = String::from_utf8_lossy(&ended.stdout);
            let strikes = printed.split("strikes: ").nth(1);
            let strikes = strikes.and_then(|rest| rest.split_whitespace().next());
            let strikes = strikes.expect(&printed).parse().unwrap();
            assert!(
                strikes > usize::from(ADDRESSES),
                "{flood:?}: {strikes} strikes are no flood"
            );
            strikes
        }
    }
}

/// Those who flood, in a process of their own. Real ones have machines of their own, too: this one gets what processors the
/// server and the user leave.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a part of the others"]
async fn attackers() {
    let variable = |name: &str| std::env::var(name).ok();
    let Some(flood) = variable("FLOOD") else {
        return;
    };
    let flood = Flood::ALL[flood.parse::<usize>().unwrap()];
    let target = Target {
        public: variable("FLOOD_PUBLIC").unwrap().parse().unwrap(),
        internal: variable("FLOOD_INTERNAL").unwrap().parse().unwrap(),
    };
    let time = variable("FLOOD_MILLISECONDS").unwrap().parse().unwrap();
    let until = Instant::now() + Duration::from_millis(time);
    let strikes = Arc::new(AtomicUsize::new(0));
    let mut attackers = JoinSet::new();
    for number in 0..ATTACKERS {
        // Of their own for each flood, because limits last for a minute.
        let at = Ipv4Addr::new(127, 0, 1 + flood as u8, number % ADDRESSES);
        let strikes = Arc::clone(&strikes);
        attackers.spawn(async move {
            let mut attacker = Attacker::new(flood, at, target).await;
            while Instant::now() < until {
                let arrived = timeout(HANGS, attacker.strike()).await;
                strikes.fetch_add(usize::from(arrived == Ok(true)), Ordering::Relaxed);
            }
        });
    }
    attackers.join_all().await;
    println!("strikes: {} ", strikes.load(Ordering::Relaxed));
}

async fn withstand(flood: Flood, postgres: Option<&Postgres>) {
    let mut scene = Scene::set(postgres).await;
    let began = Instant::now();
    let attackers = scene.flood(flood, FLOOD);
    scene.live(began + WARM_UP, PACE).await;
    let warm = scene.memory();
    scene.live(began + FLOOD, PACE).await;
    let end = scene.memory();
    let strikes = attackers.await;
    println!("{flood:?}: {strikes} strikes, {warm} MB, then {end} MB");
    assert!(
        end < warm + GROWTH && end < MOST,
        "{warm} MB, then {end} MB"
    );
}

/// One server, all floods in turn, again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes an hour: make test-long"]
async fn all_in_turn() {
    let minutes = std::env::var("FLOOD_MINUTES").map_or(60, |text| text.parse().unwrap());
    let end = Instant::now() + Duration::from_secs(60 * minutes);
    let mut scene = Scene::set(None).await;
    let mut warm = None;
    while Instant::now() < end {
        for flood in Flood::ALL {
            let until = Instant::now() + FLOOD;
            let attackers = scene.flood(flood, FLOOD);
            scene.live(until, PACE).await;
            let strikes = attackers.await;
            println!("{flood:?}: {strikes} strikes, {} MB", scene.memory());
        }
        let now = scene.memory();
        let warm = *warm.get_or_insert(now);
        assert!(
            now < warm + GROWTH && now < MOST,
            "{warm} MB, then {now} MB"
        );
    }
}

/// What the user does, in the order in which it is measured.
const STEPS: [&str; 3] = ["sign-in", "tokens", "introspection"];

fn p99(mut took: Vec<Duration>) -> f64 {
    took.sort_unstable();
    took[(took.len() - 1) * 99 / 100].as_secs_f64() * 1000.0
}

/// How long the user waits under each flood. Those who flood run on the same machine, but get only what processors the
/// server and the user leave. What the kernel does for their packets stays a part of the wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures: make bench"]
async fn how_long_the_user_waits() {
    // Below the limit of requests by one client.
    let pace = Duration::from_millis(150);
    let mut scene = Scene::set(None).await;
    scene.live(Instant::now() + WARM_UP, pace).await;
    let quiet = scene.live(Instant::now() + 2 * FLOOD, pace).await.map(p99);
    println!(
        "{:<22}{}",
        "p99 in ms",
        STEPS.map(|step| format!("{step:>22}")).concat()
    );
    let row = |name: &str, p99: [f64; 3]| {
        let cells = p99.iter().zip(quiet);
        let cells = cells.map(|(p99, quiet)| format!("{p99:>14.1} ({:>4.1}x)", p99 / quiet));
        println!("{name:<22}{}", cells.collect::<String>());
    };
    row("quiet", quiet);
    for flood in Flood::ALL {
        let until = Instant::now() + FLOOD;
        let attackers = scene.flood(flood, FLOOD);
        let took = scene.live(until, pace).await;
        attackers.await;
        row(&format!("{flood:?}"), took.map(p99));
    }
}
