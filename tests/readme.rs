//! What README and docs tell people to type does what they say.
//!
//! Every block marked `sh` is run as it stands, by a shell in a fresh folder whose `data/` belongs to a running
//! server, with that server's address in place of `localhost:3000`, and with curl failing on an HTTP error. Two
//! kinds of lines are looked at and not run: of `make …`, that the Makefile has such a target; of `chatd all`
//! and `chatd bench`, which run long, that `--help` knows them. The blocks marked `js` and `python` run where
//! node and Python are installed; the frames of a client in docs/protocol.md are read by the server's own
//! parser; and every setting that is named is one.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a panic is how a test fails

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Map, Value, json};
use support::{SECRET, Server, token};
use tempfile::TempDir;

/// A fenced block of a document.
struct Block {
    /// `README.md:12`: for who has to mend it.
    place: String,
    language: String,
    text: String,
}

/// README and docs/*.md: path and text.
fn documents() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> = docs.filter(|path| path.extension().is_some_and(|e| e == "md")).collect();
    paths.sort();
    paths.insert(0, root.join("README.md"));
    let name = |path: &Path| path.strip_prefix(root).unwrap().display().to_string();
    paths.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

fn blocks_of(name: &str, document: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut inside = false;
    for (number, line) in (1..).zip(document.lines()) {
        match (line.strip_prefix("```"), inside) {
            (Some(language), false) => {
                let (place, language) = (format!("{name}:{number}"), language.to_owned());
                blocks.push(Block { place, language, text: String::new() });
                inside = true;
            }
            (Some(_), true) => inside = false,
            (None, true) => {
                let block = blocks.last_mut().unwrap();
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, false) => {}
        }
    }
    assert!(!inside, "{name}: a block does not end");
    blocks
}

fn blocks(language: &str) -> Vec<Block> {
    let all = documents().into_iter().flat_map(|(name, text)| blocks_of(&name, &text));
    all.filter(|block| block.language == language).collect()
}

/// A server on the `data/` of a fresh folder, and `chatd` in a folder for `PATH`.
struct Place {
    folder: TempDir,
    server: Server,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bin = folder.path().join("bin");
        fs::create_dir(&bin).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_chatd"), bin.join("chatd")).unwrap();
        let server = Server::start(&folder.path().join("data"));
        Self { folder, server }
    }

    /// A program in the folder, with the server's secret and no settings of the caller's.
    fn run(&self, program: &str, arguments: &[&str], extra: &[(&str, &str)]) -> Output {
        let bin = self.folder.path().join("bin");
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        let mut command = Command::new(program);
        command.args(arguments).env_clear().current_dir(self.folder.path()).stdin(Stdio::null());
        command.env("PATH", path).env("JWT_SECRET", SECRET).envs(extra.iter().copied());
        command.output().unwrap_or_else(|error| panic!("{program}: {error}"))
    }

    /// As a block says it, with this server's address.
    fn here(&self, text: &str) -> String {
        text.replace("localhost:3000", &self.server.address)
    }
}

fn told(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}\n{}{}", output.status, text(&output.stdout), text(&output.stderr))
}

/// The words of a line without the variables that are set for it.
fn words(line: &str) -> Vec<&str> {
    let is_variable = |word: &&str| word.split_once('=').is_some_and(|(name, _)| !name.contains(['/', '-']));
    line.split_whitespace().skip_while(is_variable).take_while(|word| !word.starts_with('#')).collect()
}

/// A block as a script of its own: lines that are not to be run are checked, or checked by the script.
fn script(block: &Block, makefile: &str) -> String {
    let mut script = String::from("set -eu\ncurl() { command curl --fail-with-body \"$@\"; }\n");
    for line in block.text.lines() {
        match words(line)[..] {
            ["make", target, ..] => {
                let has = makefile.lines().any(|line| line.starts_with(&format!("{target}:")));
                assert!(has, "{}: the Makefile has no target `{target}`", block.place);
            }
            // What starts services for others is run by scripts/test.
            [path, ..] if path.starts_with("scripts/") || line.contains("scripts/stack") => {
                let script = line.split(['(', '"', ' ']).find(|part| part.starts_with("scripts/"));
                let script = script.unwrap_or_else(|| panic!("{}: {line}", block.place));
                let exists = Path::new(env!("CARGO_MANIFEST_DIR")).join(script).exists();
                assert!(exists, "{}: there is no {script}", block.place);
            }
            // These run for long, or on services that are not here.
            [
                "chatd",
                command @ ("all" | "bench" | "serve" | "consume" | "doctor" | "migrate" | "move"),
                ..,
            ] => {
                script.push_str(&format!("chatd {command} --help > /dev/null\n"));
            }
            _ => script.push_str(&format!("{line}\n")),
        }
    }
    script
}

#[test]
fn every_command_of_the_documents_works() {
    let makefile = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Makefile")).unwrap();
    let place = Place::new();
    let blocks = blocks("sh");
    for block in &blocks {
        let output = place.run("sh", &["-c", &place.here(&script(block, &makefile))], &[]);
        assert!(output.status.success(), "{}: {}", block.place, told(&output));
    }
    assert!(blocks.len() >= 5, "{} blocks: the documents are read wrongly", blocks.len());
}

#[test]
fn a_command_that_fails_is_found() {
    let place = Place::new();
    let fails = |text: &str| {
        let block = Block { place: "here:1".into(), language: "sh".into(), text: text.into() };
        let output = place.run("sh", &["-c", &place.here(&script(&block, "run: build\n"))], &[]);
        !output.status.success()
    };
    assert!(fails("curl -s localhost:3000/nothing\nchatd --version\n"));
    assert!(fails("chatd user add --id 7 --nickname Mia\n"));
    assert!(!fails("make run # starts it\nPORT=0 chatd all\ncurl -s localhost:3000/health\n"));
    let unknown = std::panic::catch_unwind(|| fails("make coffee\n"));
    assert!(unknown.is_err());
}

/// How node runs a script in which `WebSocket` is defined; `None` where this machine has no such node.
fn node(place: &Place) -> Option<Vec<&'static str>> {
    const HAS_SOCKETS: &str = "process.exit(typeof WebSocket === 'function' ? 0 : 1)";
    Command::new("node").arg("--version").output().ok()?;
    // From version 22 on by itself, from 20.10 on by a flag, which later ones take too.
    let ways = [vec![], vec!["--experimental-websocket"]];
    ways.into_iter().find(|way| {
        let arguments: Vec<&str> = way.iter().copied().chain(["-e", HAS_SOCKETS]).collect();
        place.run("node", &arguments, &[]).status.success()
    })
}

fn block_with(language: &str, text: &str) -> Block {
    blocks(language).into_iter().find(|block| block.text.contains(text)).expect("there is such a block")
}

/// The browser's part, run by node: something to keep a cursor in, and an end after the first message.
const BROWSER: &str = "
const localStorage = process.env.CURSOR ? { cursor: process.env.CURSOR } : {};
const shown = console.log;
console.log = (line) => {
  shown(line);
  setTimeout(() => { shown(`cursor ${localStorage.cursor}`); process.exit(0); }, 100);
};
setTimeout(() => { shown('nothing came'); process.exit(1); }, 10000);
";

#[test]
fn the_readme_s_javascript_chats_and_resumes_with_its_cursor() {
    let place = Place::new();
    let Some(way) = node(&place) else {
        eprintln!("no node with WebSocket here: the README's JavaScript was not run");
        return;
    };
    let block = block_with("js", "new WebSocket");
    let code = place.here(&block.text).replace("const token = \"…\"", "const token = process.env.TOKEN");
    let file = place.folder.path().join("app.mjs");
    fs::write(&file, format!("{BROWSER}{code}")).unwrap();
    let arguments: Vec<&str> = way.into_iter().chain([file.to_str().unwrap()]).collect();
    let app = |cursor: &str| {
        let output = place.run("node", &arguments, &[("TOKEN", &token(1001)), ("CURSOR", cursor)]);
        assert!(output.status.success(), "{}: {}", block.place, told(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let first = app("");
    let (message, cursor) = first.trim().split_once("\ncursor ").unwrap();
    assert_eq!(message, "1001: Hello Ben");

    let answer = format!(
        "TOKEN=$(chatd token --user 1002 --name Ben)\ncurl -sS --fail-with-body {} \
         -H \"Authorization: Bearer $TOKEN\" -H 'Content-Type: application/json' \
         -d '{{\"to\": 1001, \"content\": \"Hello Ana\"}}'",
        place.server.http("/v1/messages")
    );
    let sent = place.run("sh", &["-ceu", &answer], &[]);
    assert!(sent.status.success(), "{}", told(&sent));
    let second = app(cursor);
    assert!(second.contains("1002: Hello Ana\n"), "{second}");
}

/// Runs a snippet that prints a token, and asks the server whose it is.
fn signs_for_mia(place: &Place, output: &Output) {
    assert!(output.status.success(), "{}", told(output));
    let token = String::from_utf8(output.stdout.clone()).unwrap();
    let bearer = format!("Authorization: Bearer {}", token.trim());
    let me =
        place.run("curl", &["-sS", "--fail-with-body", &place.server.http("/v1/me"), "-H", &bearer], &[]);
    assert!(me.status.success(), "{}", told(&me));
    let me: serde_json::Value = serde_json::from_slice(&me.stdout).unwrap();
    assert_eq!((me["id"].as_i64(), me["name"].as_str()), (Some(7), Some("Mia")));
}

#[test]
fn the_snippets_sign_tokens_that_are_believed() {
    let place = Place::new();
    if Command::new("node").arg("--version").output().is_ok() {
        let file = place.folder.path().join("sign.mjs");
        fs::write(&file, block_with("js", "createHmac").text).unwrap();
        signs_for_mia(&place, &place.run("node", &[file.to_str().unwrap()], &[]));
    }
    if Command::new("python3").arg("--version").output().is_ok() {
        let code = block_with("python", "hmac.new").text;
        signs_for_mia(&place, &place.run("python3", &["-c", &code], &[]));
    }
}

#[test]
fn the_server_reads_every_frame_that_a_client_is_told_to_say() {
    let (name, text) = documents().into_iter().find(|(name, _)| name == "docs/protocol.md").unwrap();
    let (_, rest) = text.split_once("\n## What a client says\n").unwrap();
    let (section, _) = rest.split_once("\n## ").unwrap();
    let mut count = 0;
    for block in blocks_of(&name, section).iter().filter(|block| block.language == "json") {
        let frames = serde_json::Deserializer::from_str(&block.text).into_iter::<serde_json::Value>();
        for frame in frames {
            let frame = frame.unwrap().to_string();
            chatd::ws::protocol::parse(&frame).unwrap_or_else(|refusal| panic!("{frame}: {refusal:?}"));
            count += 1;
        }
    }
    assert!(count >= 4, "{count} frames: the document is read wrongly");
}

/// What an answer is made of: names, and the kinds of values. Null stands for any kind, and a list for its first.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (name.clone(), shape(value))).collect::<Map<_, _>>().into()
        }
        Value::Array(rows) => rows.first().map_or(Value::Null, |row| json!([shape(row)])),
        Value::String(_) => json!("text"),
        Value::Number(_) => json!("number"),
        Value::Bool(_) => json!("bool"),
        Value::Null => Value::Null,
    }
}

/// Whether two shapes are the same but for nulls.
fn fits(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Null, _) | (_, Value::Null) => true,
        (Value::Object(one), Value::Object(other)) => {
            one.keys().eq(other.keys()) && one.iter().all(|(name, value)| fits(value, &other[name]))
        }
        (Value::Array(one), Value::Array(other)) => fits(&one[0], &other[0]),
        (one, other) => one == other,
    }
}

#[test]
fn the_answers_that_the_protocol_shows_are_those_of_the_server() {
    /// A word that only this example has, and what is asked.
    const EXAMPLES: [(&str, &str); 5] = [
        ("next_cursor", "/v1/conversations?limit=1"),
        ("\"time_zone\"", "/v1/me"),
        ("\"users\"", "/v1/users?query=ben"),
        ("\"content\": null", "/v1/conversations/dm-1001-1002/messages"),
        ("\"sender_id\"", "/messages?user1=1001&user2=1002"),
    ];
    let place = Place::new();
    let (_, text) = documents().into_iter().find(|(name, _)| name == "docs/protocol.md").unwrap();
    let (_, rest) = text.split_once("\n## REST\n").unwrap();
    let (section, _) = rest.split_once("\n## ").unwrap();
    let ask = |arguments: &str, path: &str| {
        let call = format!(
            "curl -sS --fail-with-body {arguments} -H 'Authorization: Bearer {}' '{}'",
            token(1001),
            place.server.http(path)
        );
        let output = place.run("sh", &["-c", &call], &[]);
        assert!(output.status.success(), "{path}: {}", told(&output));
        output.stdout
    };
    let body = "-H 'Content-Type: application/json' -d";
    ask(&format!("{body} '{{\"to\":1002,\"content\":\"Hello Ben\"}}'"), "/v1/messages");
    while !String::from_utf8(ask("", "/v1/conversations")).unwrap().contains("dm-1001-1002") {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    for (word, path) in EXAMPLES {
        let blocks = blocks_of("docs/protocol.md", section);
        let block =
            blocks.iter().find(|block| block.language == "json" && block.text.contains(word)).unwrap();
        let shown: Value =
            serde_json::from_str(&block.text).unwrap_or_else(|error| panic!("{}: {error}", block.place));
        let answered: Value = serde_json::from_slice(&ask("", path)).unwrap();
        let (shown, answered) = (shape(&shown), shape(&answered));
        assert!(fits(&shown, &answered), "{}: {shown}\n{path}: {answered}", block.place);
    }
    assert!(!fits(&shape(&json!({"a": [{"b": 1}]})), &shape(&json!({"a": [{"b": "1"}]}))));
    assert!(!fits(&shape(&json!({"a": 1})), &shape(&json!({"a": 1, "b": null}))));
}

/// The keys that `chatd config show` prints, as `section.key`.
fn settings(place: &Place) -> BTreeSet<String> {
    let output = place.run("chatd", &["config", "show"], &[]);
    assert!(output.status.success(), "{}", told(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut section = "";
    let mut keys = BTreeSet::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name;
        } else if !section.is_empty() {
            let key = line.trim_start_matches("# ").split(' ').next().unwrap_or_default();
            keys.insert(format!("{section}.{key}"));
        }
    }
    keys
}

#[test]
fn every_setting_that_the_documents_name_is_one() {
    /// Files and topics that look like settings.
    const OTHERS: [&str; 2] = ["log.db", "chat.messages"];
    let place = Place::new();
    let known = settings(&place);
    let sections: BTreeSet<&str> = known.iter().filter_map(|key| key.split('.').next()).collect();
    let mut named = 0;
    for (name, text) in documents() {
        for code in text.split('`').skip(1).step_by(2) {
            let key = code.split([' ', '=']).next().unwrap_or_default();
            let plain = key.chars().all(|c| c.is_ascii_lowercase() || matches!(c, '_' | '.'));
            let is_one = key.split_once('.').is_some_and(|(section, _)| sections.contains(section));
            if plain && is_one && !OTHERS.iter().any(|other| key.starts_with(other)) {
                let is_section = known.iter().any(|known| known.starts_with(&format!("{key}.")));
                assert!(is_section || known.contains(key), "{name}: there is no setting `{key}`");
                named += 1;
            }
        }
    }
    assert!(named >= 20, "{named} settings: the documents are read wrongly");
}
