//! The story in the terminal: each message with the names of who wrote and who got it. Development only.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::domain::{Timestamp, UserId};
use crate::storage::{NewUser, StorageError};
use crate::telemetry::story::{Line, Teller};

/// Ana and Ben, for the first minute; never over existing users.
pub async fn add_demo_users(app: &App) -> Result<(), StorageError> {
    let demo = [(1001, "Ana", "ana@example.test"), (1002, "Ben", "ben@example.test")];
    let users: Vec<NewUser> = demo
        .iter()
        .filter_map(|(id, name, email)| {
            let (name, email) = ((*name).to_owned(), Some((*email).to_owned()));
            UserId::new(*id).ok().map(|id| NewUser { id, name, email })
        })
        .collect();
    app.storage.add_missing(&users).await
}

/// Tells the story with names in place of ids.
pub async fn tell(app: Arc<App>, mut teller: Teller, stop: CancellationToken) {
    loop {
        let line = tokio::select! {
            line = teller.next() => line,
            () = stop.cancelled() => return,
        };
        let Some(line) = line else { return stop.cancelled().await };
        let text = sentence(&app, line).await;
        tracing::info!(target: "chatd::story", "{text}");
    }
}

async fn sentence(app: &App, line: Line) -> String {
    match line {
        Line::More(count) => format!("… and {count} more"),
        Line::Mail { user, what } => format!("mail > {} {what}", name(app, user).await),
        Line::Message { from, to, seq, accepted, delivered } => {
            let sender = name(app, from).await;
            let recipient = match to {
                Some(to) => name(app, to).await,
                None => "the group".to_owned(),
            };
            let accepted =
                accepted.map_or_else(|| "accepted".to_owned(), |took| format!("accepted {}", ms(took)));
            let fate = match delivered {
                Some(took) => format!("delivered {}", ms(took)),
                None => {
                    let due = Timestamp::now().plus(app.settings.grace).to_string();
                    format!("{recipient} has no device, mail due {}", due.get(11..19).unwrap_or(&due))
                }
            };
            format!("{sender} > {recipient} #{seq} {accepted}, {fate}")
        }
    }
}

async fn name(app: &App, user: UserId) -> String {
    let known = app.directory.recipient(user).await.ok().flatten();
    known.map_or_else(|| format!("user{user}"), |user| user.display_name().to_lowercase())
}

fn ms(took: Duration) -> String {
    format!("{:.1} ms", took.as_secs_f64() * 1_000.0)
}
