//! Runs programs and shows what it runs.

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tokio::process::Command;

use crate::top;

/// What a program printed, and whether it succeeded.
#[derive(Debug)]
pub struct Output {
    /// Whether the exit status was 0.
    pub success: bool,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs a program in the checkout's folder, whatever its exit status.
///
/// # Errors
/// When the program cannot be started.
pub async fn output(program: &str, args: &[&str]) -> Result<Output> {
    let output = Command::new(program)
        .args(args)
        .current_dir(top())
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| {
            format!("cannot run {program}: run this through make, which installs it and sets PATH")
        })?;
    Ok(Output {
        success: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Runs a program, shows its command line, and gives what it printed.
///
/// # Errors
/// When it cannot be started or its exit status is not 0; the error has all that it printed.
pub async fn run(program: &str, args: &[&str]) -> Result<String> {
    println!("    $ {program} {}", args.join(" "));
    let output = output(program, args).await?;
    if !output.success {
        bail!(
            "{program} {} failed:\n{}{}",
            args.join(" "),
            output.stdout,
            output.stderr
        );
    }
    Ok(output.stdout)
}

/// As [`run`], and shows the output.
///
/// # Errors
/// As [`run`].
pub async fn show(program: &str, args: &[&str]) -> Result<String> {
    let stdout = run(program, args).await?;
    for line in stdout.lines() {
        println!("      {line}");
    }
    Ok(stdout)
}

/// `kubectl get ARGS -o json`, quietly.
///
/// # Errors
/// When kubectl fails or prints something else than JSON.
pub async fn get(args: &[&str]) -> Result<Value> {
    let mut all = vec!["get", "-o", "json"];
    all.extend(args);
    let output = output("kubectl", &all).await?;
    if !output.success {
        bail!("kubectl {} failed: {}", all.join(" "), output.stderr.trim());
    }
    serde_json::from_str(&output.stdout).context("kubectl printed something else than JSON")
}

/// Runs kubectl, and gives it `manifest` on standard input.
///
/// # Errors
/// When kubectl fails; the error has what it printed.
pub async fn kubectl_stdin(args: &[&str], manifest: &str) -> Result<String> {
    use std::process::Stdio;
    use tokio::io::AsyncWriteExt as _;

    println!("    $ kubectl {} <<EOF", args.join(" "));
    let mut child = Command::new("kubectl")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run kubectl")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(manifest.as_bytes()).await?;
    }
    let output = child.wait_with_output().await?;
    if !output.status.success() {
        bail!(
            "kubectl {} failed: {}",
            args.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
