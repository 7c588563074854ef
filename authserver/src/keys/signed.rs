//! Messages from the server to itself that pass through the browser: JSON, signed with the pepper.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::keys::pepper::Pepper;

/// `base64url(JSON).base64url(signature)`; empty when the message cannot be serialized as JSON. It can
/// be read by anyone who has it, but not changed or used for another purpose.
pub fn sign<T: Serialize>(pepper: &Pepper, purpose: &str, message: &T) -> String {
    let Ok(json) = serde_json::to_vec(message) else {
        return String::new();
    };
    let signature = pepper.sign(purpose, &json);
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    format!("{}.{}", encode(&json), encode(&signature))
}

/// The message, when the signature is ours and for this purpose.
pub fn open<T: DeserializeOwned>(pepper: &Pepper, purpose: &str, text: &str) -> Option<T> {
    let (json, signature) = text.split_once('.')?;
    let json = URL_SAFE_NO_PAD.decode(json).ok()?;
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    if !pepper.verify(purpose, &json, &signature) {
        return None;
    }
    serde_json::from_slice(&json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_the_very_message_opens() {
        let pepper = Pepper::parse("1:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=").unwrap();
        let text = sign(&pepper, "a", &vec!["x"]);
        assert_eq!(open(&pepper, "a", &text), Some(vec!["x".to_owned()]));
        assert_eq!(open::<Vec<String>>(&pepper, "b", &text), None);
        let (json, signature) = text.split_once('.').unwrap();
        let other = URL_SAFE_NO_PAD.encode(r#"["y"]"#);
        for forged in [
            "",
            ".",
            json,
            &format!("{other}.{signature}"),
            &format!("{json}."),
        ] {
            assert_eq!(open::<Vec<String>>(&pepper, "a", forged), None, "{forged}");
        }
    }
}
