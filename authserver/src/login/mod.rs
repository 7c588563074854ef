//! Users: who they are and whether they still exist.

pub mod session;
pub mod ticket;
pub mod users;

use crate::config::LoginMethod;
use users::{LocalUsers, UsersError};

/// The configured way to log in.
#[derive(Debug)]
pub enum Login {
    /// Everybody is this user.
    AutoApprove {
        /// `sub` of all tokens.
        subject: String,
    },
    /// Users from a file.
    LocalUsers(LocalUsers),
}

impl Login {
    /// From the configuration.
    pub fn new(method: LoginMethod) -> Self {
        match method {
            LoginMethod::DevelopmentAutoApprove { subject } => Self::AutoApprove { subject },
            LoginMethod::LocalUsers { file } => Self::LocalUsers(LocalUsers::new(file)),
        }
    }

    /// Whether this user exists, so that refresh tokens of a removed one end.
    ///
    /// # Errors
    /// When the users file cannot be read: nobody is let in then.
    pub async fn knows(&self, name: &str) -> Result<bool, UsersError> {
        Ok(self.password_mark(name).await?.is_some())
    }

    /// What changes with the user's password, so that sessions end with it; `None` when there is no such
    /// user.
    ///
    /// # Errors
    /// When the users file cannot be read.
    pub async fn password_mark(&self, name: &str) -> Result<Option<String>, UsersError> {
        match self {
            Self::AutoApprove { subject } => Ok((subject == name).then(String::new)),
            Self::LocalUsers(users) => users.password_mark(name).await,
        }
    }
}
