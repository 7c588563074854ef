//! The pepper: the one Secret from which every key of the server is derived.
//!
//! The keys file has one line for each version, `VERSION:base64(32 bytes)`. The first line is current:
//! it makes new hashes and seals. The others only recognise what was made under them. A pepper is replaced in steps, each
//! with a rollout: the new line goes below, then on top, and the old line is removed when nothing is left under it
//! (`docs/operations/keys.md`). `VERSION:lost` in place of a line gives up what was made under it.

use std::collections::BTreeSet;
use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{digest, hkdf, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mcpauth_wire::pepper_file::{self, Line, PepperFileError, SECRET_BYTES};

const VERSION_BYTES: usize = 2;
const MAC_BYTES: usize = 32;

/// A keys file that cannot be used. No variant carries key material.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PepperError {
    /// It does not parse.
    #[error(transparent)]
    File(#[from] PepperFileError),
    /// The key derivation failed.
    #[error("cannot derive keys from it")]
    Derivation,
}

/// Sealed bytes that no pepper in the keys file opens.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "sealed with a pepper that is not in the keys file, or that was changed; restore that pepper's line"
)]
pub struct CannotOpen;

/// A keyed hash with the pepper's version in front: all that is ever stored of a token or a client
/// secret. 34 bytes: the version (big-endian), then HMAC-SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyedHash([u8; VERSION_BYTES + MAC_BYTES]);

impl KeyedHash {
    /// The stored form.
    pub const fn as_bytes(&self) -> &[u8; VERSION_BYTES + MAC_BYTES] {
        &self.0
    }

    /// From the stored form; `None` when the length is wrong.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The version of the pepper that it was made under.
    pub fn version(&self) -> u16 {
        split_version(&self.0).0
    }

    /// An identifier of the token that reveals nothing about it: `jti` in introspection, and in logs.
    pub fn public_id(&self) -> String {
        URL_SAFE_NO_PAD.encode(&digest::digest(&digest::SHA256, &self.0).as_ref()[..16])
    }
}

impl fmt::Debug for KeyedHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyedHash(…)")
    }
}

/// All versions of the pepper, the current one first. `Debug` shows only the versions.
pub struct Pepper {
    current: Keys,
    others: Vec<Keys>,
    /// The versions that were given up.
    lost: BTreeSet<u16>,
}

struct Keys {
    version: u16,
    tokens: hmac::Key,
    client_secrets: hmac::Key,
    messages: hmac::Key,
    sealing: LessSafeKey,
}

#[cfg(test)]
thread_local! {
    /// How many client secrets were verified.
    pub(crate) static VERIFIED: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

impl Pepper {
    /// Reads the content of the keys file; blank lines are skipped.
    ///
    /// # Errors
    /// Names the invalid line, but never quotes it.
    pub fn parse(text: &str) -> Result<Self, PepperError> {
        let mut keys = Vec::new();
        let mut lost = BTreeSet::new();
        for Line { version, secret } in pepper_file::parse(text)? {
            match secret {
                Some(secret) => {
                    keys.push(Keys::derive(version, &secret).ok_or(PepperError::Derivation)?);
                }
                None => {
                    lost.insert(version);
                }
            }
        }
        let mut keys = keys.into_iter();
        Ok(Self {
            current: keys.next().ok_or(PepperFileError::Empty)?,
            others: keys.collect(),
            lost,
        })
    }

    fn all(&self) -> impl Iterator<Item = &Keys> {
        std::iter::once(&self.current).chain(&self.others)
    }

    /// The version that makes new hashes and seals.
    pub fn current_version(&self) -> u16 {
        self.current.version
    }

    /// The versions that only recognise what was made under them.
    pub fn other_versions(&self) -> impl Iterator<Item = u16> {
        self.others.iter().map(|keys| keys.version)
    }

    /// Whether the keys file has a line for this version: its key, or that it is given up.
    pub fn names(&self, version: u16) -> bool {
        self.version(version).is_some() || self.has_lost(version)
    }

    /// Whether what was made under this version is given up.
    pub fn has_lost(&self, version: u16) -> bool {
        self.lost.contains(&version)
    }

    fn version(&self, version: u16) -> Option<&Keys> {
        self.all().find(|keys| keys.version == version)
    }

    /// The hash under which a new token of this kind is stored. Hashes of different kinds never meet.
    pub fn hash_token(&self, kind: &str, token: &str) -> KeyedHash {
        self.current.hash_token(kind, token)
    }

    /// Every hash under which a presented token may have been stored, the current version first.
    pub fn token_hashes(&self, kind: &str, token: &str) -> Vec<KeyedHash> {
        let hashes = self.all().map(|keys| keys.hash_token(kind, token));
        hashes.collect()
    }

    /// The hash under which a client secret is stored.
    pub fn hash_client_secret(&self, secret: &str) -> KeyedHash {
        let keys = &self.current;
        keyed_hash(
            keys.version,
            hmac::sign(&keys.client_secrets, secret.as_bytes()),
        )
    }

    /// The hash to store instead, when this one of a verified secret was made under a version that is not the current
    /// one.
    pub fn rehash_client_secret(&self, secret: &str, stored: &KeyedHash) -> Option<KeyedHash> {
        (stored.version() != self.current.version).then(|| self.hash_client_secret(secret))
    }

    /// Whether the secret is the one that was hashed, in time that does not depend on where it differs.
    pub fn verify_client_secret(&self, secret: &str, stored: &KeyedHash) -> bool {
        #[cfg(test)]
        VERIFIED.with(|verified| verified.set(verified.get() + 1));
        let (version, mac) = split_version(&stored.0);
        self.version(version)
            .is_some_and(|keys| hmac::verify(&keys.client_secrets, secret.as_bytes(), mac).is_ok())
    }

    /// Authenticates a message that leaves the server and comes back (a cookie, a form's CSRF token):
    /// 34 bytes to put beside it. `purpose` keeps messages of different uses apart.
    pub fn sign(&self, purpose: &str, message: &[u8]) -> [u8; VERSION_BYTES + MAC_BYTES] {
        let keys = &self.current;
        keyed_hash(keys.version, keys.message_mac(purpose, message)).0
    }

    /// Whether `signature` is what [`Pepper::sign`] made for this purpose and message, under any version.
    pub fn verify(&self, purpose: &str, message: &[u8], signature: &[u8]) -> bool {
        if signature.len() != VERSION_BYTES + MAC_BYTES {
            return false;
        }
        let (version, mac) = split_version(signature);
        self.version(version).is_some_and(|keys| {
            let expected = keys.message_mac(purpose, message);
            aws_lc_rs::constant_time::verify_slices_are_equal(expected.as_ref(), mac).is_ok()
        })
    }

    /// Encrypts what the store keeps but the database must not know: AES-256-GCM, bound to `purpose`.
    /// The answer is the version, the nonce, then the ciphertext with its tag. The nonce is 12 fresh
    /// random bytes. `None` when the cipher fails, which it does only for gigabytes.
    pub fn seal(&self, purpose: &str, plaintext: &[u8], nonce: [u8; NONCE_LEN]) -> Option<Vec<u8>> {
        let keys = &self.current;
        let mut ciphertext = plaintext.to_vec();
        keys.sealing
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(purpose.as_bytes()),
                &mut ciphertext,
            )
            .ok()?;
        let mut sealed = keys.version.to_be_bytes().to_vec();
        sealed.extend_from_slice(&nonce);
        sealed.append(&mut ciphertext);
        Some(sealed)
    }

    /// The version that sealed bytes were made under.
    ///
    /// # Errors
    /// When they are too short.
    pub fn sealed_under(sealed: &[u8]) -> Result<u16, CannotOpen> {
        match sealed.len() {
            VERSION_BYTES.. => Ok(split_version(sealed).0),
            _ => Err(CannotOpen),
        }
    }

    /// Decrypts what [`Pepper::seal`] made for the same purpose, under any version.
    ///
    /// # Errors
    /// When no pepper in the file is the one it was sealed under, or the bytes were changed.
    pub fn open(&self, purpose: &str, sealed: &[u8]) -> Result<Vec<u8>, CannotOpen> {
        if sealed.len() < VERSION_BYTES + NONCE_LEN {
            return Err(CannotOpen);
        }
        let (version, rest) = split_version(sealed);
        let (nonce, ciphertext) = rest.split_at(NONCE_LEN);
        let keys = self.version(version).ok_or(CannotOpen)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| CannotOpen)?;
        let mut plaintext = ciphertext.to_vec();
        let length = keys
            .sealing
            .open_in_place(nonce, Aad::from(purpose.as_bytes()), &mut plaintext)
            .map_err(|_| CannotOpen)?
            .len();
        plaintext.truncate(length);
        Ok(plaintext)
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let versions: Vec<_> = self.all().map(|keys| keys.version).collect();
        f.debug_struct("Pepper")
            .field("versions", &versions)
            .finish_non_exhaustive()
    }
}

impl Keys {
    fn derive(version: u16, secret: &[u8; SECRET_BYTES]) -> Option<Self> {
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, b"mcpauth pepper").extract(secret);
        let hmac_key = |purpose| Some(hmac::Key::new(hmac::HMAC_SHA256, &subkey(&root, purpose)?));
        Some(Self {
            version,
            tokens: hmac_key("tokens")?,
            client_secrets: hmac_key("client secrets")?,
            messages: hmac_key("messages")?,
            sealing: LessSafeKey::new(
                UnboundKey::new(&AES_256_GCM, &subkey(&root, "sealing")?).ok()?,
            ),
        })
    }

    fn hash_token(&self, kind: &str, token: &str) -> KeyedHash {
        let mac = separated(&self.tokens, kind, token.as_bytes());
        keyed_hash(self.version, mac)
    }

    fn message_mac(&self, purpose: &str, message: &[u8]) -> hmac::Tag {
        separated(&self.messages, purpose, message)
    }
}

/// HMAC over `domain || 0x00 || message`.
fn separated(key: &hmac::Key, domain: &str, message: &[u8]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    context.update(domain.as_bytes());
    context.update(&[0]);
    context.update(message);
    context.sign()
}

/// One key by HKDF-SHA-256 (RFC 5869), the purpose as its info.
fn subkey(root: &hkdf::Prk, purpose: &str) -> Option<[u8; 32]> {
    let mut key = [0; 32];
    root.expand(&[purpose.as_bytes()], hkdf::HKDF_SHA256)
        .ok()?
        .fill(&mut key)
        .ok()?;
    Some(key)
}

fn keyed_hash(version: u16, mac: hmac::Tag) -> KeyedHash {
    let mut bytes = [0; VERSION_BYTES + MAC_BYTES];
    bytes[..VERSION_BYTES].copy_from_slice(&version.to_be_bytes());
    bytes[VERSION_BYTES..].copy_from_slice(mac.as_ref());
    KeyedHash(bytes)
}

/// The version in front, and the rest. The caller has checked the length.
fn split_version(bytes: &[u8]) -> (u16, &[u8]) {
    (u16::from_be_bytes([bytes[0], bytes[1]]), &bytes[2..])
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn line(version: u16, byte: u8) -> String {
        format!("{version}:{}\n", STANDARD.encode([byte; 32]))
    }

    #[test]
    fn a_pepper_is_replaced_by_a_line_on_top() {
        let old = Pepper::parse(&line(1, 1)).unwrap();
        let new = Pepper::parse(&(line(2, 2) + "\n" + &line(1, 1))).unwrap();
        let (kind, token) = ("access", "mat_1");

        assert_ne!(old.hash_token(kind, token), new.hash_token(kind, token));
        assert_eq!(
            new.token_hashes(kind, token)[0],
            new.hash_token(kind, token)
        );
        assert_eq!(
            new.token_hashes(kind, token)[1],
            old.hash_token(kind, token)
        );
        assert!(new.verify_client_secret("s3cret", &old.hash_client_secret("s3cret")));
        assert!(!old.verify_client_secret("s3cret", &new.hash_client_secret("s3cret")));
        assert!(new.verify("csrf", b"m", &old.sign("csrf", b"m")));
        assert!(!old.verify("csrf", b"m", &new.sign("csrf", b"m")));
        let sealed = old.seal("key", b"plain", [3; 12]).unwrap();
        assert_eq!(new.open("key", &sealed).unwrap(), b"plain");
        let sealed = new.seal("key", b"plain", [3; 12]).unwrap();
        assert_eq!(old.open("key", &sealed), Err(CannotOpen));
    }

    #[test]
    fn a_lost_version_is_named_and_opens_nothing() {
        let old = Pepper::parse(&line(1, 1)).unwrap();
        let new = Pepper::parse(&(line(2, 2) + "1:lost\n")).unwrap();
        assert!(new.names(1) && new.has_lost(1) && new.names(2) && !new.has_lost(2));
        assert!(!new.names(3) && !new.has_lost(3));
        assert_eq!(new.token_hashes("access", "mat_1").len(), 1);
        assert!(!new.verify("csrf", b"m", &old.sign("csrf", b"m")));
        let sealed = old.seal("key", b"plain", [3; 12]).unwrap();
        assert_eq!(new.open("key", &sealed), Err(CannotOpen));
        assert_eq!(Pepper::sealed_under(&sealed), Ok(1));
        assert_eq!(Pepper::sealed_under(&[1]), Err(CannotOpen));
        let empty = PepperError::File(PepperFileError::Empty);
        assert_eq!(Pepper::parse("1:lost").unwrap_err(), empty);
    }

    #[test]
    fn a_client_secret_is_hashed_again_under_the_current_version() {
        let old = Pepper::parse(&line(1, 1)).unwrap();
        let new = Pepper::parse(&(line(2, 2) + &line(1, 1))).unwrap();
        let stored = old.hash_client_secret("s3cret");
        assert_eq!(stored.version(), 1);
        assert_eq!(old.rehash_client_secret("s3cret", &stored), None);
        let again = new.rehash_client_secret("s3cret", &stored).unwrap();
        assert_eq!(again.version(), 2);
        assert!(new.verify_client_secret("s3cret", &again));
    }

    #[test]
    fn what_is_made_for_one_purpose_is_not_taken_for_another() {
        let pepper = Pepper::parse(&line(1, 1)).unwrap();
        assert!(!pepper.verify("session", b"m", &pepper.sign("csrf", b"m")));
        assert!(!pepper.verify("csrf", b"n", &pepper.sign("csrf", b"m")));
        assert!(!pepper.verify("csrf", b"m", b""));
        let sealed = pepper.seal("a", b"plain", [3; 12]).unwrap();
        assert_eq!(pepper.open("b", &sealed), Err(CannotOpen));
        assert_eq!(pepper.open("a", b"short"), Err(CannotOpen));
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(pepper.open("a", &changed), Err(CannotOpen), "byte {at}");
        }
        let (access, refresh) = ("access", "refresh");
        assert_ne!(
            pepper.hash_token(access, "t"),
            pepper.hash_token(refresh, "t")
        );
    }

    #[test]
    fn a_wrong_client_secret_is_refused() {
        let pepper = Pepper::parse(&line(1, 1)).unwrap();
        let stored = pepper.hash_client_secret("right");
        assert!(pepper.verify_client_secret("right", &stored));
        for wrong in ["", "righ", "right ", "Right"] {
            assert!(!pepper.verify_client_secret(wrong, &stored), "{wrong:?}");
        }
    }

    #[test]
    fn a_wrong_keys_file_is_named_by_line_and_never_quoted() {
        let good = line(1, 1);
        let key = STANDARD.encode([1; 32]);
        let cases = [
            (String::new(), PepperFileError::Empty),
            ("\n\n".into(), PepperFileError::Empty),
            (format!("0:{key}"), PepperFileError::Malformed(1)),
            (format!("65536:{key}"), PepperFileError::Malformed(1)),
            (format!("-1:{key}"), PepperFileError::Malformed(1)),
            (key.clone(), PepperFileError::Malformed(1)),
            (format!("{good}2:AAAA"), PepperFileError::Malformed(2)),
            (format!("{good}2:!{key}"), PepperFileError::Malformed(2)),
            (format!("{good}2:Lost"), PepperFileError::Malformed(2)),
            (format!("{good}1:lost"), PepperFileError::Duplicate(2, 1)),
            (format!("{good}{good}"), PepperFileError::Duplicate(2, 1)),
        ];
        for (text, expected) in cases {
            let error = Pepper::parse(&text).unwrap_err();
            assert_eq!(error, PepperError::File(expected), "{text:?}");
            assert!(!error.to_string().contains(&key));
        }
    }

    #[test]
    fn debug_shows_no_key() {
        let pepper = Pepper::parse(&line(7, 0xAB)).unwrap();
        assert_eq!(format!("{pepper:?}"), "Pepper { versions: [7], .. }");
        assert_eq!(
            format!("{:?}", pepper.hash_client_secret("x")),
            "KeyedHash(…)"
        );
    }
}
