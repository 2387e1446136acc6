//! The executable as operators meet it: what it prints, where, and how it ends.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a panic is how a test fails

#[path = "cli/moving.rs"]
mod moving;
#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};
use support::{Server, Setup, token};
use tempfile::TempDir;

/// How a command ended: exit code, stdout, stderr.
type Ended = (i32, String, String);

/// Runs `chatd` in a folder of its own, with no settings around.
fn chatd(folder: &Path, line: &str) -> Ended {
    ended(chatd_command(folder).args(line.split_whitespace()))
}

fn chatd_command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chatd"));
    command.env_clear().current_dir(folder).stdin(Stdio::null());
    command
}

fn ended(command: &mut Command) -> Ended {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Runs `chatd`, which must do what was asked and say nothing on stderr; its stdout.
fn fine(folder: &Path, line: &str) -> String {
    let (code, stdout, stderr) = chatd(folder, line);
    assert_eq!((code, stderr.as_str()), (0, ""), "{line}: {stdout}");
    stdout
}

/// Runs `chatd`, which must refuse with this code; its sentence.
fn refused(folder: &Path, line: &str, expected: i32) -> String {
    let (code, stdout, stderr) = chatd(folder, line);
    assert_eq!((code, stdout.as_str()), (expected, ""), "{line}: {stderr}");
    assert!(stderr.starts_with("chatd: "), "{line}: {stderr}");
    stderr
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn a_newcomer_finds_the_way() {
    let folder = folder();
    assert_eq!(fine(folder.path(), "--version"), format!("chatd {}\n", env!("CARGO_PKG_VERSION")));
    let help = fine(folder.path(), "--help");
    for words in ["Run a server:", "chatd all", "user add", "config show", "backup", "--data <DIR>"] {
        assert!(help.contains(words), "{words}: {help}");
    }
    assert!(fine(folder.path(), "completions bash").contains("complete -F _chatd"));
    let (code, _, stderr) = chatd(folder.path(), "al");
    assert_eq!(code, 2);
    assert!(stderr.contains("'all'"), "{stderr}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "looking makes nothing");
}

#[test]
fn a_typo_in_the_settings_is_told_with_its_place_and_a_suggestion() {
    let folder = folder();
    fs::write(folder.path().join("chatd.toml"), "[ws]\n# comment\nhearbeat = \"10s\"\n").unwrap();
    for line in ["config check", "all", "user list"] {
        let sentence = refused(folder.path(), line, 78);
        assert!(sentence.contains("chatd.toml:3:1") && sentence.contains("`ws.heartbeat`"), "{sentence}");
    }
    let variable = ended(chatd_command(folder.path()).args(["config", "check", "--config", "none.toml"]));
    assert_eq!(variable.0, 78);
    assert!(variable.2.contains("none.toml"), "{variable:?}");
}

#[test]
fn the_example_configuration_loads_and_changes_nothing() {
    let folder = folder();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/chatd.example.toml");
    fs::copy(example, folder.path().join("chatd.toml")).unwrap();
    assert!(fine(folder.path(), "config check").starts_with("The configuration is fine; development rules"));
    let with = fine(folder.path(), "config show");
    fs::remove_file(folder.path().join("chatd.toml")).unwrap();
    assert_eq!(with, fine(folder.path(), "config show"));
}

#[test]
fn roles_that_share_say_what_to_set() {
    let folder = folder();
    for role in ["serve", "consume"] {
        let sentence = refused(folder.path(), role, 78);
        for words in ["DATABASE_URL", "KAFKA_BROKERS", "REDIS_URL", "chatd all"] {
            assert!(sentence.contains(words), "{sentence}");
        }
    }
}

#[test]
fn a_token_is_signed_with_the_secret_of_the_folder() {
    let folder = folder();
    let printed = fine(folder.path(), "token --user 2 --name gargi");
    let secret = fs::read_to_string(folder.path().join("data/secrets/jwt")).unwrap();
    let mut validation = Validation::new(Algorithm::HS256);
    validation.required_spec_claims.clear();
    let key = DecodingKey::from_secret(secret.trim_end().as_bytes());
    let claims = jsonwebtoken::decode::<Value>(printed.trim_end(), &key, &validation).unwrap().claims;
    assert_eq!((&claims["userId"], &claims["name"]), (&json!(2), &json!("gargi")));
    let open = ended(
        chatd_command(folder.path()).env("HOST", "0.0.0.0").args(["token", "--user", "2", "--name", "g"]),
    );
    assert_eq!(open.0, 78);
    assert!(open.2.contains("set JWT_SECRET"), "{open:?}");
}

#[test]
fn users_are_added_imported_and_listed() {
    let folder = folder();
    assert!(refused(folder.path(), "user list", 78).contains("there is no database ./data/chatd.db yet"));
    let added = fine(folder.path(), "user add --id 101 --name user101 --email user101@example.test");
    assert_eq!(added, "Added user 101, user101; mail goes to user101@example.test.\n");
    let changed = fine(folder.path(), "user add --id 101 --name Mia");
    assert_eq!(changed, "User 101 was there already and is now Mia; the address stays as it was.\n");
    let mode = fs::metadata(folder.path().join("data/chatd.db")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let file = folder.path().join("users.jsonl");
    fs::write(&file, "{\"id\":7,\"name\":\"Ana\"}\n{\"id\":8,\"name\":\"Ben\",\"email\":\"ben\"}\n").unwrap();
    let sentence = refused(folder.path(), "user import users.jsonl", 2);
    assert!(sentence.starts_with("chatd: users.jsonl:2: email: "), "{sentence}");
    assert!(!fine(folder.path(), "user list").contains("Ana"), "all or nothing");
    fs::write(&file, "{\"id\":7,\"name\":\"Ana\"}\n{\"id\":101,\"name\":\"Mia\"}\n").unwrap();
    let imported = fine(folder.path(), "user import users.jsonl");
    assert_eq!(imported, "Imported 2 users: 1 added, 0 changed, 1 as they were.\n");
    let expected = " ID  NAME  EMAIL\n  7  Ana   -\n101  Mia   user101@example.test\n";
    assert_eq!(fine(folder.path(), "user list"), expected);
    let lines = fine(folder.path(), "user list --json");
    assert_eq!(lines.lines().next(), Some("{\"id\":7,\"name\":\"Ana\"}"));
    fs::write(&file, lines).unwrap();
    assert!(fine(folder.path(), "user import users.jsonl").contains("2 as they were"));
}

#[test]
fn bad_users_are_refused_before_anything_is_made() {
    let folder = folder();
    for line in [
        "user add --id 0 --name x",
        "user add --id 1099511627776 --name x",
        "user add --id 5 --name x --email not-an-address",
        "user add --id 5 --name \u{202e}",
        "user import missing.jsonl",
    ] {
        assert_eq!(chatd(folder.path(), line).0, 2, "{line}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn migrate_says_what_it_ran_and_then_that_nothing_is_to_do() {
    let folder = folder();
    let ran = fine(folder.path(), "migrate");
    assert!(ran.starts_with("./data/chatd.db has this version's schema now; ran "), "{ran}");
    assert!(ran.contains("\n  00000000000001\n"), "{ran}");
    assert!(fine(folder.path(), "migrate").contains("nothing to do"));
}

#[test]
fn a_data_folder_that_cannot_be_used_is_told() {
    let folder = folder();
    fs::write(folder.path().join("data"), "a file").unwrap();
    for line in ["user add --id 7 --name Ana", "migrate", "all"] {
        assert!(refused(folder.path(), line, 78).contains("data"), "{line}");
    }
    let other = TempDir::new().unwrap();
    fs::create_dir(other.path().join("data")).unwrap();
    fs::write(other.path().join("data/chatd.db"), "no database at all, but 16 bytes and more").unwrap();
    for line in ["user add --id 7 --name Ana", "user list", "migrate", "all"] {
        assert!(refused(other.path(), line, 78).contains("not a chatd database"), "{line}");
    }
}

#[test]
fn a_folder_without_a_server_is_backed_up() {
    let folder = folder();
    assert!(refused(folder.path(), "backup copy", 78).contains("there is no database"));
    assert!(!folder.path().join("copy").exists(), "a failed backup leaves nothing");
    fine(folder.path(), "user add --id 7 --name Ana");
    let told = fine(folder.path(), "backup copy");
    assert!(told.contains("To restore: stop the server") && told.contains("mv ./data ./data.old"), "{told}");
    let names = fs::read_dir(folder.path().join("copy")).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(names, ["chatd.db"]);
    assert!(fine(folder.path(), "user list --data copy").contains("Ana"));
    assert!(refused(folder.path(), "backup copy", 2).contains("is not empty"));
}

#[test]
fn a_port_and_a_data_folder_belong_to_one_server() {
    let folder = folder();
    let server = Server::start(&folder.path().join("data"));
    assert!(refused(folder.path(), "all", 78).contains("another chatd uses the data folder"));
    let port = server.address.rsplit(':').next().unwrap();
    let other = ended(chatd_command(folder.path()).env("PORT", port).args(["all", "--data", "other"]));
    assert_eq!(other.0, 69, "{other:?}");
    assert!(other.2.contains(port), "{other:?}");
}

/// Sends over REST and returns status and body.
async fn send(server: &Server, from: i64, to: i64, content: &str) -> (u16, Value) {
    let body = json!({"to": to, "content": content});
    let request = reqwest::Client::new().post(server.http("/v1/messages")).bearer_auth(token(from));
    let answer = request.json(&body).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

async fn history(server: &Server) -> Vec<String> {
    let request = reqwest::Client::new().get(server.http("/messages?user1=1001&user2=1002&limit=100"));
    let answer: Value = request.bearer_auth(token(1001)).send().await.unwrap().json().await.unwrap();
    let messages = answer["messages"].as_array().unwrap_or_else(|| panic!("{answer}"));
    messages.iter().map(|message| message["content"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_running_server_is_backed_up_and_the_copy_goes_on() {
    let folder = folder();
    let server = Server::start(&folder.path().join("data"));
    // The tests' servers have their secret from the environment; this one stands for a folder's own.
    fine(folder.path(), "token --user 1 --name x");
    for n in 0..20 {
        assert_eq!(send(&server, 1001, 1002, &format!("before {n}")).await.0, 202);
    }
    let told = fine(folder.path(), "backup copy");
    assert!(told.contains("log.db") && told.contains("secrets/"), "{told}");
    assert_eq!(send(&server, 1001, 1002, "after").await.0, 202);
    for file in ["chatd.db", "log.db", "secrets/jwt"] {
        let path = folder.path().join("copy").join(file);
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600, "{file}");
    }
    let restored = Setup::new(&folder.path().join("copy")).start();
    let until = Instant::now() + Duration::from_secs(10);
    let kept = loop {
        let kept = history(&restored).await;
        if kept.len() >= 20 || Instant::now() > until {
            break kept;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(kept.len(), 20, "{kept:?}");
    assert!(kept.iter().all(|content| content.starts_with("before ")), "{kept:?}");
    assert_eq!(send(&restored, 1002, 1001, "on the copy").await.0, 202);
}

#[tokio::test]
async fn a_running_server_sees_a_user_who_was_added_beside_it() {
    let folder = folder();
    let server = Server::start(&folder.path().join("data"));
    let (status, answer) = send(&server, 1001, 555, "too early").await;
    assert_eq!((status, &answer["code"]), (404, &json!("unknown_recipient")), "{answer}");
    fine(folder.path(), "user add --id 555 --name Late");
    // Protocol: within 5 s.
    let until = Instant::now() + Duration::from_secs(5);
    while send(&server, 1001, 555, "hello").await.0 != 202 {
        assert!(Instant::now() < until, "the server does not see the user");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
