//! `docs/reference/metrics.md`, against which each program holds what it counts.

/// Name and kind of the metrics that the page has of `program`, sorted. None when there is no page.
#[must_use]
pub fn rows(program: &str) -> Vec<(String, String)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/metrics.md");
    let page = std::fs::read_to_string(path).unwrap_or_default();
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
