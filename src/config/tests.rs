//! What an operator gets from files, variables and mistakes.

use std::path::Path;
use std::time::Duration;

use super::*;

fn errors(sources: &Sources) -> Vec<String> {
    match Config::load(sources) {
        Ok(_) => panic!("no error"),
        Err(error) => error.to_string().lines().map(str::to_owned).collect(),
    }
}

fn file(text: &str) -> Sources {
    Sources::new("data").with_file(text)
}

fn dot_env(text: &str) -> Sources {
    Sources { dot_env: Some(text.to_owned()), ..Sources::new("data") }
}

const LONG: &str = "0123456789abcdef0123456789abcdef";

#[test]
fn nothing_has_to_be_set() {
    let config = Config::load(&Sources::new("data")).unwrap();
    assert!(!config.production());
    assert_eq!((config.http.port, config.http.is_loopback(), config.http.host.len()), (3000, true, 2));
    assert_eq!(config.ws.heartbeat, Duration::from_secs(25));
    assert_eq!(config.limits.devices, 8);
    assert_eq!(config.notify.grace, Duration::from_secs(10));
    assert_eq!(config.notify.max_age, Duration::from_secs(86_400));
    assert_eq!(config.notify.email.min_interval, Duration::ZERO);
    assert_eq!((config.log.partitions, config.log.linger), (6, Duration::from_millis(1)));
    assert!(config.auth.query_token && !config.auth.require_expiry);
    assert_eq!(config.presence.visible_to, VisibleTo::Everyone);
    assert_eq!(config.embedded(), ["DATABASE_URL", "KAFKA_BROKERS", "REDIS_URL"]);
    let StorageBackend::Sqlite { path } = &config.database.backend else { panic!("not SQLite") };
    assert_eq!(path, Path::new("data/chatd.db"));
    assert!(config.notices().is_empty());
}

#[test]
fn the_well_known_name_wins_over_ours_and_ours_over_the_file() {
    let sources = file("http.port = 1\n[ws]\nheartbeat = \"1s\"\n[limits]\ndevices = 2\n")
        .with("CHATD_HTTP__PORT", "2")
        .with("PORT", "3")
        .with("CHATD_WS__HEARTBEAT", "2s");
    let config = Config::load(&sources).unwrap();
    assert_eq!(config.http.port, 3);
    assert_eq!(config.ws.heartbeat, Duration::from_secs(2));
    assert_eq!(config.limits.devices, 2);
}

#[test]
fn dot_env_lies_between_the_file_and_the_environment() {
    let sources = file("[ws]\nheartbeat = \"1s\"\n[log]\npartitions = 2\n").with("CHATD_HTTP__PORT", "5");
    let dot_env = Some("export PORT=4\nCHATD_WS__HEARTBEAT=\"3s\"\nUNRELATED=x\n".to_owned());
    let config = Config::load(&Sources { dot_env, ..sources }).unwrap();
    assert_eq!(config.http.port, 5);
    assert_eq!(config.ws.heartbeat, Duration::from_secs(3));
    assert_eq!(config.log.partitions, 2);
}

#[test]
fn dot_env_counts_in_development_only() {
    let sources = dot_env("JWT_SECRET=x\nPORT=99999\n").with("CHATD_PROFILE", "production");
    let config = Config::load(&sources).unwrap();
    assert!(config.auth.jwt_secret.is_none());
    assert!(config.notices().iter().any(|notice| notice.contains(".env is not read")));
    let switched = errors(&dot_env("\nCHATD_HTTP__PUBLIC_URL=https://chat.example.test"));
    assert_eq!(switched.len(), 1);
    assert!(switched[0].starts_with(".env:2: CHATD_HTTP__PUBLIC_URL: .env counts in development only"));
}

#[test]
fn a_line_of_dot_env_is_taken_as_written_or_refused_without_its_text() {
    let secret = |text: &str| Config::load(&dot_env(text)).unwrap().auth.jwt_secret.unwrap();
    assert_eq!(secret("JWT_SECRET='a$b'").expose(), "a$b");
    assert_eq!(errors(&dot_env("#\nJWT_SECRET=hush$HOME"))[0].split(": ").next(), Some(".env:2"));
    let broken = errors(&dot_env("PORT=1\nEMAIL_PASS=hush hush hush\n"));
    assert!(broken[0].starts_with(".env:2:1: not NAME=value"), "{broken:?}");
    assert!(!broken.concat().contains("hush"));
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let sources =
        file("http.port = 7").with("PORT", "").with("DATABASE_URL", "").with("CHATD_WS__HEARTBEAT", "");
    assert_eq!(Config::load(&sources).unwrap().http.port, 7);
}

#[test]
fn a_typo_is_told_with_its_place_and_what_was_meant() {
    for (sources, expected) in [
        (
            file("[ws]\nhartbeat = \"1s\""),
            "chatd.toml:2:1: unknown key `ws.hartbeat`, did you mean `ws.heartbeat`?",
        ),
        (file("port = 1"), "chatd.toml:1:1: unknown key `port`, did you mean `http.port`?"),
        (file("\n[wss]\nheartbeat = \"1s\""), "chatd.toml:2:2: unknown section [wss], did you mean `[ws]`?"),
        (
            file("[notify.emial]"),
            "chatd.toml:1:9: unknown section [notify.emial], did you mean `[notify.email]`?",
        ),
        (file("[http.port]"), "chatd.toml:1:7: http.port is a setting with a value, not a section"),
        (file("[email]"), "chatd.toml:1:2: unknown section [email], did you mean `[notify.email]`?"),
        (file("ws = 1"), "chatd.toml:1:1: ws is a section: write [ws] and its keys below, not a value"),
        (
            Sources::new("data").with("CHATD_WS_HEARTBEAT", "1s"),
            "CHATD_WS_HEARTBEAT: no such setting, did you mean `CHATD_WS__HEARTBEAT`?",
        ),
        (
            Sources::new("data").with("CHATD_JWT_SECRET", "hush"),
            "CHATD_JWT_SECRET: no such setting, did you mean `CHATD_AUTH__JWT_SECRET`?",
        ),
        (
            dot_env("\n\nCHATD_PORTS=1"),
            ".env:3: CHATD_PORTS: no such setting; config/chatd.example.toml lists all",
        ),
        (file("xyzzy = 1"), "chatd.toml:1:1: unknown key `xyzzy`; config/chatd.example.toml lists all"),
    ] {
        assert_eq!(errors(&sources), [expected]);
    }
}

#[test]
fn a_wrong_value_is_told_with_its_place_and_what_is_expected() {
    for (sources, expected) in [
        (
            file("[ws]\nheartbeat = 25"),
            "chatd.toml:2:13: ws.heartbeat: expected a duration such as `500ms`, `10s`, `120m` or `24h` from 100ms \
             to 1h, found the integer 25",
        ),
        (
            file("http.port = \"1\""),
            "chatd.toml:1:13: http.port: expected an integer from 0 to 65535, found the string \"1\"",
        ),
        (
            Sources::new("data").with("PORT", "65536"),
            "PORT: http.port: expected an integer from 0 to 65535, found `65536`",
        ),
        (
            file("auth.provision = \"maybe\""),
            "chatd.toml:1:18: auth.provision: expected `create` or `reject`, found the string \"maybe\"",
        ),
        (
            file("limits.enabled = \"no\""),
            "chatd.toml:1:18: limits.enabled: expected `true` or `false`, found the string \"no\"",
        ),
        (
            Sources::new("data").with("HOST", "myhost"),
            "HOST: http.host: expected `localhost` or IP addresses such as `127.0.0.1`, `::1` or `0.0.0.0`, found `myhost`",
        ),
    ] {
        assert_eq!(errors(&sources), [expected]);
    }
    let zero = errors(&Sources::new("data").with("CHATD_WS__HEARTBEAT", "0s"));
    assert!(zero[0].contains("from 100ms to 1h, found `0s`"), "{zero:?}");
}

#[test]
fn what_is_not_toml_is_told_with_its_place() {
    let broken = errors(&file("[http]\nport = \n"));
    assert!(broken[0].starts_with("chatd.toml:2:"), "{broken:?}");
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let sources =
        file("[http]\nport = true\nhots = 1\n").with("CHATD_LOG__PARTITIONS", "0").with("EMAIL_PASS", "p");
    assert_eq!(errors(&sources).len(), 4);
}

#[test]
fn contradictions_say_what_to_set() {
    for (sources, part) in [
        (file("notify = { grace = \"2h\", max_age = \"1h\" }"), "raise notify.max_age"),
        (file("limits.message_bytes = 2048"), "below limits.content_bytes"),
        (file("http.admin_bind = \"127.0.0.1:3000\""), "a port of its own"),
        (Sources::new("data").with("DATABASE_URL", "mysql://db"), "expected sqlite://FILE or postgres://"),
        (Sources::new("data").with("REDIS_URL", "http://cache"), "expected redis://"),
        (
            Sources::new("data").with("KAFKA_BROKERS", "k:9092").with("KAFKA_SASL_USERNAME", "u"),
            "both KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD",
        ),
    ] {
        let errors = errors(&sources);
        assert!(errors.len() == 1 && errors[0].contains(part), "{errors:?}");
    }
}

#[test]
fn backends_are_chosen_by_their_variables() {
    let shared = Sources::new("data")
        .with("DATABASE_URL", "postgres://u:hush@db/chat")
        .with("KAFKA_BROKERS", "a:9092,b:9092")
        .with("REDIS_URL", "rediss://:hush@cache:6379");
    let config = Config::load(&shared).unwrap();
    assert!(config.embedded().is_empty() && !config.keeps_data());
    assert!(!format!("{config:?}").contains("hush"));
    let errors = errors(&Sources::new("data").with("CHATD_AUTH__JWKS_URL", "https://id.example.test/jwks"));
    assert!(errors[0].starts_with("CHATD_AUTH__JWKS_URL: this build reads no key sets"), "{errors:?}");
    let sqlite = Config::load(&Sources::new("data").with("DATABASE_URL", "sqlite:///var/chat.db")).unwrap();
    assert!(
        matches!(sqlite.database.backend, StorageBackend::Sqlite { path } if path == Path::new("/var/chat.db"))
    );
}

#[test]
fn a_secret_may_lie_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwt");
    std::fs::write(&path, "from a file\r\n").unwrap();
    let path = path.display().to_string();
    let secret = |sources: &Sources| Config::load(sources).unwrap().auth.jwt_secret.unwrap();
    assert_eq!(secret(&Sources::new("data").with("JWT_SECRET_FILE", &path)).expose(), "from a file");
    assert_eq!(secret(&file(&format!("auth.jwt_secret_file = {path:?}"))).expose(), "from a file");
    let stronger = file("auth.jwt_secret = \"weaker\"").with("CHATD_AUTH__JWT_SECRET_FILE", &path);
    assert_eq!(secret(&stronger).expose(), "from a file");
    let both = Sources::new("data").with("JWT_SECRET_FILE", &path).with("JWT_SECRET", "hush");
    assert_eq!(
        errors(&both),
        ["JWT_SECRET: auth.jwt_secret is set twice, here and by JWT_SECRET_FILE: keep one"]
    );
    let missing = errors(&Sources::new("data").with("EMAIL_PASS_FILE", "/nowhere/pass"));
    assert!(missing[0].starts_with("EMAIL_PASS_FILE: mail.password_file: cannot read /nowhere/pass"));
}

#[test]
fn https_or_the_profile_turns_production_rules_on() {
    let https = Sources::new("data").with("CHATD_HTTP__PUBLIC_URL", "HTTPS://chat.example.test");
    for sources in [https.clone(), Sources::new("data").with("CHATD_PROFILE", "production")] {
        let config = Config::load(&sources).unwrap();
        assert!(config.production() && config.auth.require_expiry && !config.auth.query_token);
        assert_eq!(config.notify.email.min_interval, Duration::from_secs(7_200));
        assert_eq!(config.presence.visible_to, VisibleTo::Shared);
    }
    let weak = errors(&https.clone().with("JWT_SECRET", "short"));
    assert_eq!(weak.len(), 1);
    assert!(weak[0].contains("has 5 bytes and needs 32") && !weak[0].contains("short"), "{weak:?}");
    let placeholder = errors(&https.clone().with("JWT_SECRET", "changeme-changeme-changeme-changeme"));
    assert!(placeholder[0].contains("known placeholder"));
    assert!(Config::load(&https.with("JWT_SECRET", LONG)).is_ok());
}

#[test]
fn overrides_of_production_rules_are_told() {
    let text = "profile = \"production\"\nauth = { require_expiry = false, query_token = true }\n";
    let config = Config::load(&file(text)).unwrap();
    assert!(!config.auth.require_expiry && config.auth.query_token);
    for key in ["auth.require_expiry", "auth.query_token", "http.public_url", "http.admin_bind"] {
        assert!(config.notices().iter().any(|notice| notice.contains(key)), "{key}");
    }
}

#[test]
fn service_links_of_kubernetes_are_no_typos() {
    let sources = Sources::new("data")
        .with("CHATD_PORT", "tcp://10.0.0.1:3000")
        .with("CHATD_SERVICE_HOST", "10.0.0.1")
        .with("CHATD_SERVICE_PORT_HTTP", "3000")
        .with("CHATD_PORT_3000_TCP_ADDR", "10.0.0.1");
    assert_eq!(Config::load(&sources).unwrap().http.port, 3000);
    assert_eq!(errors(&Sources::new("data").with("CHATD_PORT", "3001")).len(), 1);
}

#[test]
fn show_tells_origins_and_no_secret() {
    let sources = file("[ws]\nheartbeat = \"1s\"\n")
        .with("JWT_SECRET", "hush")
        .with("SMTP_URL", "smtp://u:hush@mail.example.test")
        .with("PORT", "3001");
    let config = Config::load(&sources).unwrap();
    let shown = config.show();
    assert!(!shown.contains("hush") && !format!("{config:?}").contains("hush"), "{shown}");
    for line in [
        "port = 3001                                   # PORT",
        "heartbeat = \"1s\"                              # chatd.toml:2:13",
        "partitions = 6                                # default",
        "jwt_secret = \"[redacted]\"                     # JWT_SECRET",
        "smtp_url = \"smtp://u:redacted@mail.example.test\" # SMTP_URL",
        "# public_url is not set",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}\n{shown}");
    }
    assert!(toml::from_str::<toml::Table>(&shown).is_ok());
}

/// The example with the `# ` before every `key = value` taken away.
fn example(uncomment: bool) -> String {
    let is_key = |line: &str| {
        line.split_once(" = ")
            .is_some_and(|(key, _)| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
    };
    let line = |line: &str| match line.strip_prefix("# ").filter(|line| uncomment && is_key(line)) {
        Some(setting) => format!("{setting}\n"),
        None => format!("{line}\n"),
    };
    include_str!("../../config/chatd.example.toml").lines().map(line).collect()
}

#[test]
fn the_example_holds_every_setting_at_its_default() {
    let values = |config: &Config| -> Vec<_> {
        config.settings().iter().map(|setting| (setting.key, setting.value.clone())).collect()
    };
    let defaults = Config::load(&Sources::new("data")).unwrap();
    for uncomment in [false, true] {
        let config = Config::load(&file(&example(uncomment))).unwrap();
        assert_eq!(values(&config), values(&defaults));
        for setting in config.settings().iter().filter(|_| uncomment) {
            let in_file = matches!(setting.origin, Origin::File { .. });
            assert_eq!(in_file, setting.value.is_some(), "{}", setting.key);
        }
    }
    for setting in defaults.settings() {
        let word = setting.key.rsplit('.').next().unwrap();
        assert!(
            example(false).contains(&format!("# {word} = "))
                || example(false).contains(&format!("#   {word} = "))
        );
    }
}
