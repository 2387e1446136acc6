//! What a frame of the server may look like: the tables of protocol.md section 3, each field with its form.

use serde_json::{Map, Value};

/// The form of a value.
#[derive(Debug, Clone, Copy)]
enum Form {
    Text,
    /// Null where it was deleted.
    TextOrNull,
    /// Up to 64 characters, the client's own.
    Ref,
    Number,
    /// A seq from 1 on.
    Seq,
    Time,
    Uuid,
    Conversation,
    Object,
    Flag,
    /// One of these.
    OneOf(&'static [&'static str]),
    /// A close code that is announced.
    CloseCode,
    User,
    Limits,
    Changed,
    Watched,
    /// A time, or null.
    LastSeen,
}

use Form::*;

/// Codes of `error` and `rejected`; those of REST only are not among them.
const CODES: &[&str] = &[
    "bad_json",
    "unauthorized",
    "forbidden",
    "not_found",
    "unknown_recipient",
    "client_id_reused",
    "too_large",
    "invalid",
    "conflict",
    "rate_limited",
    "unavailable",
    "overloaded",
    "unknown_type",
];

/// A field and its form; a name that ends in `?` may be absent.
type Field = (&'static str, Form);

const FRAMES: &[(&str, &[Field])] = &[
    (
        "hello",
        &[
            ("user", User),
            ("session", Text),
            ("node", Text),
            ("heartbeat_ms", Number),
            ("limits", Limits),
            ("server_time", Time),
        ],
    ),
    (
        "accepted",
        &[
            ("client_id", Text),
            ("id", Uuid),
            ("conversation", Conversation),
            ("at", Time),
            ("seq?", Seq),
            ("ref?", Ref),
        ],
    ),
    (
        "rejected",
        &[("conversation", Conversation), ("id", Uuid), ("client_id", Text), ("code", OneOf(CODES))],
    ),
    (
        "message",
        &[
            ("conversation", Conversation),
            ("seq", Seq),
            ("id", Uuid),
            ("from", Number),
            ("to", Number),
            ("content", TextOrNull),
            ("data?", Object),
            ("reply_to?", Uuid),
            ("client_id?", Text),
            ("at", Time),
        ],
    ),
    (
        "edited",
        &[
            ("conversation", Conversation),
            ("seq", Seq),
            ("id", Uuid),
            ("content", TextOrNull),
            ("by", Number),
            ("at", Time),
        ],
    ),
    ("deleted", &[("conversation", Conversation), ("seq", Seq), ("id", Uuid), ("by", Number), ("at", Time)]),
    ("receipt", &[("conversation", Conversation), ("user", Number), ("delivered", Number), ("read", Number)]),
    ("presence", &[("users", Watched), ("ref?", Ref)]),
    ("typing", &[("conversation", Conversation), ("user", Number), ("active", Flag)]),
    ("gap", &[("conversation", Conversation), ("from", Seq), ("to", Seq)]),
    ("resumed", &[("cursor", Text), ("conversations", Changed), ("ref?", Ref)]),
    ("cursor", &[("cursor", Text)]),
    (
        "error",
        &[
            ("code", OneOf(CODES)),
            ("message", Text),
            ("field?", Text),
            ("ref?", Ref),
            ("client_id?", Text),
            ("retry_after_ms?", Number),
        ],
    ),
    ("closing", &[("code", CloseCode), ("reason", Text), ("reconnect_after_ms?", Number)]),
    ("pong", &[("server_time", Time), ("cursor?", Text), ("ref?", Ref)]),
    ("authenticated", &[("expires_at?", Time), ("ref?", Ref)]),
];

const USER: &[Field] = &[("id", Number), ("external_id?", Text), ("name", Text)];
const LIMITS: &[Field] = &[("message_bytes", Number), ("content_bytes", Number), ("data_bytes", Number)];
const WATCHED: &[Field] =
    &[("user", Number), ("status", OneOf(&["online", "offline"])), ("last_seen", LastSeen)];
const CHANGED: &[Field] = &[("conversation", Conversation), ("last_seq", Seq), ("unread", Number)];

/// What is wrong with a frame, if anything.
pub fn fault(frame: &Value) -> Option<String> {
    let Some(object) = frame.as_object() else { return Some("no object".into()) };
    let kind = object.get("type").and_then(Value::as_str).unwrap_or_default();
    let Some((_, fields)) = FRAMES.iter().find(|(name, _)| *name == kind) else {
        return Some(format!("no frame of protocol.md is of type `{kind}`"));
    };
    let mut rest = object.clone();
    rest.remove("type");
    fields_fault(rest, fields)
}

fn fields_fault(mut object: Map<String, Value>, fields: &[Field]) -> Option<String> {
    for (name, form) in fields {
        let (name, optional) = name.strip_suffix('?').map_or((*name, false), |name| (name, true));
        match object.remove(name) {
            None if optional => {}
            None => return Some(format!("`{name}` is missing")),
            Some(value) if has_form(&value, *form) => {}
            Some(value) => return Some(format!("`{name}` is {value}, not {form:?}")),
        }
    }
    object.keys().next().map(|name| format!("`{name}` is not in protocol.md"))
}

fn has_form(value: &Value, form: Form) -> bool {
    let text = value.as_str();
    let good = |value: &Value, fields| {
        value.as_object().is_some_and(|object| fields_fault(object.clone(), fields).is_none())
    };
    match form {
        Text => text.is_some(),
        TextOrNull => text.is_some() || value.is_null(),
        Ref => text.is_some_and(|text| text.chars().count() <= 64),
        Number => value.as_i64().is_some_and(|number| number >= 0),
        Seq => value.as_i64().is_some_and(|number| number >= 1),
        // RFC 3339 UTC with milliseconds.
        Time => text.is_some_and(|text| {
            text.len() == 24 && text.ends_with('Z') && text.parse::<jiff::Timestamp>().is_ok()
        }),
        Uuid => text.is_some_and(|text| uuid::Uuid::parse_str(text).is_ok_and(|id| id.to_string() == text)),
        Conversation => text.is_some_and(|text| text.parse::<chatd::domain::ConversationId>().is_ok()),
        Object => value.is_object(),
        Flag => value.is_boolean(),
        OneOf(names) => text.is_some_and(|text| names.contains(&text)),
        CloseCode => value.as_i64().is_some_and(|code| matches!(code, 1001 | 1011 | 4400..=4499)),
        User => good(value, USER),
        Limits => good(value, LIMITS),
        Watched => value.as_array().is_some_and(|all| all.iter().all(|one| good(one, WATCHED))),
        LastSeen => value.is_null() || has_form(value, Time),
        Changed => value.as_array().is_some_and(|all| all.iter().all(|one| good(one, CHANGED))),
    }
}

#[test]
fn the_checker_finds_what_protocol_md_does_not_have() {
    let good = serde_json::json!({
        "type": "message", "conversation": "dm-1-2", "seq": 1, "id": "1ba04d0a-f5b1-834e-870a-1336a013b369",
        "from": 1, "to": 2, "content": "x", "at": "2026-01-01T00:00:00.000Z",
    });
    assert_eq!(fault(&good), None);
    for (name, wrong) in [
        ("type", "massage".into()),
        ("seq", 0.into()),
        ("seq", "1".into()),
        ("id", "1BA04D0A-F5B1-834E-870A-1336A013B369".into()),
        ("at", "2026-01-01T00:00:00Z".into()),
        ("conversation", "dm-2-1".into()),
        ("content", 7.into()),
        ("data", Value::Null),
        ("colour", "red".into()),
    ] {
        let mut bad = good.clone();
        bad[name] = wrong;
        assert!(fault(&bad).is_some(), "{bad}");
    }
    let mut bad = good;
    bad.as_object_mut().unwrap().remove("to");
    assert_eq!(fault(&bad).as_deref(), Some("`to` is missing"));
}
