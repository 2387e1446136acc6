//! `chatd user add|import|list`: the people who chat. Works beside a running server.

mod import;
mod list;

use std::path::PathBuf;

use crate::app::open;
use crate::config::Config;
use crate::domain::user::normalized_name;
use crate::domain::{EmailAddress, UserId};
use crate::storage::{NewUser, Saved};

use super::{CliError, output};

/// What to do with users.
#[derive(Debug, clap::Subcommand)]
pub enum User {
    /// Add one user, or change the name and address of one that exists
    Add(Add),
    /// Add or change users from a file of JSON lines: all of them, or none
    Import(Import),
    /// List all users
    List(List),
}

/// Arguments of `chatd user add`.
#[derive(Debug, clap::Args)]
pub struct Add {
    /// The user's number, as in the token's `userId`
    #[arg(long, value_name = "ID", value_parser = parse_id)]
    pub id: UserId,
    /// The name that others see
    #[arg(long, value_parser = parse_name)]
    pub name: String,
    /// Where mail goes when the user is away; counts as verified
    #[arg(long, value_name = "ADDRESS")]
    pub email: Option<EmailAddress>,
}

/// Arguments of `chatd user import`.
#[derive(Debug, clap::Args)]
pub struct Import {
    /// One `{"id":101,"name":"Mia","email":"mia@example.com"}` a line, - for stdin; addresses count as verified
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// Arguments of `chatd user list`.
#[derive(Debug, clap::Args)]
pub struct List {
    /// Print a line of JSON for each
    #[arg(long)]
    pub json: bool,
}

/// Reads a user's number: 1 to 2^40 - 1, as chatd gives the numbers from 2^40 on itself.
///
/// # Errors
/// A sentence that says so.
pub fn parse_id(text: &str) -> Result<UserId, String> {
    text.parse::<i64>().ok().and_then(own_id).ok_or_else(|| ID_EXPECTED.to_owned())
}

const ID_EXPECTED: &str = "a user id is an integer from 1 to 1099511627775 (2^40 - 1)";

fn own_id(id: i64) -> Option<UserId> {
    UserId::new(id).ok().filter(|id| id.get() < UserId::GENERATED)
}

fn parse_name(text: &str) -> Result<String, String> {
    normalized_name(text).map_err(|error| error.to_string())
}

/// Does it.
///
/// # Errors
/// The database is away (69) or cannot be used (78), the file cannot be read, a line of it is not a user (2).
pub async fn run(user: &User, config: &Config) -> Result<(), CliError> {
    match user {
        User::Add(args) => add(args, config).await,
        User::Import(args) => import::run(args, config).await,
        User::List(args) => list::run(args, config).await,
    }
}

async fn add(args: &Add, config: &Config) -> Result<(), CliError> {
    let email = args.email.clone().map(String::from);
    let user = NewUser { id: args.id, name: args.name.clone(), email };
    let saved = open::storage(config).await?.save(std::slice::from_ref(&user)).await?;
    output::print(&added(&user, saved.first().copied().unwrap_or(Saved::Unchanged)))
}

fn added(user: &NewUser, saved: Saved) -> String {
    let NewUser { id, name, email } = user;
    let mail = match (email, saved) {
        (Some(email), _) => format!("mail goes to {email}"),
        (None, Saved::Added) => "no mail, as there is no address".to_owned(),
        // Storage leaves an address that is not given as it is.
        (None, Saved::Updated | Saved::Unchanged) => "the address stays as it was".to_owned(),
    };
    match saved {
        Saved::Added => format!("Added user {id}, {name}; {mail}.\n"),
        Saved::Updated => format!("User {id} was there already and is now {name}; {mail}.\n"),
        Saved::Unchanged => format!("User {id}, {name}, was there already; nothing changed.\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_chatd_gives_itself_are_refused() {
        assert_eq!(parse_id("1099511627775").map(|id| id.get()), Ok(1_099_511_627_775));
        for bad in ["", "0", "-1", "x", "1.5", "1099511627776", "99999999999999999999"] {
            assert!(parse_id(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn adding_says_what_became_of_the_user() {
        let mut mia = NewUser { id: UserId::new(7).unwrap(), name: "Mia".into(), email: None };
        assert_eq!(added(&mia, Saved::Added), "Added user 7, Mia; no mail, as there is no address.\n");
        assert!(added(&mia, Saved::Updated).contains("is now Mia; the address stays as it was"));
        mia.email = Some("mia@example.test".into());
        assert_eq!(added(&mia, Saved::Added), "Added user 7, Mia; mail goes to mia@example.test.\n");
        assert!(added(&mia, Saved::Updated).contains("was there already and is now Mia; mail goes to"));
        assert!(added(&mia, Saved::Unchanged).contains("nothing changed"));
    }
}
