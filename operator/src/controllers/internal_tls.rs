//! The certificate of an authorization server's internal port, in a Secret that a person or cert-manager keeps.

use k8s_openapi::api::core::v1::Secret;
use mcpauth_api::conditions::reasons;
use mcpauth_service::clock::UnixTime;
use mcpauth_service::tls::{Ca, TlsError};
use mcpauth_wire::proxy_config::CA_LENGTH;

use super::secrets::value;
use crate::desired::auth_server::{CA, CERTIFICATE, PRIVATE_KEY};
use crate::desired::names;
use crate::framework::error::Error;
use crate::framework::reconciler::ReconcileContext;
use crate::problem::Problem;

const FIELD: &str = "spec.internalTls.secretRef";

/// The CA of the certificate in this Secret, in PEM. The certificate is checked as proxies and this operator will.
///
/// # Errors
/// The Secret cannot be used, or the API server does not respond.
pub async fn ca(context: &ReconcileContext<'_>, secret: &str) -> Result<String, Error> {
    let Some(found) = context.api::<Secret>().get_opt(secret).await? else {
        let message = format!(
            "{FIELD}: Secret {secret} does not exist: create it with the keys {CERTIFICATE}, {PRIVATE_KEY} and {CA}"
        );
        return Err(Problem::outage(reasons::SECRET_NOT_FOUND, message).into());
    };
    let host = names::internal_host(&context.owner.namespace, &context.owner.name);
    let now = UnixTime::from_millis(context.program.now().as_millisecond());
    let ca = checked(&found, &host, now).map_err(|Unusable { key, why }| {
        let message = format!("{FIELD}: Secret {secret}, key {key}: {why}");
        Problem::outage(reasons::SECRET_INVALID, message)
    })?;
    Ok(ca)
}

/// A key of the Secret whose value cannot be used, and why.
#[derive(Debug, PartialEq, Eq)]
struct Unusable {
    key: &'static str,
    why: String,
}

fn checked(secret: &Secret, host: &str, now: UnixTime) -> Result<String, Unusable> {
    let read = |key: &'static str| {
        value(secret, key).ok_or_else(|| Unusable {
            key,
            why: match key {
                CA => "there is no value: add the certificates of the CA that clients are to trust"
                    .to_owned(),
                _ => "there is no value: add it".to_owned(),
            },
        })
    };
    let (certificate, private_key) = (read(CERTIFICATE)?, read(PRIVATE_KEY)?);
    let unusable = |key: &'static str| {
        move |error: TlsError| Unusable {
            key: if error == TlsError::NoKey {
                PRIVATE_KEY
            } else {
                key
            },
            why: error.to_string(),
        }
    };
    let ca = Ca::parse(&read(CA)?).map_err(unusable(CA))?;
    let check = ca.check(&certificate, &private_key, host, now);
    check.map_err(unusable(CERTIFICATE))?;
    // Of a CA the certificates alone are public.
    let pem = ca.to_pem();
    match CA_LENGTH.hold(pem.len()) {
        true => Ok(pem),
        false => Err(Unusable {
            key: CA,
            why: format!("expected {CA_LENGTH} characters"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::ByteString;
    use mcpauth_test_support::certificates::Authority;

    use super::*;

    const HOST: &str = "auth-authserver-internal.team.svc";

    fn secret(values: [(&str, &[u8]); 3]) -> Secret {
        let values = values.into_iter().filter(|(_, value)| !value.is_empty());
        let data: BTreeMap<_, _> = values
            .map(|(key, value)| (key.to_owned(), ByteString(value.to_vec())))
            .collect();
        Secret {
            data: Some(data),
            ..Secret::default()
        }
    }

    fn now() -> UnixTime {
        let now = jiff::Timestamp::now().as_millisecond();
        UnixTime::from_millis(now)
    }

    #[test]
    fn a_secret_that_a_client_or_the_server_would_reject_is_named_with_its_key() {
        let (authority, other) = (Authority::new(), Authority::new());
        let read = |path| std::fs::read(path).unwrap();
        let (certificate, key) = authority.certify(HOST);
        let (certificate, key) = (read(certificate), read(key));
        let ca = read(authority.ca());
        let both = [read(other.ca()), ca.clone()].concat();
        let day = 86_400_000;
        let later = UnixTime::from_millis(now().as_millis() + 3 * day);
        let earlier = UnixTime::from_millis(now().as_millis() - day);
        let good = |ca: &[u8]| secret([(CERTIFICATE, &certificate), (PRIVATE_KEY, &key), (CA, ca)]);

        let published = checked(&good(&ca), HOST, now()).unwrap();
        assert_eq!(published.as_bytes(), ca);
        // A rotation of the CA; and what is no certificate is not published.
        let mixed = [both.as_slice(), key.as_slice(), b"hello"].concat();
        let published = checked(&good(&mixed), HOST, now()).unwrap();
        assert_eq!(published.as_bytes(), both);

        let strange = other.certify(HOST);
        let (strange, its_key) = (read(strange.0), read(strange.1));
        for (certificate, private_key, ca, host, now, expected) in [
            (
                &b""[..],
                &key[..],
                &ca[..],
                HOST,
                now(),
                (CERTIFICATE, "there is no value"),
            ),
            (
                &certificate,
                b"",
                &ca,
                HOST,
                now(),
                (PRIVATE_KEY, "there is no value"),
            ),
            (
                &certificate,
                &key,
                b"",
                HOST,
                now(),
                (CA, "there is no value: add the certificates"),
            ),
            (
                &certificate,
                &key,
                b"x",
                HOST,
                now(),
                (CA, "expected certificates in PEM"),
            ),
            (
                b"x",
                &key,
                &ca,
                HOST,
                now(),
                (CERTIFICATE, "expected certificates in PEM"),
            ),
            (
                &certificate,
                b"x",
                &ca,
                HOST,
                now(),
                (PRIVATE_KEY, "expected a private key"),
            ),
            (
                &certificate,
                &its_key,
                &ca,
                HOST,
                now(),
                (CERTIFICATE, "the private key does not"),
            ),
            (
                &certificate,
                &key,
                &ca,
                "b-authserver-internal.team.svc",
                now(),
                (
                    CERTIFICATE,
                    "the certificate is not for the DNS name b-authserver",
                ),
            ),
            (
                &certificate,
                &key,
                &ca,
                HOST,
                later,
                (CERTIFICATE, "the certificate has expired"),
            ),
            (
                &certificate,
                &key,
                &ca,
                HOST,
                earlier,
                (CERTIFICATE, "the certificate is not valid yet"),
            ),
            (
                &strange,
                &its_key,
                &ca,
                HOST,
                now(),
                (CERTIFICATE, "the certificate is not issued by the CA"),
            ),
        ] {
            let secret = secret([
                (CERTIFICATE, certificate),
                (PRIVATE_KEY, private_key),
                (CA, ca),
            ]);
            let error = checked(&secret, host, now).unwrap_err();
            assert_eq!(error.key, expected.0, "{error:?}");
            assert!(error.why.starts_with(expected.1), "{error:?}");
        }
        let many = checked(&good(&both.repeat(60)), HOST, now()).unwrap_err();
        assert_eq!(many.why, "expected 1 to 65536 characters");
    }
}
