//! `chatd user list`: a table for people, or JSON lines for scripts.

use std::fmt::Write;

use serde::Serialize;

use super::{CliError, List, output};
use crate::app::open;
use crate::cli::Exit;
use crate::config::Config;
use crate::domain::User;

/// Users that are read and printed at a time; a table of more keeps the widths of the widest so far.
const PAGE: u32 = 1_000;

/// Prints all users by id.
///
/// # Errors
/// There is no database (78), or storage fails.
pub(super) async fn run(args: &List, config: &Config) -> Result<(), CliError> {
    let storage = open::existing_storage(config).await?;
    let mut table = Table::default();
    let (mut after, mut count) = (0, 0);
    loop {
        let users = storage.list(after, PAGE).await?;
        let Some(last) = users.last() else { break };
        after = last.id.get();
        count += users.len();
        output::print(&if args.json { json(&users)? } else { table.page(&users) })?;
        if users.len() < PAGE as usize {
            break;
        }
    }
    if count == 0 && !args.json {
        output::print("There are no users yet; `chatd user add` makes one, and so does a first token.\n")?;
    }
    Ok(())
}

/// Columns that are as wide as the widest cell so far, in characters.
#[derive(Debug, Default)]
struct Table {
    widths: [usize; 2],
    begun: bool,
}

impl Table {
    fn page(&mut self, users: &[User]) -> String {
        let heading = ["ID", "NAME", "EMAIL"].map(str::to_owned);
        let mut rows: Vec<_> = users.iter().map(row).collect();
        if !self.begun {
            rows.insert(0, heading);
            self.begun = true;
        }
        for row in &rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let [id_width, name_width] = self.widths;
        let mut out = String::new();
        for [id, name, rest] in rows {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{id:>id_width$}  {name:<name_width$}  {rest}");
        }
        out
    }
}

fn row(user: &User) -> [String; 3] {
    let mut rest = user.email.clone().unwrap_or_else(|| "-".to_owned());
    if let Some(external) = &user.external_id {
        // Writing to a String cannot fail.
        let _ = write!(rest, "  (token subject {external:?})");
    }
    if user.disabled {
        rest.push_str("  (disabled)");
    }
    [user.id.to_string(), user.display_name(), rest]
}

/// The fields of `chatd user import`, and what only chatd knows where it is so.
#[derive(Serialize)]
struct JsonUser<'a> {
    id: i64,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    external_id: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    disabled: bool,
}

fn json(users: &[User]) -> Result<String, CliError> {
    let mut out = String::new();
    for user in users {
        let line = JsonUser {
            id: user.id.get(),
            name: &user.name,
            email: user.email.as_deref(),
            external_id: user.external_id.as_deref(),
            disabled: user.disabled,
        };
        let line = serde_json::to_string(&line)
            .map_err(|error| CliError::new(Exit::Fault, format!("cannot write JSON: {error}")))?;
        out.push_str(&line);
        out.push('\n');
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::UserId;

    fn user(id: i64, name: &str, email: Option<&str>) -> User {
        let email = email.map(str::to_owned);
        User {
            id: UserId::new(id).unwrap(),
            external_id: None,
            name: name.into(),
            email,
            disabled: false,
            time_zone: None,
            language: None,
        }
    }

    #[test]
    fn columns_are_aligned_and_the_heading_comes_once() {
        let mut table = Table::default();
        let first = table.page(&[user(7, "Ana", Some("ana@example.test")), user(1_001, "Benedict", None)]);
        let expected = "  ID  NAME      EMAIL\n   7  Ana       ana@example.test\n1001  Benedict  -\n";
        assert_eq!(first, expected);
        assert_eq!(table.page(&[user(1_002, "", None)]), "1002  user1002  -\n");
    }

    #[test]
    fn a_row_says_what_is_special() {
        let mut special = user(1 << 40, "Eva", None);
        special.external_id = Some("auth0|7\u{1b}".into());
        special.disabled = true;
        let text = Table::default().page(&[special.clone()]);
        assert!(text.contains(r#"-  (token subject "auth0|7\u{1b}")  (disabled)"#), "{text}");
        let line = json(&[special]).unwrap();
        assert!(line.contains(r#""external_id":"auth0|7\u001b","disabled":true}"#), "{line}");
    }

    #[test]
    fn json_lines_are_those_that_import_reads() {
        let line = json(&[user(7, "Ana", Some("ana@example.test"))]).unwrap();
        assert_eq!(line, "{\"id\":7,\"name\":\"Ana\",\"email\":\"ana@example.test\"}\n");
    }
}
