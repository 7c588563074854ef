//! A store with two clients and two resources in it, and short words for what tests do with it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mcp_authserver::issue::{Issued, Minter};
use mcp_authserver::keys::pepper::{KeyedHash, Pepper};
use mcp_authserver::oauth::admission::AllowedClients;
use mcp_authserver::oauth::client::{AllowedResource, Client, ClientMetadata, ClientOrigin};
use mcp_authserver::oauth::code::{CodeAttempt, NewCode};
use mcp_authserver::oauth::grant::{GrantId, LoginMark, NewGrant, Refusal};
use mcp_authserver::oauth::refresh::{RefreshAttempt, RefreshKind};
use mcp_authserver::oauth::resource::Resource;
use mcp_authserver::oauth::token::{Token, TokenKind};
use mcp_authserver::random::RandomError;
use mcp_authserver::store::{
    ActiveToken, CodeRedemption, Extent, MemoryStore, PostgresStore, Refresh, Store, StoreError,
    Unused,
};
use mcpauth_service::clock::UnixTime;
use mcpauth_wire::Scopes;

use sqlx::PgConnection;

use mcpauth_test_support::postgres::Postgres;

pub const NOW: UnixTime = UnixTime::from_seconds(1_800_000_000);
pub const MINUTE: Duration = Duration::from_secs(60);
/// Lifetimes, as in the default configuration.
pub const ACCESS: Duration = Duration::from_secs(900);
pub const IDLE: Duration = Duration::from_secs(2_592_000);
pub const ABSOLUTE: Duration = Duration::from_secs(7_776_000);
pub const GRACE: Duration = MINUTE;

pub const CLIENT: &str = "client";
pub const OTHER_CLIENT: &str = "other-client";
pub const NOTES: &str = "http://localhost:9001/mcp";
pub const MAIL: &str = "http://localhost:9002/mcp";
pub const REDIRECT: &str = "http://127.0.0.1:7777/callback";
// RFC 7636, appendix B.
pub const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
pub const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
pub const OLD_PEPPER: &str = "1:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
const NEW_PEPPER: &str = "2:AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";

pub struct Fixture {
    pub store: Box<dyn Store>,
    pub pepper: Pepper,
    /// The PostgreSQL store's database.
    pub url: Option<String>,
}

/// A family's newest tokens.
#[derive(Debug)]
pub struct Tokens {
    pub access: Token,
    pub refresh: Token,
    pub issued: Issued,
    /// None for a family's first.
    pub kind: Option<RefreshKind>,
}

impl Tokens {
    pub fn of(issued: Issued, kind: Option<RefreshKind>) -> Self {
        Self {
            access: issued.access.token.clone(),
            refresh: issued.refresh.as_ref().unwrap().token.clone(),
            issued,
            kind,
        }
    }
}

/// Bytes that this process has not handed out before; other processes use other databases.
fn random<const N: usize>() -> [u8; N] {
    static PROCESS_WIDE: AtomicU64 = AtomicU64::new(0);
    let number = PROCESS_WIDE.fetch_add(1, Ordering::SeqCst).to_be_bytes();
    std::array::from_fn(|at| number[at % 8])
}

fn fresh() -> Result<[u8; 32], RandomError> {
    Ok(random())
}

impl Fixture {
    pub async fn memory() -> Self {
        Self::new(Box::new(MemoryStore::default()), None).await
    }

    pub async fn postgres() -> Self {
        let url = Postgres::shared().create_database().await;
        Self::at(&url).await
    }

    /// A replica on this database.
    pub async fn at(url: &str) -> Self {
        let store = PostgresStore::new(url, 20).unwrap();
        store.migrate().await.unwrap();
        Self::new(Box::new(store), Some(url.to_owned())).await
    }

    /// A keys file without the old line.
    pub fn only_current_pepper() -> Pepper {
        Pepper::parse(NEW_PEPPER).unwrap()
    }

    async fn new(store: Box<dyn Store>, url: Option<String>) -> Self {
        let fixture = Self {
            store,
            pepper: Pepper::parse(&format!("{NEW_PEPPER}\n{OLD_PEPPER}")).unwrap(),
            url,
        };
        for id in [CLIENT, OTHER_CLIENT] {
            fixture.store.upsert_client(&client(id), NOW).await.unwrap();
        }
        for resource in [resource("notes", NOTES), resource("mail", MAIL)] {
            fixture.store.upsert_resource(&resource).await.unwrap();
        }
        fixture
    }

    pub fn random<const N: usize>(&self) -> [u8; N] {
        random()
    }

    pub fn token(&self, kind: TokenKind) -> Token {
        Token::generate(kind, self.random())
    }

    pub fn minter(&self) -> Minter<'_> {
        Minter {
            pepper: &self.pepper,
            random: &fresh,
            access: ACCESS,
            refresh: Some(IDLE),
        }
    }

    pub fn new_grant(&self, client_id: &str, subject: Option<&str>) -> NewGrant {
        NewGrant {
            id: GrantId::from_bytes(self.random()),
            subject: subject.map(str::to_owned),
            login: subject.map(|name| LoginMark::new(format!("login of {name}"))),
            authenticated_at: subject.map(|_| NOW.minus(MINUTE)),
            client_id: client_id.into(),
            resource: NOTES.into(),
            scopes: scopes("notes:read notes:write"),
        }
    }

    /// The user lets the client act on notes; a code that lives a minute.
    pub async fn authorize(&self, now: UnixTime) -> Token {
        let code = self.token(TokenKind::Code);
        let grant = self.new_grant(CLIENT, Some("alice"));
        let new = self.new_code(&code, now);
        self.store
            .create_authorization(grant, &new, now)
            .await
            .unwrap();
        code
    }

    pub fn new_code(&self, code: &Token, now: UnixTime) -> NewCode {
        NewCode {
            hash: code.hash(&self.pepper),
            redirect_uri: REDIRECT.into(),
            code_challenge: CHALLENGE.into(),
            nonce: Some("n-1".into()),
            expires_at: now.plus(MINUTE),
        }
    }

    pub async fn redeem(&self, code: &Token, now: UnixTime) -> Result<Tokens, Refusal> {
        self.redeem_as(code, RIGHT, now).await
    }

    pub async fn redeem_as(
        &self,
        code: &Token,
        attempt: CodeAttempt<'_>,
        now: UnixTime,
    ) -> Result<Tokens, Refusal> {
        self.present_code(&code.hashes(&self.pepper), attempt, now)
            .await
    }

    /// By a replica with this pepper.
    pub async fn redeem_under(
        &self,
        pepper: &Pepper,
        code: &Token,
        now: UnixTime,
    ) -> Result<Tokens, Refusal> {
        self.present_code(&code.hashes(pepper), RIGHT, now).await
    }

    async fn present_code(
        &self,
        hashes: &[KeyedHash],
        attempt: CodeAttempt<'_>,
        now: UnixTime,
    ) -> Result<Tokens, Refusal> {
        let redemption = CodeRedemption {
            hashes,
            attempt,
            grant_expires_at: now.plus(ABSOLUTE),
            minter: self.minter(),
        };
        let issued = self.store.redeem_code(&redemption, now).await.unwrap()?;
        Ok(Tokens::of(issued, None))
    }

    /// A family of its own.
    pub async fn family(&self, now: UnixTime) -> Tokens {
        let code = self.authorize(now).await;
        self.redeem(&code, now).await.unwrap()
    }

    pub async fn refresh(&self, token: &Token, now: UnixTime) -> Result<Tokens, Refusal> {
        self.refresh_as(token, REFRESH, now).await
    }

    pub async fn refresh_as(
        &self,
        token: &Token,
        attempt: RefreshAttempt<'_>,
        now: UnixTime,
    ) -> Result<Tokens, Refusal> {
        self.present_token(&token.hashes(&self.pepper), attempt, now)
            .await
    }

    /// By a replica with this pepper.
    pub async fn refresh_under(
        &self,
        pepper: &Pepper,
        token: &Token,
        now: UnixTime,
    ) -> Result<Tokens, Refusal> {
        self.present_token(&token.hashes(pepper), REFRESH, now)
            .await
    }

    async fn present_token(
        &self,
        hashes: &[KeyedHash],
        attempt: RefreshAttempt<'_>,
        now: UnixTime,
    ) -> Result<Tokens, Refusal> {
        let request = Refresh {
            hashes,
            attempt,
            minter: self.minter(),
        };
        let refreshed = self.store.refresh(&request, now).await.unwrap()?;
        Ok(Tokens::of(refreshed.issued, Some(refreshed.kind)))
    }

    /// A token for the client itself.
    pub async fn issue(&self, grant: NewGrant, now: UnixTime) -> Result<Token, StoreError> {
        let issued = self
            .store
            .issue_access_token(grant, self.minter(), now)
            .await?;
        Ok(issued.access.token)
    }

    pub async fn introspect(&self, token: &Token, now: UnixTime) -> Option<ActiveToken> {
        self.introspect_to(token, Extent::Token, now).await
    }

    pub async fn introspect_to(
        &self,
        token: &Token,
        extent: Extent,
        now: UnixTime,
    ) -> Option<ActiveToken> {
        let hashes = token.hashes(&self.pepper);
        self.store.introspect(&hashes, extent, now).await.unwrap()
    }

    /// Another session in the database, to disturb the store with.
    pub async fn session(&self, postgres: &Postgres) -> PgConnection {
        let url = self.url.as_ref().unwrap();
        postgres.connect(database(url)).await
    }

    /// Some of what has expired. Self-registered clients stay.
    pub async fn remove_expired(&self, now: UnixTime) -> bool {
        self.store.remove_expired(KEEP_CLIENTS, now).await.unwrap()
    }

    pub async fn is_active(&self, token: &Token, now: UnixTime) -> bool {
        self.introspect(token, now).await.is_some()
    }
}

const KEEP_CLIENTS: Unused = Unused {
    never_used_since: UnixTime::from_millis(0),
    idle_since: UnixTime::from_millis(0),
};

/// What the right client presents with a code.
pub const RIGHT: CodeAttempt<'_> = CodeAttempt {
    client_id: CLIENT,
    redirect_uri: Some(REDIRECT),
    resource: Some(NOTES),
    code_verifier: VERIFIER,
};

/// What the right client asks for with a refresh token.
pub const REFRESH: RefreshAttempt<'_> = RefreshAttempt {
    client_id: CLIENT,
    resource: None,
    scopes: None,
    grace: GRACE,
};

/// The database's name in a URL of [`Postgres::create_database`].
pub fn database(url: &str) -> &str {
    url.split(['/', '?']).nth(3).unwrap()
}

pub fn scopes(text: &str) -> Scopes {
    Scopes::parse(text).unwrap()
}

pub fn client(client_id: &str) -> Client {
    Client {
        client_id: client_id.into(),
        origin: ClientOrigin::Declared,
        metadata: ClientMetadata {
            client_name: "Example".into(),
            redirect_uris: vec![REDIRECT.into()],
            namespace: Some("team".into()),
            allowed_resources: [NOTES, MAIL]
                .map(|uri| AllowedResource {
                    uri: uri.into(),
                    scopes: scopes("read write"),
                })
                .to_vec(),
            ..ClientMetadata::default()
        },
        secret_hash: None,
        registration_token: None,
    }
}

pub fn resource(id: &str, uri: &str) -> Resource {
    Resource {
        id: id.into(),
        resource: uri.into(),
        name: id.into(),
        scopes: vec![],
        introspectors: vec![format!("system:serviceaccount:default:{id}")],
        allowed_clients: AllowedClients {
            namespaces: vec!["team".into()],
            self_registered: true,
            ..AllowedClients::default()
        },
    }
}
