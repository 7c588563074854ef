//! Ratios against known programs, measured in one run on one machine: `make bench`.
//!
//! Each pair is measured in turns, several rounds, and the medians are compared. Everything is on
//! loopback, and every loop has an end.

mod load;
mod postgres;
mod programs;
mod report;
mod rows;
mod servers;

use std::process::ExitCode;

use anyhow::{Result, bail};
use mcpauth_test_support::oauth::Client;

use load::{Request, Sample};
use postgres::Database;
use programs::{Authserver, Program};
use report::{Pair, Report};

/// Requests of one measurement.
const REQUESTS: usize = 30_000;
/// Those that are written to disk.
const WRITES: usize = 6_000;
/// How often each pair is measured.
const ROUNDS: usize = 5;
/// Most memory of the proxy, in MB.
const PROXY_MB: f64 = 16.0;
/// Access tokens that are looked up: in a table of so few, and one of so many unless `--rows` says otherwise.
const FEW_TOKENS: usize = 10_000;
const MANY_TOKENS: usize = 10_000_000;
/// Grants beside those that are refreshed.
const FEW_GRANTS: usize = 1_000;
const MANY_GRANTS: usize = 1_000_000;
/// The resource of all authorization servers here but the proxy's.
const RESOURCE: &str = "http://localhost/mcp";

#[tokio::main]
async fn main() -> ExitCode {
    // The servers to compare with run as processes of their own, as those that are measured do.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["upstream", port] => servers::upstream(port).await.map(|()| true),
        ["handler", port] => servers::handler(port).await.map(|()| true),
        ["--rows", rows, ref names @ ..] => match rows.parse() {
            Ok(rows) => all(rows, names).await,
            Err(_) => Err(anyhow::anyhow!("--rows: not a number: {rows}")),
        },
        ref names => all(MANY_TOKENS, names).await,
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error:?}");
            ExitCode::from(2)
        }
    }
}

/// Measures everything, or what has these names. Gives whether every target was reached.
async fn all(rows: usize, names: &[&str]) -> Result<bool> {
    if cfg!(debug_assertions) {
        bail!("this is a debug build, whose numbers mean nothing: use `make bench`");
    }
    let wanted = |name: &str| names.is_empty() || names.contains(&name);
    let mut pairs = Pairs::default();
    if wanted("call") {
        pairs.push(proxied_call().await?);
    }
    if wanted("memory") {
        pairs.push(introspection_in_memory().await?);
    }
    if wanted("postgres") {
        pairs.push(introspection_on_postgres().await?);
    }
    if wanted("client-credentials") {
        pairs.push(client_credentials().await?);
    }
    if wanted("lookups") {
        pairs.push(many_tokens(rows).await?);
    }
    if wanted("refresh") {
        pairs.push(many_grants().await?);
    }
    let Pairs(pairs) = pairs;
    if pairs.is_empty() {
        bail!(
            "usage: bench [--rows N] [call|memory|postgres|client-credentials|lookups|refresh]..."
        );
    }
    Ok(Report { pairs }.print())
}

/// What has been measured.
#[derive(Default)]
struct Pairs(Vec<Pair>);

impl Pairs {
    fn push(&mut self, pair: Pair) {
        eprintln!("{}: {:.2}", pair.name, pair.ratio());
        self.0.push(pair);
    }
}

/// A proxied tools/call, with the token cached, tool policy and friction on, against nginx as a plain
/// reverse proxy to the same upstream.
async fn proxied_call() -> Result<Pair> {
    let upstream = Program::own("upstream").await?;
    let nginx = programs::nginx(upstream.port).await?;
    let port = programs::free_port();
    let resource = format!("http://localhost:{port}/mcp");
    let authserver = Authserver::in_memory(&resource).await?;
    let proxy = programs::proxy(port, &resource, &authserver, upstream.port).await?;
    let token = token(&authserver, &resource).await?;

    let ours = Request::tools_call(proxy.port, &token);
    let theirs = Request::tools_call(nginx.port, &token);
    let (ours, theirs) = measure(&ours, &theirs, REQUESTS).await?;
    Ok(Pair {
        name: "tools/call, proxied",
        ours: ("resource-proxy", ours, Some(proxy.resident_megabytes())),
        theirs: ("nginx", theirs, Some(nginx.resident_megabytes())),
        target: 0.6,
        megabytes: Some(PROXY_MB),
    })
}

/// Introspection, tokens in memory, against an axum handler that only parses the form and answers.
async fn introspection_in_memory() -> Result<Pair> {
    let authserver = Authserver::in_memory(RESOURCE).await?;
    let handler = Program::own("handler").await?;
    let token = token(&authserver, RESOURCE).await?;

    let ours = Request::introspect(authserver.internal, std::slice::from_ref(&token));
    let theirs = Request::introspect(handler.port, &[token]);
    let (ours, theirs) = measure(&ours, &theirs, REQUESTS).await?;
    Ok(Pair {
        name: "introspection in memory",
        ours: ("authserver", ours, authserver.megabytes()),
        theirs: ("axum handler", theirs, Some(handler.resident_megabytes())),
        target: 0.8,
        megabytes: None,
    })
}

/// Introspection on Postgres, against pgbench's lookups by primary key in the same database server.
async fn introspection_on_postgres() -> Result<Pair> {
    let postgres = Database::start().await?;
    let authserver = Authserver::on_postgres(RESOURCE, &postgres.url()).await?;
    let token = token(&authserver, RESOURCE).await?;

    let request = Request::introspect(authserver.internal, &[token]);
    load::run(&request, REQUESTS / 10).await?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        progress(round);
        ours.push(load::run(&request, REQUESTS / 2).await?);
        theirs.push(postgres.select_only(REQUESTS / 2).await?);
    }
    Ok(Pair {
        name: "introspection on Postgres",
        ours: ("authserver", ours, authserver.megabytes()),
        theirs: ("pgbench -S", theirs, None),
        target: 0.9,
        megabytes: None,
    })
}

/// Tokens for clients themselves, counted by the rate limit and with an audit line each, against pgbench inserting the
/// same rows: a grant and an access token in a transaction.
async fn client_credentials() -> Result<Pair> {
    let postgres = Database::start().await?;
    let authserver = Authserver::on_postgres(RESOURCE, &postgres.url()).await?;
    let request = Request::client_credentials(&authserver);
    load::run(&request, WRITES / 10).await?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        progress(round);
        ours.push(load::run(&request, WRITES).await?);
        theirs.push(postgres.script(SAME_ROWS, WRITES).await?);
    }
    Ok(Pair {
        name: "client_credentials",
        ours: ("authserver", ours, authserver.megabytes()),
        theirs: ("pgbench", theirs, None),
        target: 0.5,
        megabytes: None,
    })
}

/// What a token for a client itself leaves in the database. For pgbench a colon in a text begins a variable, too.
const SAME_ROWS: &str = r"\set client random(0, 31)
\set a random(0, 4611686018427387904)
\set b random(0, 4611686018427387904)
BEGIN;
INSERT INTO grants (id, client_id, resource, scopes, generation, rotated_at, siblings, expires_at)
    VALUES (int8send(:a) || int8send(:b), 'bench-' || :client, 'http://localhost/mcp', 'bench' || chr(58) || 'call', 0, 1800000000000, 0,
        4000000000000);
INSERT INTO access_tokens (hash, grant_id, scopes, issued_at, expires_at)
    VALUES ('\x0001'::bytea || sha256(int8send(:a) || int8send(:b)), int8send(:a) || int8send(:b),
        'bench' || chr(58) || 'call', 1800000000000, 4000000000000);
COMMIT;
";

/// Introspection where there are many tokens, against the same where there are few.
async fn many_tokens(many: usize) -> Result<Pair> {
    let postgres = Database::start().await?;
    let (large, of_large) = with_tokens(&postgres, "large", many).await?;
    let (small, of_small) = with_tokens(&postgres, "small", FEW_TOKENS).await?;
    let (ours, theirs) = measure(&of_large, &of_small, REQUESTS / 2).await?;
    Ok(Pair {
        name: "lookups among many tokens",
        ours: ("many", ours, large.megabytes()),
        theirs: ("10,000", theirs, small.megabytes()),
        // A lookup takes at most 1.2 times as long.
        target: 1.0 / 1.2,
        megabytes: None,
    })
}

/// An authorization server on a database with so many tokens, and lookups of thousands of them.
async fn with_tokens(
    postgres: &Database,
    name: &str,
    count: usize,
) -> Result<(Authserver, Request)> {
    let url = postgres.create(name).await?;
    let authserver = Authserver::on_postgres(RESOURCE, &url).await?;
    let own = load::tokens(&Request::client_credentials(&authserver), FEW_TOKENS).await?;
    eprintln!("filling the database {name}");
    rows::fill_access_tokens(postgres, name, count).await?;
    let request = Request::introspect(authserver.internal, &own);
    Ok((authserver, request))
}

/// Refreshes where there are many grants, against the same where there are few.
async fn many_grants() -> Result<Pair> {
    let postgres = Database::start().await?;
    let (large, of_large) = with_grants(&postgres, "large", MANY_GRANTS).await?;
    let (small, of_small) = with_grants(&postgres, "small", FEW_GRANTS).await?;
    let (ours, theirs) = measure(&of_large, &of_small, WRITES).await?;
    Ok(Pair {
        name: "refreshes among many grants",
        ours: ("1,000,000", ours, large.megabytes()),
        theirs: ("1,000", theirs, small.megabytes()),
        // As long, but for what differs from round to round.
        target: 0.95,
        megabytes: None,
    })
}

/// An authorization server on a database with so many grants, and refreshes of a few of them.
async fn with_grants(
    postgres: &Database,
    name: &str,
    count: usize,
) -> Result<(Authserver, Request)> {
    let url = postgres.create(name).await?;
    let authserver = Authserver::on_postgres(RESOURCE, &url).await?;
    let client = Client::register(&authserver.issuer).await?;
    let mut own = Vec::new();
    for _ in 0..programs::CONNECTIONS {
        let tokens = client.authorize(RESOURCE, "bench:call").await?;
        own.push(tokens.refresh);
    }
    eprintln!("filling the database {name}");
    rows::fill_grants(postgres, name, count).await?;
    let request = Request::refresh(&authserver, &client.id, own);
    Ok((authserver, request))
}

async fn token(authserver: &Authserver, resource: &str) -> Result<String> {
    let client = Client::register(&authserver.issuer).await?;
    Ok(client.authorize(resource, "bench:call").await?.access)
}

/// Measures two requests in turns, after a warm-up of both.
async fn measure(
    ours: &Request,
    theirs: &Request,
    requests: usize,
) -> Result<(Vec<Sample>, Vec<Sample>)> {
    for request in [ours, theirs] {
        load::run(request, requests / 10).await?;
    }
    let mut samples = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        progress(round);
        samples.0.push(load::run(ours, requests).await?);
        samples.1.push(load::run(theirs, requests).await?);
    }
    Ok(samples)
}

fn progress(round: usize) {
    eprintln!("round {} of {ROUNDS}", round + 1);
}
