//! The audit: JSON lines apart from the log, which never make a request wait.
//!
//! A request puts its line into a bounded queue, and a thread writes them. If nobody reads, the queue fills, and what
//! does not fit is dropped, counted, and reported in a line of its own once there is room. Lines that a stranger can cause
//! as often as they like have a [budget]: what is over it is reported as a number.
//!
//! What the lines contain is up to each program.

pub mod budget;
mod line;

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use serde::Serialize;

use crate::clock::Clock;
use crate::metrics::Registry;
use budget::{Budget, Source};

pub use line::bounded;

/// How many lines wait to be written; at a few hundred bytes each they need a few MB.
const QUEUE: usize = 4096;
/// How often the writer looks for what is over budget, when there is nothing to write.
const TICK: Duration = Duration::from_secs(1);

/// Between two looks whether a full queue has room.
const PAUSE: Duration = Duration::from_millis(10);

/// What became of lines, as a metric.
#[derive(Clone, Debug, Default)]
pub struct Counted(Family<Labels, Counter>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    result: &'static str,
}

impl Counted {
    /// Adds the metric to those of a program.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "audit_lines",
            "Audit lines, by result: written, over_budget (too many of one kind from one source), or dropped (not read in time)",
            self.0.clone(),
        );
    }

    /// How many had this result.
    pub fn count(&self, result: &'static str) -> u64 {
        self.0.get_or_create(&Labels { result }).get()
    }

    fn add(&self, result: &'static str, count: u64) {
        self.0.get_or_create(&Labels { result }).inc_by(count);
    }
}

/// Where lines go. Clones share a queue.
#[derive(Clone, Default)]
pub struct Audit(Option<Arc<Queue>>);

struct Queue {
    messages: SyncSender<Message>,
    shared: Arc<Shared>,
}

/// What requests and the writer both use.
struct Shared {
    clock: Clock,
    counted: Counted,
    budget: Mutex<Budget>,
    /// Lines that no line reports yet.
    dropped: AtomicU64,
    /// Whether the log says that lines are dropped.
    reported: AtomicBool,
}

enum Message {
    Line(Vec<u8>),
    /// Asks for an answer once all lines before it are written.
    Flush(SyncSender<()>),
}

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_on() {
            "Audit(on)"
        } else {
            "Audit(off)"
        })
    }
}

impl Audit {
    /// Without one: nothing is written.
    pub fn off() -> Self {
        Self::default()
    }

    /// Begins to write to standard output: the log is on standard error.
    ///
    /// # Errors
    /// When there can be no thread for it, or no descriptor.
    pub fn on_standard_output(clock: Clock, counted: Counted) -> io::Result<Self> {
        // Not `Stdout`, which makes a system call for each line.
        let out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Self::start(out, clock, counted)
    }

    /// Begins to write to `out`.
    ///
    /// # Errors
    /// When there can be no thread for it.
    pub fn start(
        out: impl Write + Send + 'static,
        clock: Clock,
        counted: Counted,
    ) -> io::Result<Self> {
        let (messages, receiver) = mpsc::sync_channel(QUEUE);
        let shared = Arc::new(Shared {
            clock,
            counted,
            budget: Mutex::default(),
            dropped: AtomicU64::new(0),
            reported: AtomicBool::new(false),
        });
        let mut writer = Writer {
            out: io::BufWriter::new(out),
            shared: Arc::clone(&shared),
        };
        std::thread::Builder::new()
            .name("audit".into())
            .spawn(move || writer.run(&receiver))?;
        Ok(Self(Some(Arc::new(Queue { messages, shared }))))
    }

    /// Whether lines are written at all.
    pub const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Writes a line: the time, and the fields of `line`.
    pub fn record(&self, line: &impl Serialize) {
        if let Some(queue) = &self.0 {
            queue.put(line);
        }
    }

    /// The same for a line that `source` can cause as often as they like: `event` names its kind.
    pub fn record_within_budget(&self, event: &'static str, source: Source, line: &impl Serialize) {
        let Some(queue) = &self.0 else { return };
        let now = queue.shared.clock.monotonic();
        let (over, admitted) = {
            let mut budget = queue.shared.budget();
            (budget.over(now), budget.admit(event, source))
        };
        for over in over {
            queue.put(&over);
        }
        match admitted {
            true => queue.put(line),
            false => queue.shared.counted.add("over_budget", 1),
        }
    }

    /// Waits until all lines are written, for so long at most; whether they are.
    pub fn flush(&self, patience: Duration) -> bool {
        let Some(queue) = &self.0 else { return true };
        for over in queue.shared.budget().all_over() {
            queue.put(&over);
        }
        let (done, written) = mpsc::sync_channel(1);
        // The queue may be full.
        let mut rest = patience;
        while queue
            .messages
            .try_send(Message::Flush(done.clone()))
            .is_err()
        {
            rest = rest.saturating_sub(PAUSE);
            if rest.is_zero() {
                return false;
            }
            std::thread::sleep(PAUSE);
        }
        written.recv_timeout(rest).is_ok()
    }
}

impl Queue {
    fn put(&self, line: &impl Serialize) {
        let shared = &self.shared;
        let Some(line) = line::encode(shared.clock.now(), line) else {
            tracing::error!("an audit line cannot be encoded");
            return shared.counted.add("dropped", 1);
        };
        if self.messages.try_send(Message::Line(line)).is_err() {
            shared.drop_lines(1, "they are not read fast enough");
        }
    }
}

impl Shared {
    fn budget(&self) -> std::sync::MutexGuard<'_, Budget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn drop_lines(&self, count: u64, why: &str) {
        self.counted.add("dropped", count);
        self.dropped.fetch_add(count, Ordering::Relaxed);
        if !self.reported.swap(true, Ordering::Relaxed) {
            tracing::error!(
                why,
                "audit lines are dropped; mcpauth_…_audit_lines_total counts them"
            );
        }
    }
}

/// How many lines are missing here, because nobody read them in time.
#[derive(Serialize)]
struct Dropped {
    event: &'static str,
    count: u64,
}

struct Writer<W: Write> {
    out: io::BufWriter<W>,
    shared: Arc<Shared>,
}

impl<W: Write> Writer<W> {
    /// Until there is nobody left who could send a line.
    fn run(&mut self, messages: &Receiver<Message>) {
        loop {
            match messages.recv_timeout(TICK) {
                Ok(message) => self.handle(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            // What is missing is reported between them, however many come.
            for _ in 0..QUEUE {
                match messages.try_recv() {
                    Ok(message) => self.handle(message),
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
                }
            }
            self.report();
            self.flush();
        }
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Line(line) => self.write(&line),
            Message::Flush(done) => {
                self.report();
                self.flush();
                // Who asked may have lost patience.
                let _ = done.try_send(());
            }
        }
    }

    fn write(&mut self, line: &[u8]) {
        match self.out.write_all(line) {
            Ok(()) => self.shared.counted.add("written", 1),
            Err(error) => self.failed(&error),
        }
    }

    fn failed(&self, error: &io::Error) {
        self.shared
            .drop_lines(1, &format!("they cannot be written: {error}"));
    }

    /// Lines about lines: the queue is empty, so that they have room.
    fn report(&mut self) {
        let now = self.shared.clock.monotonic();
        let over = self.shared.budget().over(now);
        for over in over {
            self.say(&over);
        }
        let count = self.shared.dropped.swap(0, Ordering::Relaxed);
        if count > 0
            && self.say(&Dropped {
                event: "dropped",
                count,
            })
        {
            self.shared.reported.store(false, Ordering::Relaxed);
        } else {
            self.shared.dropped.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Whether it could be written.
    fn say(&mut self, line: &impl Serialize) -> bool {
        let line = line::encode(self.shared.clock.now(), line);
        line.is_some_and(|line| self.out.write_all(&line).is_ok())
    }

    fn flush(&mut self) {
        // What a pipe without a reader refuses stays in the buffer, which is bounded; the next line fails and is counted.
        let _ = self.out.flush();
    }
}

#[cfg(test)]
mod tests;
