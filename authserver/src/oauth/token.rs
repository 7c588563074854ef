//! Tokens and codes: opaque, 256 bits, with a prefix that secret scanners recognise and a checksum
//! that allows invalid input to be rejected without a lookup in the store.
//!
//! `mat_` (access), `mrt_` (refresh), `mac_` (authorization code) or `mra_` (registration access), then 43 characters base64url of
//! 32 random bytes, then 6 characters base62 of the CRC-32 (ISO-HDLC) over all that stands before.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use crc::{CRC_32_ISO_HDLC, Crc};

use crate::keys::pepper::{KeyedHash, Pepper};

const PREFIX_CHARS: usize = 4;
const RANDOM_CHARS: usize = 43;
const CHECKSUM_CHARS: usize = 6;
const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);
/// The length of every token in characters, all of them ASCII.
pub const TOKEN_CHARS: usize = PREFIX_CHARS + RANDOM_CHARS + CHECKSUM_CHARS;

/// What a token is for. Hashes of different kinds never meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// A bearer access token (RFC 6750).
    Access,
    /// A refresh token (OAuth 2.1, section 4.3).
    Refresh,
    /// An authorization code (OAuth 2.1, section 4.1.2).
    Code,
    /// A registration access token (RFC 7592, section 3).
    Registration,
}

impl TokenKind {
    const ALL: [Self; 4] = [Self::Access, Self::Refresh, Self::Code, Self::Registration];

    /// The four characters that begin a token of this kind.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Access => "mat_",
            Self::Refresh => "mrt_",
            Self::Code => "mac_",
            Self::Registration => "mra_",
        }
    }

    /// What keeps the hashes of different kinds apart. Stored hashes depend on it.
    const fn domain(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Refresh => "refresh",
            Self::Code => "code",
            Self::Registration => "registration",
        }
    }
}

/// A token in the clear: it exists only in the request or response that carries it.
/// `Debug` shows the prefix alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    kind: TokenKind,
    text: String,
}

impl Token {
    /// A new token from 32 fresh random bytes.
    pub fn generate(kind: TokenKind, random: [u8; 32]) -> Self {
        let body = format!("{}{}", kind.prefix(), URL_SAFE_NO_PAD.encode(random));
        let checksum = base62(CRC.checksum(body.as_bytes()));
        Self {
            kind,
            text: body + &checksum,
        }
    }

    /// Parses a presented token; `None` for anything that this server cannot have issued: wrong length, prefix,
    /// characters or checksum.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != TOKEN_CHARS || !text.is_ascii() {
            return None;
        }
        let kind = TokenKind::ALL
            .into_iter()
            .find(|kind| text.starts_with(kind.prefix()))?;
        let (body, checksum) = text.split_at(PREFIX_CHARS + RANDOM_CHARS);
        URL_SAFE_NO_PAD.decode(&body[PREFIX_CHARS..]).ok()?;
        (base62(CRC.checksum(body.as_bytes())) == checksum).then(|| Self {
            kind,
            text: text.to_owned(),
        })
    }

    /// What the token is for.
    pub const fn kind(&self) -> TokenKind {
        self.kind
    }

    /// The hash under which it is stored.
    pub fn hash(&self, pepper: &Pepper) -> KeyedHash {
        pepper.hash_token(self.kind.domain(), &self.text)
    }

    /// Every hash under which it may have been stored, that of the current pepper first.
    pub fn hashes(&self, pepper: &Pepper) -> Vec<KeyedHash> {
        pepper.token_hashes(self.kind.domain(), &self.text)
    }

    /// The token itself. Use it only in a response.
    pub fn reveal(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}…)", self.kind.prefix())
    }
}

/// Six base62 digits, most significant first; 62⁶ > 2³².
fn base62(mut value: u32) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut digits = [b'0'; CHECKSUM_CHARS];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[(value % 62) as usize];
        value /= 62;
    }
    digits.into_iter().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_token_parses_to_itself() {
        for kind in TokenKind::ALL {
            for random in [[0; 32], [0xff; 32], *b"0123456789abcdef0123456789abcdef"] {
                let token = Token::generate(kind, random);
                assert_eq!(token.reveal().len(), TOKEN_CHARS);
                assert_eq!(Token::parse(token.reveal()), Some(token));
            }
        }
    }

    #[test]
    fn any_changed_character_is_refused() {
        let token = Token::generate(TokenKind::Access, [7; 32]);
        for at in 0..TOKEN_CHARS {
            for replacement in ["A", "z", "0", "_", "é", "\0"] {
                let mut text = token.reveal().to_owned();
                text.replace_range(at..=at, replacement);
                if text != token.reveal() {
                    assert_eq!(Token::parse(&text), None, "{replacement:?} at {at}");
                }
            }
        }
    }

    #[test]
    fn noise_is_refused() {
        let token = Token::generate(TokenKind::Refresh, [7; 32]);
        let text = token.reveal();
        for noise in [
            "",
            "mat_",
            &text[1..],
            &format!("{text}0"),
            &format!(" {text}"),
            &"é".repeat(TOKEN_CHARS / 2),
        ] {
            assert_eq!(Token::parse(noise), None, "{noise:?}");
        }
    }

    #[test]
    fn the_checksum_is_the_standard_crc_32() {
        assert_eq!(CRC.checksum(b"123456789"), 0xCBF4_3926);
        assert_eq!(base62(0), "000000");
        assert_eq!(base62(u32::MAX), "4gfFC3");
    }

    #[test]
    fn debug_shows_no_more_than_the_prefix() {
        let token = Token::generate(TokenKind::Code, [7; 32]);
        assert_eq!(format!("{token:?}"), "Token(mac_…)");
    }
}
