use std::io::Read as _;
use std::net::Ipv4Addr;
use std::sync::mpsc::RecvTimeoutError;

use serde_json::{Value, json};

use super::*;
use crate::clock::UnixTime;

const PATIENCE: Duration = Duration::from_secs(10);

/// Keeps what is written.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Kept {
    fn lines(&self) -> Vec<Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let parse = |line: &str| serde_json::from_str(line).unwrap();
        text.lines().map(parse).collect()
    }
}

fn clock() -> Clock {
    Clock::manual(UnixTime::from_seconds(1_800_000_000))
}

#[test]
fn lines_are_written_in_order_and_counted() {
    let (kept, counted) = (Kept::default(), Counted::default());
    let audit = Audit::start(kept.clone(), clock(), counted.clone()).unwrap();
    assert!(audit.is_on());
    for number in 0..100 {
        audit.record(&json!({ "number": number }));
    }
    assert!(audit.flush(PATIENCE));
    let numbers: Vec<_> = kept
        .lines()
        .iter()
        .map(|line| line["number"].clone())
        .collect();
    assert_eq!(numbers, (0..100).map(Value::from).collect::<Vec<_>>());
    assert_eq!(counted.count("written"), 100);
}

#[test]
fn what_is_over_budget_is_a_number() {
    let (kept, counted, clock) = (Kept::default(), Counted::default(), clock());
    let audit = Audit::start(kept.clone(), clock.clone(), counted.clone()).unwrap();
    let network = || Source::Network(Ipv4Addr::LOCALHOST.into());
    let refused = || audit.record_within_budget("token", network(), &json!({ "event": "token" }));
    (0..budget::PER_SOURCE + 7).for_each(|_| refused());
    clock.advance(budget::WINDOW);
    refused();
    assert!(audit.flush(PATIENCE));
    let lines = kept.lines();
    let of = |name: &str| lines.iter().filter(|line| line["event"] == name).count();
    assert_eq!(of("token"), budget::PER_SOURCE as usize + 1);
    assert_eq!(of("omitted"), 1);
    let omitted = lines
        .iter()
        .find(|line| line["event"] == "omitted")
        .unwrap();
    assert_eq!(omitted["omitted_event"], "token");
    assert_eq!(omitted["network"], "127.0.0.1");
    assert_eq!(omitted["count"], 7);
    assert_eq!(counted.count("over_budget"), 7);
}

/// A flood that has ended is reported, too.
#[test]
fn the_writer_reports_by_itself_what_was_over_budget() {
    let (kept, counted, clock) = (Kept::default(), Counted::default(), clock());
    let audit = Audit::start(kept.clone(), clock.clone(), counted).unwrap();
    let network = || Source::Network(Ipv4Addr::LOCALHOST.into());
    for _ in 0..=budget::PER_SOURCE {
        audit.record_within_budget("token", network(), &json!({ "event": "token" }));
    }
    clock.advance(budget::WINDOW);
    let reported = || kept.lines().iter().any(|line| line["event"] == "omitted");
    let (_keep, never) = mpsc::channel::<()>();
    for _ in 0..100 {
        if reported() {
            return;
        }
        let waited = never.recv_timeout(TICK / 10);
        assert_eq!(waited, Err(RecvTimeoutError::Timeout));
    }
    panic!("not reported: {:?}", kept.lines());
}

#[test]
fn a_pipe_that_nobody_reads_blocks_nobody_and_the_gap_is_reported() {
    let (mut reader, pipe) = io::pipe().unwrap();
    let counted = Counted::default();
    let audit = Audit::start(pipe, clock(), counted.clone()).unwrap();
    let text = "x".repeat(200);
    let all = 20_000_u64;
    for _ in 0..all {
        audit.record(&json!({ "event": "token", "text": text }));
    }
    let dropped = counted.count("dropped");
    assert!(dropped > 0);
    assert!(!audit.flush(Duration::from_millis(50)));
    // Somebody reads again, from the start.
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    });
    while !audit.flush(PATIENCE) {}
    audit.record(&json!({ "event": "last" }));
    assert!(audit.flush(PATIENCE));
    drop(audit);
    let text = reading.join().unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of = |name: &str| lines.iter().filter(|line| line["event"] == name).count() as u64;
    assert_eq!(of("token"), all - dropped);
    assert_eq!(of("last"), 1);
    let gaps = lines.iter().filter_map(|line| line["count"].as_u64());
    assert_eq!(gaps.sum::<u64>(), dropped, "{:?}", lines.last());
}

#[test]
fn without_a_reader_lines_are_counted() {
    let (reader, pipe) = io::pipe().unwrap();
    drop(reader);
    let counted = Counted::default();
    let audit = Audit::start(pipe, clock(), counted.clone()).unwrap();
    let text = "x".repeat(10_000);
    for _ in 0..10 {
        audit.record(&json!({ "text": text }));
        assert!(audit.flush(PATIENCE));
    }
    assert!(counted.count("dropped") > 0);
}

#[test]
fn off_is_off() {
    let audit = Audit::off();
    assert!(!audit.is_on());
    audit.record(&json!({}));
    assert!(audit.flush(Duration::ZERO));
}
