//! Users: who they are, whether they still exist, and the mark that invalidates a login when it changes.
//!
//! The rest of the server knows only the interface of [`Login`]. Each way to log in is a variant with a
//! file of its own here; what the browser is shown for it is in `http/public/pages/`.

pub mod device;
pub mod password;
pub mod session;
pub mod ticket;
pub mod users;

use std::path::PathBuf;

use crate::oauth::grant::LoginMark;
use session::Session;
use users::{LocalUsers, UsersError};

/// Which way to log in is configured.
#[derive(Clone, Debug)]
pub enum LoginMethod {
    /// Everyone is signed in as this user, and consent is given automatically; only on loopback.
    DevelopmentAutoApprove {
        /// `sub` of all tokens.
        subject: String,
    },
    /// Names and password hashes from a file.
    LocalUsers {
        /// The file, read again when it changes.
        file: PathBuf,
    },
}

/// The configured way to log in.
#[derive(Debug)]
pub enum Login {
    /// Everyone is signed in as this user.
    AutoApprove {
        /// `sub` of all tokens.
        subject: String,
    },
    /// Users from a file.
    LocalUsers(LocalUsers),
}

/// A user who has proven who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// `sub` of their tokens.
    pub subject: String,
    /// The mark of this login.
    pub mark: LoginMark,
}

/// How the user is authenticated.
#[derive(Debug)]
pub enum Start<'a> {
    /// Always this user, without a sign-in page.
    Known(User),
    /// With the sign-in form, which these users check.
    Form(&'a LocalUsers),
}

/// Users cannot be looked up, so nobody can sign in.
#[derive(Debug, thiserror::Error)]
#[error("users cannot be looked up: {0}")]
pub struct LoginError(String);

impl From<UsersError> for LoginError {
    fn from(error: UsersError) -> Self {
        Self(error.to_string())
    }
}

impl Login {
    /// From the configuration.
    pub fn new(method: LoginMethod) -> Self {
        match method {
            LoginMethod::DevelopmentAutoApprove { subject } => Self::AutoApprove { subject },
            LoginMethod::LocalUsers { file } => Self::LocalUsers(LocalUsers::new(file)),
        }
    }

    /// How to authenticate the user.
    pub fn start(&self) -> Start<'_> {
        match self {
            Self::AutoApprove { subject } => Start::Known(User {
                subject: subject.clone(),
                mark: LoginMark::default(),
            }),
            Self::LocalUsers(users) => Start::Form(users),
        }
    }

    /// How many sign-ins wait.
    pub fn waiting(&self) -> usize {
        match self {
            Self::AutoApprove { .. } => 0,
            Self::LocalUsers(users) => users.waiting(),
        }
    }

    /// Whether this user still exists: refresh tokens of a removed one end.
    ///
    /// # Errors
    /// When users cannot be looked up.
    pub async fn exists(&self, subject: &str) -> Result<bool, LoginError> {
        Ok(self.mark(subject).await?.is_some())
    }

    /// Whether the session's user still exists, and its login has not been ended since.
    ///
    /// # Errors
    /// When users cannot be looked up.
    pub async fn is_current(&self, session: &Session) -> Result<bool, LoginError> {
        self.has(&session.subject, Some(&session.mark)).await
    }

    /// Whether the user of a grant still exists, and the login in which they consented has not been ended since.
    ///
    /// # Errors
    /// When users cannot be looked up.
    pub async fn has(&self, subject: &str, mark: Option<&LoginMark>) -> Result<bool, LoginError> {
        let current = self.mark(subject).await?;
        Ok(current.is_some_and(|current| mark.is_none_or(|mark| *mark == current)))
    }

    /// The mark that a login of this user has now; `None` when there is no such user.
    async fn mark(&self, subject: &str) -> Result<Option<LoginMark>, LoginError> {
        match self {
            Self::AutoApprove { subject: only } => Ok((only == subject).then(LoginMark::default)),
            Self::LocalUsers(users) => Ok(users.mark(subject).await?),
        }
    }
}

#[cfg(test)]
mod tests {
    use mcpauth_service::clock::UnixTime;

    use super::*;

    #[tokio::test]
    async fn a_session_ends_with_its_user_and_with_the_mark() {
        let login = Login::AutoApprove {
            subject: "developer".into(),
        };
        let session = |subject: &str, mark: &str| {
            let user = User {
                subject: subject.into(),
                mark: LoginMark::new(mark.into()),
            };
            Session::begin(user, UnixTime::from_seconds(0)).unwrap()
        };
        for (subject, mark, expected) in [
            ("developer", "", true),
            ("developer", "before", false),
            ("alice", "", false),
        ] {
            let current = login.is_current(&session(subject, mark)).await.unwrap();
            assert_eq!(current, expected, "{subject} {mark}");
        }
        assert!(login.exists("developer").await.unwrap());
        assert!(!login.exists("alice").await.unwrap());
    }
}
