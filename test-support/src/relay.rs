//! An address of loopback that leads to a PostgreSQL, and to another one when a test says so; its connections fall silent,
//! as when a machine or the network is gone and nobody says so.

#![expect(clippy::unwrap_used, reason = "a test says so when it fails")]

use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::postgres::Postgres;

/// The address. Its connections end with it.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    state: watch::Sender<State>,
    accepting: JoinHandle<()>,
}

/// Connections have numbers, from 1.
#[derive(Clone, Debug)]
struct State {
    socket: PathBuf,
    /// How many there were.
    accepted: u64,
    /// Those up to this one are silent.
    silent: u64,
    /// Those up to this one are closed.
    closed: u64,
}

impl Relay {
    /// To this server.
    pub async fn to(postgres: &Postgres) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (state, _) = watch::channel(State {
            socket: postgres.socket(),
            accepted: 0,
            silent: 0,
            closed: 0,
        });
        let accepting = tokio::spawn(accept(listener, state.clone()));
        Self {
            address,
            state,
            accepting,
        }
    }

    /// The same database as this URL of [`Postgres::create_database`], at the relay's address.
    pub fn url(&self, url: &str) -> String {
        let (before, _) = url.split_once("?host=").unwrap();
        before.replacen("@localhost/", &format!("@{}/", self.address), 1) + "?sslmode=disable"
    }

    /// New connections lead to this server; those that are open stay where they are.
    pub fn point_to(&self, postgres: &Postgres) {
        let socket = postgres.socket();
        self.state.send_modify(|state| state.socket = socket);
    }

    /// Nothing passes through the connections that are open.
    pub fn silence_open(&self) {
        self.state
            .send_modify(|state| state.silent = state.accepted);
    }

    /// Nothing passes through any connection; new ones are accepted.
    pub fn silence(&self) {
        self.state.send_modify(|state| state.silent = u64::MAX);
    }

    /// What has been sent meanwhile arrives.
    pub fn resume(&self) {
        self.state.send_modify(|state| state.silent = 0);
    }

    /// Closes the connections that are open.
    pub fn cut(&self) {
        self.state
            .send_modify(|state| state.closed = state.accepted);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn accept(listener: TcpListener, state: watch::Sender<State>) {
    while let Ok((client, _)) = listener.accept().await {
        let mut number = 0;
        state.send_modify(|state| {
            state.accepted += 1;
            number = state.accepted;
        });
        let state = state.subscribe();
        tokio::spawn(async move {
            let mut closed = state.clone();
            tokio::select! {
                _ = carry(number, client, state) => {}
                _ = closed.wait_for(|state| number <= state.closed) => {}
            }
        });
    }
}

async fn carry(
    number: u64,
    mut client: TcpStream,
    mut state: watch::Receiver<State>,
) -> std::io::Result<()> {
    audible(number, &mut state).await;
    let socket = state.borrow().socket.clone();
    let mut server = UnixStream::connect(socket).await?;
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let up = pump(number, from_client, to_server, state.clone());
    let down = pump(number, from_server, to_client, state);
    tokio::try_join!(up, down).map(|_| ())
}

async fn pump(
    number: u64,
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut state: watch::Receiver<State>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut buffer).await;
        audible(number, &mut state).await;
        match read? {
            0 => return to.shutdown().await,
            length => to.write_all(&buffer[..length]).await?,
        }
    }
}

async fn audible(number: u64, state: &mut watch::Receiver<State>) {
    // An error: the relay is gone.
    let _ = state.wait_for(|state| number > state.silent).await;
}
