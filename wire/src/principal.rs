//! Principals: who calls the authserver's internal port.

use crate::Invalid;
use crate::client;
use crate::invalid::Bounds;

/// How many principals a list has.
pub const COUNT: Bounds = Bounds::new(0, 256);
/// The length of one, in characters.
pub const LENGTH: Bounds = Bounds::new(1, 2048);

/// The principal that a ServiceAccount's token proves: its user name in Kubernetes.
#[must_use]
pub fn service_account(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}

/// The principal that the id and the secret of `internal.credentials` prove.
#[must_use]
pub fn credential(id: &str) -> String {
    format!("credential:{id}")
}

/// Checks the id of a credential. It is sent as a user name of HTTP Basic.
///
/// # Errors
/// When it has other characters than a client's id.
pub fn check_credential_id(key: impl Into<String>, id: &str) -> Result<(), Invalid> {
    client::check_id(key, id)
}

/// Checks a list of principals. Of what form a user name is, the cluster decides.
///
/// # Errors
/// When there are too many, or one is empty or too long.
pub fn check_all(key: &str, principals: &[String]) -> Result<(), Invalid> {
    COUNT.list(key, principals)?;
    for (index, principal) in principals.iter().enumerate() {
        LENGTH.text(format!("{key}[{index}]"), principal)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn principals_are_bounded() {
        let good = [service_account("default", "notes"), credential("operator")];
        assert_eq!(good[0], "system:serviceaccount:default:notes");
        assert_eq!(good[1], "credential:operator");
        assert_eq!(check_all("admins", &good), Ok(()));
        let error = check_all("admins", &["x".into(), String::new()]).unwrap_err();
        assert_eq!(error.key, "admins[1]");
    }
}
