//! Suites whose scenarios share one system, so they run one after the other, in the order in which they are listed.
//! Each can be run alone: `cargo test --test SUITE -- NAME`, as with other tests.

use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::runtime::Runtime;
use tokio::time::Instant;

/// What is done around the scenarios.
pub type Hook = fn() -> Pin<Box<dyn Future<Output = ()>>>;

/// The scenarios of a suite.
pub struct Suite {
    runtime: Arc<Runtime>,
    trials: Vec<Trial>,
    on_failure: Hook,
    has_failed: Arc<AtomicBool>,
}

impl Suite {
    /// A suite without scenarios; `on_failure` tells what helps to understand the first failure.
    ///
    /// # Errors
    /// The operating system gives no threads.
    pub fn new(on_failure: Hook) -> Result<Self> {
        Ok(Self {
            runtime: Arc::new(Runtime::new()?),
            trials: Vec::new(),
            on_failure,
            has_failed: Arc::default(),
        })
    }

    /// Adds a scenario, which makes what it needs where none before it has.
    #[must_use]
    pub fn scenario<F, Fut>(mut self, name: &str, scenario: F) -> Self
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<()>>,
    {
        let (runtime, has_failed) = (Arc::clone(&self.runtime), Arc::clone(&self.has_failed));
        let on_failure = self.on_failure;
        self.trials.push(Trial::test(name, move || {
            println!();
            let begin = Instant::now();
            let result = runtime.block_on(scenario());
            println!("  {:.1} s", begin.elapsed().as_secs_f64());
            if result.is_err() && !has_failed.swap(true, Ordering::Relaxed) {
                runtime.block_on(on_failure());
            }
            result.map_err(|error| Failed::from(format!("{error:#}")))
        }));
        self
    }

    /// Runs the scenarios that the command line asks for; `finally` ends what they began.
    #[must_use]
    pub fn run(self, finally: Hook) -> ExitCode {
        let mut arguments = Arguments::from_args();
        arguments.test_threads = Some(1);
        let is_run = !arguments.list;
        let end = libtest_mimic::run(&arguments, self.trials);
        if is_run {
            self.runtime.block_on(finally());
        }
        if is_run && end.num_passed + end.num_failed == 0 {
            eprintln!("no scenario has such a name: `--list` shows all");
            return ExitCode::FAILURE;
        }
        end.exit_code()
    }
}
