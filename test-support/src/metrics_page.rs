//! `docs/reference/metrics.md`, against which each program holds what it counts.

/// Asserts that the page has of `program` the metrics that it counts, by name and kind, and no others.
pub fn assert_complete<'a>(program: &str, counted: impl Iterator<Item = (&'a str, &'a str)>) {
    let own = |(name, kind): (&str, &str)| (name.to_owned(), kind.to_owned());
    let mut counted: Vec<_> = counted.map(own).collect();
    counted.sort();
    assert_eq!(counted, rows(program));
}

/// Name and kind of the metrics that the page has of `program`, sorted. None when there is no page.
fn rows(program: &str) -> Vec<(String, String)> {
    let crate_folder = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    let page = std::fs::read_to_string(format!("{crate_folder}/../docs/reference/metrics.md"));
    let page = page.unwrap_or_default();
    let prefix = format!("mcpauth_{program}_");
    let row = |line: &str| {
        let mut cells = line.split('|').map(str::trim).skip(1);
        let name = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
        name.starts_with(&prefix)
            .then(|| Some((name.to_owned(), cells.next()?.to_owned())))?
    };
    let mut rows: Vec<_> = page.lines().filter_map(row).collect();
    rows.sort();
    rows
}
