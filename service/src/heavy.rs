//! Work that keeps a processor busy for milliseconds, on threads of its own.
//!
//! For unknown callers the threads have a lower priority than those that serve requests: however much of this work there is, a
//! request that needs none waits for none. For known callers they have the same priority: a flood of cheap requests would leave the
//! others a tenth of a processor.

use std::num::NonZero;
use std::sync::LazyLock;
use std::thread::available_parallelism;

use rustix::process::nice;
use tokio::runtime::{Builder, Runtime};
use tokio::task::spawn_blocking;

use crate::admission::Caller;

/// By how much their priority is lower: a tenth of the processors, while requests need all of them.
const NICE: i32 = 10;

/// As many threads as there are processors. Where the system refuses them, the work is done among the blocking calls.
static THREADS: LazyLock<Option<Runtime>> = LazyLock::new(|| {
    let threads = available_parallelism().map_or(1, NonZero::get);
    let runtime = Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("heavy")
        // On Linux a thread has a priority of its own. A process may always lower it.
        .on_thread_start(|| {
            let _ = nice(NICE);
        })
        .build();
    let runtime =
        runtime.inspect_err(|error| tracing::warn!(%error, "cannot start threads of low priority"));
    runtime.ok()
});

/// Does `work` to its end, also when the future is dropped; `None` if it panics.
pub async fn run<T: Send + 'static>(
    caller: Caller,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let done = match (caller, &*THREADS) {
        (Caller::Unknown, Some(threads)) => threads.spawn(async { work() }),
        (Caller::Known, _) | (_, None) => spawn_blocking(work),
    };
    done.await.ok()
}

#[cfg(test)]
mod tests {
    use rustix::process::getpriority_process;

    use super::*;

    #[tokio::test]
    async fn for_unknown_callers_it_has_a_lower_priority_than_requests() {
        let own = getpriority_process(None).unwrap();
        let of = |caller| run(caller, || getpriority_process(None).unwrap());
        assert_eq!(of(Caller::Unknown).await, Some((own + NICE).min(19)));
        assert_eq!(of(Caller::Known).await, Some(own));
        assert_eq!(getpriority_process(None).unwrap(), own);
    }

    #[tokio::test]
    async fn a_panic_is_no_result_and_ends_no_thread() {
        for _ in 0..8 {
            let failed: Option<()> = run(Caller::Unknown, || panic!("on purpose")).await;
            assert_eq!(failed, None);
        }
        assert_eq!(run(Caller::Unknown, || 1).await, Some(1));
    }
}
