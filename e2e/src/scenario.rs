//! Runs scenarios in order, and tells about each.

use std::{future::Future, process::ExitCode};

use anyhow::Result;
use tokio::time::Instant;

/// The run of a suite. Scenarios build on each other, so after the first failure the others are
/// counted as not run, and the suite fails.
pub struct Suite {
    name: &'static str,
    begin: Instant,
    passed: usize,
    failed: Option<&'static str>,
    not_run: usize,
}

impl Suite {
    /// A suite that begins now.
    #[must_use]
    pub fn begin(name: &'static str) -> Self {
        println!("\n{name}");
        Self {
            name,
            begin: Instant::now(),
            passed: 0,
            failed: None,
            not_run: 0,
        }
    }

    /// Runs one scenario, unless one before it failed.
    pub async fn scenario<Fut>(&mut self, name: &'static str, scenario: Fut)
    where
        Fut: Future<Output = Result<()>>,
    {
        if self.failed.is_some() {
            self.not_run += 1;
            return;
        }
        println!("\n  {name}");
        let begin = Instant::now();
        match scenario.await {
            Ok(()) => {
                self.passed += 1;
                println!("  ok, {:.1} s", begin.elapsed().as_secs_f64());
            }
            Err(error) => {
                self.failed = Some(name);
                println!("  FAILED: {error:#}");
            }
        }
    }

    /// Whether a scenario failed.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// Prints the sum and gives the exit status.
    #[must_use]
    pub fn end(self) -> ExitCode {
        let seconds = self.begin.elapsed().as_secs_f64();
        match self.failed {
            None => {
                println!("\n{}: {} passed, {seconds:.0} s", self.name, self.passed);
                ExitCode::SUCCESS
            }
            Some(name) => {
                println!(
                    "\n{}: FAILED: {name}; {} passed, {} not run, {seconds:.0} s",
                    self.name, self.passed, self.not_run
                );
                ExitCode::FAILURE
            }
        }
    }
}
