//! `chatd user add|import|list`: the people who chat. Works beside a running server.

use std::path::PathBuf;

use crate::config::Config;
use crate::domain::UserId;

use super::{CliError, not_in_this_build};

/// What to do with users.
#[derive(Debug, clap::Subcommand)]
pub enum User {
    /// Add one user, or change the name and address of one that exists
    Add(Add),
    /// Add users from a file of JSON lines
    Import(Import),
    /// List all users
    List,
}

/// Arguments of `chatd user add`.
#[derive(Debug, clap::Args)]
pub struct Add {
    /// The user's number, as in the token's `userId`
    #[arg(long, value_name = "ID", value_parser = parse_id)]
    pub id: UserId,
    /// The name that others see
    #[arg(long)]
    pub name: String,
    /// Where mail goes when the user is away; counts as verified
    #[arg(long, value_name = "ADDRESS")]
    pub email: Option<String>,
}

/// Arguments of `chatd user import`.
#[derive(Debug, clap::Args)]
pub struct Import {
    /// One `{"id":101,"name":"Mia","email":"mia@example.com"}` a line; addresses count as verified
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// Reads a user's number: 1 to 2^40 - 1, as chatd gives the numbers from 2^40 on itself.
///
/// # Errors
/// A sentence that says so.
pub fn parse_id(text: &str) -> Result<UserId, String> {
    let id = text.parse::<i64>().ok().and_then(|id| UserId::new(id).ok());
    id.filter(|id| id.get() < UserId::GENERATED)
        .ok_or_else(|| "a user id is an integer from 1 to 1099511627775 (2^40 - 1)".to_owned())
}

/// Does it.
///
/// # Errors
/// The database is away, the file cannot be read, a line is not a user.
pub async fn run(_user: &User, _config: &Config) -> Result<(), CliError> {
    Err(not_in_this_build("user"))
}

#[cfg(test)]
mod tests {
    use super::parse_id;

    #[test]
    fn numbers_that_chatd_gives_itself_are_refused() {
        assert_eq!(parse_id("1099511627775").map(|id| id.get()), Ok(1_099_511_627_775));
        for bad in ["", "0", "-1", "x", "1.5", "1099511627776", "99999999999999999999"] {
            assert!(parse_id(bad).is_err(), "{bad}");
        }
    }
}
