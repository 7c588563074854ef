//! TLS between the programs of this project: certificates and keys from PEM, with aws-lc (ADR 1).

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    CertificateError, ClientConfig, Error, InconsistentKeys, RootCertStore, ServerConfig,
};

use crate::clock::UnixTime;

/// Connects with TLS to `https` URLs.
pub type Connector = HttpsConnector<HttpConnector>;

/// What is wrong with a certificate, a key or a CA: one line without a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// There is no certificate, or something else where one should be.
    #[error("expected certificates in PEM, which begin with -----BEGIN CERTIFICATE-----")]
    NoCertificate,
    /// There is no private key.
    #[error("expected a private key in PEM, without a password")]
    NoKey,
    /// The key belongs to another certificate.
    #[error("the private key does not belong to the certificate: put both from the same issue")]
    KeyOfAnother,
    /// A certificate or a key that cannot be used.
    #[error("cannot be used: {0}")]
    Unusable(String),
    /// Its end has come.
    #[error("the certificate has expired: renew it")]
    Expired,
    /// Its begin is to come.
    #[error("the certificate is not valid yet: check its dates, and the clock")]
    NotYetValid,
    /// It is another's.
    #[error("the certificate is not for the DNS name {0}: issue one that has it as subjectAltName")]
    OtherName(String),
    /// It is not of the CA.
    #[error(
        "the certificate is not issued by the CA: include intermediate certificates, or correct the CA"
    )]
    OtherCa,
}

impl TlsError {
    fn of(error: &Error, name: &str) -> Self {
        match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => Self::KeyOfAnother,
            Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. },
            ) => Self::Expired,
            Error::InvalidCertificate(
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
            ) => Self::NotYetValid,
            Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            ) => Self::OtherName(name.to_owned()),
            Error::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature,
            ) => Self::OtherCa,
            other => Self::Unusable(other.to_string()),
        }
    }
}

/// The certificate of a port, which can be replaced while the port serves: connections that are open go on with the
/// former one. Clones share it.
#[derive(Clone)]
pub struct ServerTls(Arc<ArcSwap<ServerConfig>>);

impl ServerTls {
    /// With a certificate and its chain, and its private key, in PEM.
    ///
    /// # Errors
    /// They cannot be used.
    pub fn new(certificate: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let config = server_config(certificate, key)?;
        Ok(Self(Arc::new(ArcSwap::new(config))))
    }

    /// New connections get this certificate.
    ///
    /// # Errors
    /// It cannot be used; the former one stays.
    pub fn replace(&self, certificate: &[u8], key: &[u8]) -> Result<(), TlsError> {
        self.0.store(server_config(certificate, key)?);
        Ok(())
    }

    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        self.0.load_full()
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerTls")
    }
}

fn server_config(certificate: &[u8], key: &[u8]) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = certificates(certificate)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::NoKey)?;
    let unusable = |error: Error| TlsError::of(&error, "");
    let builder = ServerConfig::builder_with_provider(provider());
    let builder = builder
        .with_safe_default_protocol_versions()
        .map_err(unusable)?;
    let config = builder.with_no_client_auth().with_single_cert(chain, key);
    let mut config = config.map_err(unusable)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// A certificate authority: nothing else is trusted.
#[derive(Clone, Debug)]
pub struct Ca {
    certificates: Vec<CertificateDer<'static>>,
    roots: Arc<RootCertStore>,
}

impl Ca {
    /// From one or more certificates in PEM. Whatever else the text contains is left out.
    ///
    /// # Errors
    /// There is none, or one that cannot be used.
    pub fn parse(text: &[u8]) -> Result<Self, TlsError> {
        let certificates = certificates(text)?;
        let mut roots = RootCertStore::empty();
        for certificate in &certificates {
            let added = roots.add(certificate.clone());
            added.map_err(|error| TlsError::of(&error, ""))?;
        }
        Ok(Self {
            certificates,
            roots: Arc::new(roots),
        })
    }

    /// Its certificates in PEM, and nothing else.
    pub fn to_pem(&self) -> String {
        self.certificates.iter().map(|one| pem(one)).collect()
    }

    /// Checks that a server with this certificate and key is who it says, as clients with this CA do at that time.
    ///
    /// # Errors
    /// What a client, or the server itself, would reject.
    pub fn check(
        &self,
        certificate: &[u8],
        key: &[u8],
        name: &str,
        now: UnixTime,
    ) -> Result<(), TlsError> {
        server_config(certificate, key)?;
        let chain = certificates(certificate)?;
        let (server, intermediates) = chain.split_first().ok_or(TlsError::NoCertificate)?;
        let failed = |error: Error| TlsError::of(&error, name);
        let roots = Arc::clone(&self.roots);
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider()).build();
        let verifier = verifier.map_err(|error| TlsError::Unusable(error.to_string()))?;
        let now = rustls::pki_types::UnixTime::since_unix_epoch(now.since_epoch());
        let verified =
            verifier.verify_server_cert(server, intermediates, &server_name(name)?, &[], now);
        verified.map(drop).map_err(failed)
    }

    /// A connector that speaks HTTP/1.1 over TLS with `https` URLs, and in the clear with `http` ones. The server must have
    /// a certificate of this CA: for `name` if there is one, whatever the URL's host is.
    ///
    /// # Errors
    /// `name` is no DNS name.
    pub fn connector(
        &self,
        name: Option<&str>,
        mut http: HttpConnector,
    ) -> Result<Connector, TlsError> {
        http.enforce_http(false);
        let config = ClientConfig::builder_with_provider(provider());
        let config = config
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::of(&error, ""))?
            .with_root_certificates(Arc::clone(&self.roots))
            .with_no_client_auth();
        let builder = HttpsConnectorBuilder::new().with_tls_config(config);
        let mut builder = builder.https_or_http();
        if let Some(name) = name {
            let resolver = FixedServerNameResolver::new(server_name(name)?);
            builder = builder.with_server_name_resolver(resolver);
        }
        Ok(builder.enable_http1().wrap_connector(http))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn server_name(name: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(name.to_owned()).map_err(|_| TlsError::OtherName(name.to_owned()))
}

fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        _ => Err(TlsError::NoCertificate),
    }
}

/// RFC 7468: lines of 64 characters.
fn pem(certificate: &CertificateDer<'_>) -> String {
    let encoded = STANDARD.encode(certificate);
    let mut text = "-----BEGIN CERTIFICATE-----\n".to_owned();
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text + "-----END CERTIFICATE-----\n"
}
