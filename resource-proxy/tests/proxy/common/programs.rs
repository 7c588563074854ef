//! Programs that are built beside the proxy.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use mcpauth_test_support::process::{Process, free_ports};
use mcpauth_test_support::wait::eventually;
use serde_json::Value;
use tokio::net::TcpStream;

/// The program with this name.
pub fn program(name: &str) -> Command {
    let mut path = PathBuf::from(env!("CARGO_BIN_EXE_mcp-resource-proxy"));
    path.set_file_name(name);
    Command::new(path)
}

/// Starts a server; what it says that it listens on.
pub fn start(command: &mut Command) -> (Process, Value) {
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut process = Process::start(command);
    let mut log = BufReader::new(process.stderr()).lines();
    let lines = log.by_ref().map(Result::unwrap);
    let mut seen = Vec::new();
    for line in lines {
        if line.contains("\"serving\"") {
            // Nobody reads the rest; a pipe that is full would stop the program.
            std::thread::spawn(move || log.for_each(drop));
            return (process, serde_json::from_str(&line).unwrap());
        }
        seen.push(line);
    }
    panic!("it does not serve: {seen:?}");
}

/// The MCP server of the examples, and its URL.
pub async fn notes() -> (Process, String) {
    let [port] = free_ports();
    let address = format!("127.0.0.1:{port}");
    let process = Process::start(program("notes-mcp-server").args(["--listen", &address]));
    eventually("the notes are served", async || {
        TcpStream::connect(&address).await.map(drop)
    })
    .await;
    (process, format!("http://{address}/mcp"))
}
