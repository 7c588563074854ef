//! Request parameters: `application/x-www-form-urlencoded`, read strictly (OAuth 2.1, section 3).

use percent_encoding::percent_decode;

/// More parameters than any known request has; a bound on the memory that one request can take.
const MAX_PARAMETERS: usize = 100;

/// The one parameter that a request may repeat (RFC 8707, section 2); see `audience::requested`.
const REPEATABLE: &str = "resource";

/// The parameters of one request. `Debug` shows only their names.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Params(Vec<(String, String)>);

/// Why parameters were not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParamsError {
    /// Sent twice (OAuth 2.1, section 3.1).
    #[error("the parameter {0} is sent more than once")]
    Duplicate(String),
    /// A percent-encoded name or value is not UTF-8.
    #[error("a parameter is not valid UTF-8")]
    NotUtf8,
    /// Too many.
    #[error("there are more than {MAX_PARAMETERS} parameters")]
    TooMany,
}

impl Params {
    /// Reads a query string or a form body.
    ///
    /// # Errors
    /// When a parameter other than `resource` appears twice or is not UTF-8, or when there are more than a hundred.
    pub fn parse(text: &[u8]) -> Result<Self, ParamsError> {
        let params = Self::parse_with_repeated(text)?;
        params.check_repeated()?;
        Ok(params)
    }

    /// Like [`Params::parse`], but leaves it to the caller what comes of repeated ones.
    ///
    /// # Errors
    /// When a parameter is not UTF-8, or when there are more than a hundred.
    pub fn parse_with_repeated(text: &[u8]) -> Result<Self, ParamsError> {
        let mut params: Vec<(String, String)> = Vec::new();
        for pair in text.split(|byte| *byte == b'&') {
            if pair.is_empty() {
                continue;
            }
            if params.len() == MAX_PARAMETERS {
                return Err(ParamsError::TooMany);
            }
            let mut halves = pair.splitn(2, |byte| *byte == b'=');
            let name = form_decode(halves.next().unwrap_or_default())?;
            let value = form_decode(halves.next().unwrap_or_default())?;
            params.push((name, value));
        }
        Ok(Self(params))
    }

    /// Whether this parameter appears more than once, with a value or without.
    pub fn is_repeated(&self, name: &str) -> bool {
        self.0.iter().filter(|(known, _)| known == name).count() > 1
    }

    /// Checks that none but `resource` appears more than once.
    ///
    /// # Errors
    /// The first that does.
    pub fn check_repeated(&self) -> Result<(), ParamsError> {
        let mut names = self.0.iter().map(|(name, _)| name);
        match names.find(|name| *name != REPEATABLE && self.is_repeated(name)) {
            None => Ok(()),
            Some(name) => Err(ParamsError::Duplicate(mcpauth_wire::invalid::printable(
                name,
            ))),
        }
    }

    /// The value of a parameter. One without a value counts as left out (OAuth 2.1, section 3.1).
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// All values of a parameter, without empty ones.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let named = self.0.iter().filter(move |(known, _)| known == name);
        named
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// Without this parameter.
    pub fn without(mut self, name: &str) -> Self {
        self.0.retain(|(known, _)| known != name);
        self
    }

    /// As a query string.
    pub fn to_query(&self) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(&self.0);
        query.finish()
    }
}

impl std::fmt::Debug for Params {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(name, _)| name))
            .finish()
    }
}

/// Decodes one name or value: plus is a space, then percent-encoding, then strict UTF-8.
///
/// # Errors
/// When what comes out is not UTF-8.
pub fn form_decode(text: &[u8]) -> Result<String, ParamsError> {
    let spaced: Vec<u8> = text
        .iter()
        .map(|byte| if *byte == b'+' { b' ' } else { *byte })
        .collect();
    percent_decode(&spaced)
        .decode_utf8()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| ParamsError::NotUtf8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_empty_ones_left_out() {
        let params = Params::parse(b"a=1%2B1+%C3%A4&b=&c&&d=x=y").unwrap();
        assert_eq!(params.get("a"), Some("1+1 ä"));
        assert_eq!(params.get("b"), None);
        assert_eq!(params.get("c"), None);
        assert_eq!(params.get("d"), Some("x=y"));
        assert_eq!(params.to_query(), "a=1%2B1+%C3%A4&b=&c=&d=x%3Dy");
        assert_eq!(format!("{params:?}"), r#"["a", "b", "c", "d"]"#);
    }

    #[test]
    fn a_parameter_twice_is_refused_even_with_other_spelling() {
        let duplicate = Err(ParamsError::Duplicate("state".into()));
        assert_eq!(Params::parse(b"state=1&x=2&state=1"), duplicate);
        assert_eq!(Params::parse(b"state=1&st%61te="), duplicate);
        let twice = Params::parse(b"resource=a&resource=&resource=b").unwrap();
        assert_eq!(twice.all("resource").collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn what_is_not_utf8_or_too_much_is_refused() {
        assert_eq!(Params::parse(b"a=%ff"), Err(ParamsError::NotUtf8));
        assert_eq!(Params::parse(b"a=\xff"), Err(ParamsError::NotUtf8));
        let many: Vec<String> = (0..1000).map(|n| format!("p{n}=1")).collect();
        let many = many.join("&");
        assert_eq!(Params::parse(many.as_bytes()), Err(ParamsError::TooMany));
    }
}
