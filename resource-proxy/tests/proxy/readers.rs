//! No body gets past the rules by being read in another way: what the proxy lets through, the JSON parsers of Python,
//! Node.js and Go read as it was judged.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use mcp_resource_proxy::mcp::guard::{Needs, needs};
use mcp_resource_proxy::mcp::message::Messages;

const BODIES: usize = 50_000;

/// What a parser reads of a message: its method, and what it is about, as [`about`] takes them.
type Seen = [Option<String>; 6];

/// Random numbers that are the same in each run (xorshift, Marsaglia 2003).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % bound
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}

const KEYS: &[&str] = &[
    "method",
    "method",
    "method",
    "params",
    "params",
    "params",
    "id",
    "jsonrpc",
    "Method",
    "METHOD",
    "m\\u0065thod",
    "method\\u0000",
    "Params",
    "param\u{17f}",
    "PARAMS",
    " method",
    "result",
    "error",
    "methods",
    "x",
];
const PARAMS: &[&str] = &[
    "name",
    "name",
    "name",
    "uri",
    "uri",
    "taskId",
    "ref",
    "arguments",
    "_meta",
    "Name",
    "NAME",
    "n\\u0061me",
    "name\\u0000",
    "URI",
    "Uri",
    "taskID",
    "tas\u{212a}Id",
    "Ref",
    "type",
    "task",
    "\\ud800",
    "x",
];
const METHODS: &[&str] = &[
    "tools/call",
    "tools/call",
    "tools\\/call",
    "t\\u006fols/call",
    "Tools/Call",
    "tools/call ",
    "tools/call\\u0000",
    "tool\u{17f}/call",
    "prompts/get",
    "resources/read",
    "resources/subscribe",
    "tasks/get",
    "tasks/x",
    "completion/complete",
    "tools/list",
    "ping",
    "notifications/x",
    "acme/export",
    "",
    "\\ud800",
];
const NAMES: &[&str] = &[
    "allowed",
    "denied",
    "allowed\\u0000",
    "de\\u006eied",
    "Denied",
    "",
    "\\ud83d\\ude00",
    "\\ud800",
    "\\udc00\\ud800",
    "file:///a",
    "file:///../b",
    "ref/prompt",
    "ref/resource",
    "\u{e9}",
    "\u{feff}denied",
    "\\\\",
    "\\\"",
];
const VALUES: &[&str] = &[
    "null",
    "1",
    "-0",
    "1e999",
    "1e-999",
    "123456789012345678901234567890",
    "true",
    "[]",
    "{}",
    "[\"denied\"]",
    "{\"name\":\"denied\"}",
    "01",
    "1.",
    ".5",
    "+1",
    "0x1",
    "NaN",
    "Infinity",
    "-Infinity",
    "'denied'",
    "undefined",
];
/// What a body may have in it, before it or behind it.
const BYTES: &[&[u8]] = &[
    b"\xef\xbb\xbf",
    b"\xff",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\0",
    b" ",
    b"\x0b",
    b"\xc2\xa0",
    b"\xe2\x80\xa8",
    b"\n",
    b"/* x */",
    b"// x\n",
    b"#x\n",
    b",",
    b":",
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"'",
    b"\\",
    b"\\u",
    b"null",
    b"{}",
    b"{\"method\":\"tools/call\",\"params\":{\"name\":\"denied\"}}",
    b"\"method\":\"tools/call\",",
    b"\"name\":\"denied\",",
];

fn string(random: &mut Random, from: &[&str]) -> String {
    format!("\"{}\"", random.pick(from))
}

fn value(random: &mut Random, texts: &[&str]) -> String {
    match random.below(12) {
        0 => random.pick(VALUES).to_owned(),
        _ => string(random, texts),
    }
}

fn object(random: &mut Random, members: usize, member: fn(&mut Random) -> String) -> String {
    let members: Vec<String> = (0..members).map(|_| member(random)).collect();
    format!("{{{}}}", members.join(","))
}

fn reference(random: &mut Random) -> String {
    let key = random.pick(&["type", "name", "uri", "Name", "x"]);
    format!("\"{key}\":{}", value(random, NAMES))
}

fn param(random: &mut Random) -> String {
    let key = random.pick(PARAMS);
    let value = match key {
        "ref" | "Ref" | "arguments" | "_meta" => {
            let count = random.below(4);
            object(random, count, reference)
        }
        _ => value(random, NAMES),
    };
    format!("\"{key}\":{value}")
}

fn member(random: &mut Random) -> String {
    let key = random.pick(KEYS);
    let value = match key.to_ascii_lowercase() {
        key if key.starts_with("param") => {
            let count = random.below(4);
            object(random, count, param)
        }
        key if key.contains("thod") => value(random, METHODS),
        _ => value(random, NAMES),
    };
    format!("\"{key}\":{value}")
}

/// A message, often with all that it needs, and perhaps with more than that.
fn message(random: &mut Random) -> String {
    let (method, param_of_it) = random.pick(&[
        &("tools/call", "\"name\":\"allowed\""),
        &("tools/call", "\"arguments\":{},\"name\":\"allowed\""),
        &("prompts/get", "\"name\":\"allowed\""),
        &("resources/read", "\"uri\":\"file:///a\""),
        &("tasks/get", "\"taskId\":\"allowed\""),
        &(
            "completion/complete",
            "\"ref\":{\"type\":\"ref/prompt\",\"name\":\"allowed\"}",
        ),
        &("ping", "\"x\":1"),
        &("acme/export", "\"x\":1"),
    ]);
    let mut method = format!("\"{method}\"");
    let mut params = vec![(*param_of_it).to_owned()];
    if random.below(4) == 0 {
        method = value(random, METHODS);
    }
    if random.below(2) == 0 {
        let at = random.below(2);
        params.insert(at, param(random));
    }
    if random.below(8) == 0 {
        params.remove(0);
    }
    let params = params.join(",");
    let mut members = vec![
        format!("\"method\":{method}"),
        format!("\"params\":{{{params}}}"),
    ];
    if random.below(2) == 0 {
        let at = random.below(members.len() + 1);
        members.insert(at, member(random));
    }
    if random.below(10) == 0 {
        members.remove(random.below(members.len()));
    }
    format!("{{{}}}", members.join(","))
}

fn body(random: &mut Random) -> Vec<u8> {
    let mut body = match random.below(10) {
        0 => format!("[{},{}]", message(random), message(random)),
        1 => {
            let deep = random.below(140);
            format!(
                "{{\"x\":{}{},{}",
                "[".repeat(deep),
                "]".repeat(deep),
                &message(random)[1..]
            )
        }
        _ => message(random),
    }
    .into_bytes();
    for _ in 0..random.below(5).saturating_sub(2) {
        let at = match random.below(4) {
            0 => 0,
            1 => body.len(),
            _ => random.below(body.len() + 1),
        };
        if random.below(4) == 0 {
            body.truncate(at.max(1));
        } else {
            body.splice(at..at, random.pick(BYTES).iter().copied());
        }
    }
    body
}

/// What each body is to another parser; `None` where it is not JSON.
fn read_by(command: &[&str], file: &str, bodies: &[Vec<u8>]) -> Vec<Option<Vec<Seen>>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/proxy/readers");
    let mut child = Command::new(command[0])
        .args(&command[1..])
        .arg(folder.join(file))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{} is needed: {error}", command[0]));
    let mut lines = String::new();
    for body in bodies {
        for byte in body {
            write!(lines, "{byte:02x}").unwrap();
        }
        lines.push('\n');
    }
    let mut input = child.stdin.take().unwrap();
    let writing = std::thread::spawn(move || input.write_all(lines.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let read: Vec<_> = printed
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(read.len(), bodies.len(), "{command:?} {file}");
    read
}

/// What a message with this method is about.
fn about([method, name, uri, task, reference_name, reference_uri]: &Seen) -> Option<&str> {
    let about = match needs(method.as_deref()?) {
        Needs::AnyToken => return None,
        Needs::Tool | Needs::Prompt => name,
        Needs::Resource => uri,
        Needs::Task => task,
        Needs::Reference if reference_name.is_some() => reference_name,
        Needs::Reference => reference_uri,
        Needs::Method => method,
    };
    about.as_deref()
}

/// What the proxy judged, of each message: its method, and what it is about.
fn judged(messages: &Messages<'_>) -> Vec<(Option<String>, Option<String>)> {
    let about = |message| {
        let mut guarded = messages.guarded();
        let found = guarded.find(|guarded| std::ptr::eq(guarded.message, message));
        found.map(|guarded| guarded.target.name().to_owned())
    };
    let judged = messages.iter().map(|message| {
        let method = message.method.as_deref().map(str::to_owned);
        (method, about(message))
    });
    judged.collect()
}

/// Whether a server that reads these messages does nothing but what was judged. What it does not see, it refuses.
fn is_as_judged(judged: &[(Option<String>, Option<String>)], seen: &[Seen]) -> bool {
    let same =
        |judged: &Option<String>, seen: Option<&str>| seen.is_none() || judged.as_deref() == seen;
    judged.len() == seen.len()
        && judged.iter().zip(seen).all(|((method, name), seen)| {
            same(method, seen[0].as_deref()) && same(name, about(seen))
        })
}

#[test]
fn what_is_let_through_is_read_as_it_was_judged() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let bodies: Vec<Vec<u8>> = (0..BODIES).map(|_| body(&mut random)).collect();
    let passed: Vec<_> = bodies
        .iter()
        .map(|body| Messages::read(body).ok().map(|messages| judged(&messages)))
        .collect();
    let count = passed.iter().flatten().count();
    println!("{count} of {BODIES} bodies are let through");
    assert!((BODIES / 10..BODIES * 9 / 10).contains(&count), "{count}");
    for (command, file) in [
        (&["python3"][..], "reader.py"),
        (&["node"], "reader.cjs"),
        (&["go", "run"], "reader.go"),
    ] {
        let read = read_by(command, file, &bodies);
        let mut understood = 0;
        for ((body, judged), seen) in bodies.iter().zip(&passed).zip(&read) {
            let (Some(judged), Some(seen)) = (judged, seen) else {
                continue;
            };
            understood += 1;
            let body = String::from_utf8_lossy(body);
            assert!(
                is_as_judged(judged, seen),
                "{file}: {body}\n{judged:?}\n{seen:?}"
            );
        }
        assert!(
            understood > count * 9 / 10,
            "{file}: {understood} of {count}"
        );
    }
}
