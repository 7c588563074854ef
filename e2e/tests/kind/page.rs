//! The commands of a documentation page: what it says is what is run.

use anyhow::{Context as _, Result, ensure};
use mcp_auth_e2e::command::run;

use crate::cluster::NAMESPACE;

/// Runs the shell commands of a page below a heading, in a folder, for the McpAuthServer `auth`.
pub(crate) async fn run_section(
    page: &str,
    heading: &str,
    folder: &tempfile::TempDir,
) -> Result<()> {
    for line in lines(page, heading, "sh").await? {
        run_line(&line, folder).await?;
    }
    Ok(())
}

/// Runs the first command below a heading that has this program in it.
pub(crate) async fn run_command(
    page: &str,
    heading: &str,
    program: &str,
    folder: &tempfile::TempDir,
) -> Result<()> {
    let lines = lines(page, heading, "sh").await?;
    let line = lines.iter().find(|line| line.contains(program));
    let line = line.with_context(|| format!("{page} has no command with {program}"))?;
    run_line(line, folder).await
}

async fn run_line(line: &str, folder: &tempfile::TempDir) -> Result<()> {
    let line = line.replace("NAME", "auth");
    let line = line.replace("kubectl", &format!("kubectl -n {NAMESPACE}"));
    let line = format!("cd {} && {line}", folder.path().display());
    run("sh", &["-c", &line]).await?;
    Ok(())
}

/// The lines of all blocks of a language below a heading, up to the next one.
pub(crate) async fn lines(page: &str, heading: &str, language: &str) -> Result<Vec<String>> {
    let text = run("cat", &[page]).await?;
    let mut lines = text.lines();
    lines
        .find(|line| line.trim_start_matches('#').trim() == heading && line.starts_with('#'))
        .with_context(|| format!("{page} has no heading {heading}"))?;
    let (mut inside, mut found) = (false, Vec::new());
    for line in lines {
        match line.strip_prefix("```") {
            Some(of) => inside = !inside && of == language,
            None if inside => found.push(line.to_owned()),
            None if line.starts_with('#') => break,
            None => {}
        }
    }
    ensure!(!found.is_empty(), "{page}, {heading}: no commands");
    Ok(found)
}
