//! What a failure of the database means to us. The codes are SQLSTATE (PostgreSQL, appendix A).

use sqlx::migrate::MigrateError;

use super::super::StoreError;
use super::connections::POINT_TO_PRIMARY;

/// What to do when no encrypted connection comes about.
const CHECK_TLS: &str = "the server must have TLS switched on, with a certificate for the host name in the URL, signed \
                         by the configured CA (caSecretRef or caConfigMapRef; caFile in authserver.yaml)";

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as E;
        match &error {
            E::Database(database) => {
                let code = database.code().unwrap_or_default();
                from_code(&code, database.message())
            }
            E::PoolTimedOut => {
                Self::Unavailable("all connections are in use, or it does not respond".into())
            }
            E::Tls(_) => Self::Misconfigured(format!("{error}; {CHECK_TLS}")),
            // How the handshake reports a certificate that it does not accept.
            E::Io(io) if io.kind() == std::io::ErrorKind::InvalidData => {
                Self::Misconfigured(format!("TLS: {io}; {CHECK_TLS}"))
            }
            E::Io(_) | E::Protocol(_) | E::PoolClosed | E::WorkerCrashed | E::BeginFailed => {
                Self::Unavailable(error.to_string())
            }
            E::Configuration(_) => {
                Self::Misconfigured("its URL has a parameter with an invalid value".into())
            }
            _ => Self::Internal(error.to_string()),
        }
    }
}

impl From<MigrateError> for StoreError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
                match Self::from(error) {
                    // A table that is already there, or the like.
                    Self::Internal(text) | Self::Conflict(text) => Self::Misconfigured(format!(
                        "cannot create the tables ({text}); use a separate database"
                    )),
                    other => other,
                }
            }
            other => Self::Misconfigured(format!(
                "{other}; the database was created by another build: use a separate database"
            )),
        }
    }
}

fn from_code(code: &str, message: &str) -> StoreError {
    let hint = match code {
        "28000" | "28P01" => "check user and password in its URL",
        "3D000" => "create the database, or correct its name in the URL",
        "42501" => "grant the user CREATE on the schema and all rights on its tables",
        "42P01" | "42703" | "3F000" => {
            "tables are missing; restart this server to create them, or restore a backup"
        }
        "25006" => {
            let text = format!("{message} (SQLSTATE {code}); {POINT_TO_PRIMARY}");
            return StoreError::ReadOnly(text);
        }
        _ => return without_hint(code, message),
    };
    StoreError::Misconfigured(format!("{message} (SQLSTATE {code}): {hint}"))
}

fn without_hint(code: &str, message: &str) -> StoreError {
    let text = format!("{message} (SQLSTATE {code})");
    match code.get(..2) {
        // Foreign key and unique violation.
        Some("23") if matches!(code, "23503" | "23505") => StoreError::Conflict(text),
        // Connection, serialization and deadlock, resources, operator's intervention, system.
        Some("08" | "40" | "53" | "57" | "58") => StoreError::Unavailable(text),
        // Waiting for a lock.
        Some("55") => StoreError::Unavailable(text),
        // A transaction that its own session's time has ended.
        Some("25") if matches!(code, "25P03" | "25P04") => StoreError::Unavailable(text),
        // A prepared statement that a migration, or a proxy in between, has made unusable; and tables that are not on a
        // standby. It works with a new connection.
        Some("0A" | "26") => StoreError::Unavailable(text),
        _ => StoreError::Internal(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_told_from_a_mistake() {
        for code in [
            "57P01", "57P03", "57014", "53100", "53200", "53300", "40P01", "40001", "08006",
            "55P03", "25P03", "25P04", "58030", "0A000", "26000",
        ] {
            assert!(
                matches!(from_code(code, "m"), StoreError::Unavailable(_)),
                "{code}"
            );
        }
        for code in ["28P01", "3D000", "42501", "42P01"] {
            assert!(
                matches!(from_code(code, "m"), StoreError::Misconfigured(_)),
                "{code}"
            );
        }
        assert!(matches!(from_code("25006", "m"), StoreError::ReadOnly(_)));
        assert!(matches!(from_code("23505", "m"), StoreError::Conflict(_)));
        assert!(matches!(from_code("42601", "m"), StoreError::Internal(_)));
        assert!(matches!(from_code("", "m"), StoreError::Internal(_)));
    }
}
