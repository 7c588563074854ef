//! Ratios against known programs, measured in one run on one machine: `make bench`.
//!
//! Each pair is measured in turns, several rounds, and the medians are compared. Everything is on
//! loopback, and every loop has an end.

mod load;
mod postgres;
mod programs;
mod report;
mod servers;

use std::process::ExitCode;

use anyhow::{Result, bail};
use mcpauth_test_support::oauth::Client;

use load::{Request, Sample};
use programs::{Authserver, Program};
use report::{Pair, Report};

/// Connections that are busy at once.
const CONNECTIONS: usize = 32;
/// Requests of one measurement.
const REQUESTS: usize = 30_000;
/// How often each pair is measured.
const ROUNDS: usize = 5;
/// Most memory of the proxy, in MB.
const PROXY_MB: f64 = 16.0;

#[tokio::main]
async fn main() -> ExitCode {
    // The servers to compare with run as processes of their own, as those that are measured do.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => all().await,
        ["upstream", port] => servers::upstream(port).await.map(|()| true),
        ["handler", port] => servers::handler(port).await.map(|()| true),
        _ => Err(anyhow::anyhow!("usage: bench (it takes no arguments)")),
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

/// Measures everything. Gives whether every target was reached.
async fn all() -> Result<bool> {
    if cfg!(debug_assertions) {
        bail!("this is a debug build, whose numbers mean nothing: use `make bench`");
    }
    let report = Report {
        pairs: vec![
            proxied_call().await?,
            introspection_in_memory().await?,
            introspection_on_postgres().await?,
        ],
    };
    Ok(report.print())
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
    let (ours, theirs) = measure(&ours, &theirs).await?;
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
    let resource = "http://localhost/mcp";
    let authserver = Authserver::in_memory(resource).await?;
    let handler = Program::own("handler").await?;
    let token = token(&authserver, resource).await?;

    let ours = Request::introspect(authserver.internal, &token);
    let theirs = Request::introspect(handler.port, &token);
    let (ours, theirs) = measure(&ours, &theirs).await?;
    Ok(Pair {
        name: "introspection in memory",
        ours: (
            "authserver",
            ours,
            Some(authserver.program.resident_megabytes()),
        ),
        theirs: ("axum handler", theirs, Some(handler.resident_megabytes())),
        target: 0.5,
        megabytes: None,
    })
}

/// Introspection on Postgres, against pgbench's lookups by primary key in the same database server.
async fn introspection_on_postgres() -> Result<Pair> {
    let resource = "http://localhost/mcp";
    let postgres = postgres::Database::start().await?;
    let authserver = Authserver::on_postgres(resource, &postgres.url()).await?;
    let token = token(&authserver, resource).await?;

    let request = Request::introspect(authserver.internal, &token);
    load::run(&request, CONNECTIONS, REQUESTS / 10).await?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        progress(round);
        ours.push(load::run(&request, CONNECTIONS, REQUESTS / 2).await?);
        theirs.push(postgres.select_only(CONNECTIONS, REQUESTS / 2).await?);
    }
    Ok(Pair {
        name: "introspection on Postgres",
        ours: (
            "authserver",
            ours,
            Some(authserver.program.resident_megabytes()),
        ),
        theirs: ("pgbench -S", theirs, None),
        target: 0.5,
        megabytes: None,
    })
}

async fn token(authserver: &Authserver, resource: &str) -> Result<String> {
    let client = Client::register(&authserver.issuer).await?;
    Ok(client.authorize(resource, "bench:call").await?.access)
}

/// Measures two requests in turns, after a warm-up of both.
async fn measure(ours: &Request, theirs: &Request) -> Result<(Vec<Sample>, Vec<Sample>)> {
    for request in [ours, theirs] {
        load::run(request, CONNECTIONS, REQUESTS / 10).await?;
    }
    let mut samples = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        progress(round);
        samples
            .0
            .push(load::run(ours, CONNECTIONS, REQUESTS).await?);
        samples
            .1
            .push(load::run(theirs, CONNECTIONS, REQUESTS).await?);
    }
    Ok(samples)
}

fn progress(round: usize) {
    eprintln!("round {} of {ROUNDS}", round + 1);
}
