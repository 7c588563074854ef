//! The picture of `docs/friction.md`: how 1, 4, 16 and 64 workers settle, beside what the Python package
//! `mcp-authflow-resource` lets pass (`scripts/friction-python.py`).

use std::fmt::Write as _;
use std::path::PathBuf;

use super::simulation::{Client, a_minute, config, run};
use super::{Friction, FrictionConfig};

const SECONDS: u64 = 180;
const BIN: u64 = 5;
const WORKERS: [usize; 4] = [1, 4, 16, 64];
/// The target of two calls a second in a bin.
const TARGET: u32 = 10;
/// Of a panel, in pixels.
const WIDTH: f64 = 230.0;
const HEIGHT: f64 = 150.0;
/// The most calls in a bin that a panel shows.
const MOST: f64 = 60.0;

/// Calls that passed in each bin.
fn ours(workers: usize) -> Vec<u32> {
    let mut friction = Friction::new(&FrictionConfig {
        rate: a_minute(120),
        half_life_seconds: 10,
        ..config()
    });
    let mut bins = vec![0; (SECONDS / BIN) as usize];
    for call in run(&mut friction, &[Client::new("agent", workers)], SECONDS) {
        let bin = (call.went() / 1_000_000 / BIN) as usize;
        if let Some(passed) = bins.get_mut(bin) {
            *passed += 1;
        }
    }
    bins
}

/// The points of a line with steps.
fn points(bins: &[u32], left: f64) -> String {
    let width = WIDTH / bins.len() as f64;
    let mut points = String::new();
    for (n, passed) in bins.iter().enumerate() {
        let y = 30.0 + HEIGHT * (1.0 - f64::from(*passed) / MOST);
        for x in [n, n + 1] {
            let x = left + width * x as f64;
            write!(points, "{x:.1},{y:.1} ").unwrap();
        }
    }
    points
}

fn picture(theirs: &[Vec<u32>]) -> String {
    let mut svg = String::from(concat!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1040 250" font-family="sans-serif" font-size="12">"#,
        "\n<rect width=\"1040\" height=\"250\" fill=\"white\"/>\n",
    ));
    let bottom = 30.0 + HEIGHT;
    for (n, (workers, theirs)) in WORKERS.into_iter().zip(theirs).enumerate() {
        let left = 45.0 + (WIDTH + 18.0) * n as f64;
        let middle = left + WIDTH / 2.0;
        let target = 30.0 + HEIGHT * (1.0 - f64::from(TARGET) / MOST);
        let right = left + WIDTH;
        let name = if workers == 1 { "worker" } else { "workers" };
        let (ours, theirs) = (points(&ours(workers), left), points(theirs, left));
        write!(
            svg,
            r##"<text x="{middle}" y="20" text-anchor="middle" font-weight="bold">{workers} {name}</text>
<path d="M{left},30 V{bottom} H{right}" fill="none" stroke="#444"/>
<path d="M{left},{target} H{right}" stroke="#888" stroke-dasharray="4 3"/>
<polyline points="{theirs}" fill="none" stroke="#d1495b" stroke-width="2"/>
<polyline points="{ours}" fill="none" stroke="#1f6f8b" stroke-width="2"/>
"##
        )
        .unwrap();
        for seconds in [0, 60, 120] {
            let x = left + WIDTH * f64::from(seconds) / SECONDS as f64;
            let y = bottom + 16.0;
            writeln!(
                svg,
                r#"<text x="{x:.1}" y="{y}" text-anchor="middle">{seconds} s</text>"#
            )
            .unwrap();
        }
    }
    for calls in [0, 20, 40, 60] {
        let y = bottom + 4.0 - HEIGHT * f64::from(calls) / MOST;
        writeln!(
            svg,
            r#"<text x="38" y="{y:.1}" text-anchor="end">{calls}</text>"#
        )
        .unwrap();
    }
    svg.push_str(
        r##"<text x="45" y="235" fill="#1f6f8b">■ this proxy, 120 calls in 60 seconds (dashed)</text>
<text x="400" y="235" fill="#d1495b">■ mcp-authflow-resource 0.6.0, default target</text>
<text x="750" y="235">calls that pass in five seconds</text>
</svg>
"##,
    );
    svg
}

#[test]
fn the_picture_in_the_documentation_is_that_of_the_law() {
    let docs = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../docs");
    let theirs = std::fs::read_to_string(docs.join("friction-python.csv")).unwrap();
    let lines = theirs.lines().skip(1);
    let bins = |line: &str| {
        line.split(',')
            .skip(1)
            .map(|n| n.parse().unwrap())
            .collect()
    };
    let svg = picture(&lines.map(bins).collect::<Vec<_>>());
    let file = docs.join("friction.svg");
    if std::env::var_os("UPDATE_PICTURE").is_some() {
        std::fs::write(&file, &svg).unwrap();
    }
    let shown = std::fs::read_to_string(file).unwrap_or_default();
    assert!(
        shown == svg,
        "make unit TEST=the_picture UPDATE_PICTURE=1 draws docs/friction.svg again"
    );
}
