//! Suites whose scenarios share one system, so they run one after the other, in the order in which they are listed.
//! Each can be run alone: `cargo test --test SUITE -- NAME`, as with other tests.

use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

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
    /// The names of the scenarios that failed, and why.
    failures: Arc<Mutex<Vec<String>>>,
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
            failures: Arc::default(),
        })
    }

    /// Adds a scenario, which makes what it needs where none before it has.
    #[must_use]
    pub fn scenario<F, Fut>(mut self, name: &str, scenario: F) -> Self
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<()>>,
    {
        let (runtime, failures) = (Arc::clone(&self.runtime), Arc::clone(&self.failures));
        let (on_failure, title) = (self.on_failure, name.to_owned());
        self.trials.push(Trial::test(name, move || {
            println!();
            let begin = Instant::now();
            let result = runtime.block_on(scenario());
            println!("  {:.1} s", begin.elapsed().as_secs_f64());
            result.map_err(|error| {
                let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
                if failures.is_empty() {
                    runtime.block_on(on_failure());
                }
                failures.push(format!("{title}: {error:#}"));
                Failed::from(format!("{error:#}"))
            })
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
        // The first one last: it often is the cause of the others, and the end of a long log is what people see.
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        for failure in failures.iter().rev() {
            eprintln!("failed: {failure}");
        }
        if is_run && end.num_passed + end.num_failed == 0 {
            eprintln!("no scenario has such a name: `--list` shows all");
            return ExitCode::FAILURE;
        }
        end.exit_code()
    }
}
