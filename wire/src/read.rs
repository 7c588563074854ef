//! From the text of a document to its type, with errors that name the key.

use serde::de::DeserializeOwned;

use crate::Invalid;
use crate::locate::locate;

/// Reads YAML.
///
/// # Errors
/// When it is not YAML, or not of this shape. No excerpt of the text is in the error.
pub fn yaml<T: DeserializeOwned>(text: &str) -> Result<T, Invalid> {
    let value: serde_json::Value = serde_saphyr::from_str(text).map_err(|error| {
        let error = error.without_snippet();
        Invalid::new("", format!("not valid YAML: {error}"))
    })?;
    serde_path_to_error::deserialize(value).map_err(misshapen)
}

/// The same fault, with the place of its key in the YAML that it is in.
#[must_use]
pub fn located(text: &str, invalid: Invalid) -> Invalid {
    Invalid {
        place: locate(text, &invalid.key),
        ..invalid
    }
}

/// Reads JSON.
///
/// # Errors
/// When it is not JSON, or not of this shape, or has a NUL character in it, which PostgreSQL cannot
/// store.
pub fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Invalid> {
    if bytes.windows(6).any(|window| window == b"\\u0000") {
        return Err(Invalid::new("", "expected no NUL characters"));
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let document = serde_path_to_error::deserialize(&mut json).map_err(misshapen)?;
    json.end().map_err(|error| Invalid::new("", error))?;
    Ok(document)
}

fn misshapen(error: serde_path_to_error::Error<serde_json::Error>) -> Invalid {
    let key = match error.path().to_string() {
        top if top == "." => String::new(),
        key => key,
    };
    Invalid::new(key, error.into_inner())
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::Secret;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Document {
        list: Vec<u32>,
        secret: Option<Secret>,
    }

    #[test]
    fn errors_name_the_key_on_one_line() {
        for (text, expected) in [
            ("list: [1, x]", "list[1]: invalid type"),
            ("list: []\nmore: 1", "more: unknown field"),
            ("{}", "missing field `list`"),
            ("list: [", "not valid YAML: "),
            ("list: []\nlist: []", "not valid YAML: "),
        ] {
            let error = yaml::<Document>(text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{text}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
        assert_eq!(yaml::<Document>("list: [1]").unwrap().list, [1]);
        let error = json::<Document>(br#"{"list":[1]} {}"#).unwrap_err();
        assert!(error.text.contains("trailing"), "{error}");
        assert!(json::<Document>(br#"{"list":["\u0000"]}"#).is_err());
    }

    #[test]
    fn a_secret_of_the_wrong_type_is_not_quoted() {
        let error = yaml::<Document>("list: []\nsecret: 4711").unwrap_err();
        assert_eq!(
            error.to_string(),
            "secret: expected a string: put it in quotes"
        );
        let document: Document = yaml("list: []\nsecret: hunter2").unwrap();
        assert!(!format!("{document:?}").contains("hunter2"));
        assert_eq!(document.secret.unwrap().reveal(), "hunter2");
    }
}
