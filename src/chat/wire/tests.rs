//! What senders get told about each field.

use super::*;

fn read(text: &str) -> Result<Send, Error> {
    parse::<SendBody<'_>>(text, DEPTH_MAX)?.into_send()
}

fn refused(text: &str) -> (&'static str, Option<&'static str>) {
    let error = read(text).unwrap_err();
    (error.code.as_str(), error.field)
}

#[test]
fn a_message_names_its_recipient_in_three_ways() {
    let send =
        read(r#"{"type":"send","to":3,"content":"Hi","client_id":"c1","data":null,"new":[1]}"#).unwrap();
    assert_eq!(send.target, Target::User(UserId::new(3).unwrap()));
    assert_eq!(send.client_id.unwrap().as_str(), "c1");
    assert_eq!((send.body.content.as_str(), send.body.data), ("Hi", None));
    let send = read(r#"{"to":{"external_id":"ana"},"content":"\u00e4"}"#).unwrap();
    assert_eq!(send.target, Target::External("ana".into()));
    assert_eq!(send.body.content.as_str(), "ä");
    let send = read(
        r#" {"conversation":"dm-1-2","content":"x","data":{"a":[{}]},
        "reply_to":"1ba04d0a-f5b1-834e-870a-1336a013b369"}"#,
    );
    let send = send.unwrap();
    assert_eq!(send.target, Target::Conversation("dm-1-2".parse().unwrap()));
    assert_eq!(send.body.data.unwrap().as_str(), r#"{"a":[{}]}"#);
    assert!(send.body.reply_to.is_some());
}

#[test]
fn the_field_at_fault_is_named() {
    for to in ["\"3\"", "3.0", "0", "-1", "9007199254740992", "true", "[3]", r#"{"external_id":3}"#, "{}"] {
        assert_eq!(refused(&format!(r#"{{"to":{to},"content":"x"}}"#)), ("invalid", Some("to")), "{to}");
    }
    let long = "x".repeat(256);
    for id in ["", "a\\u0000", long.as_str()] {
        let text = format!(r#"{{"to":{{"external_id":"{id}"}},"content":"x"}}"#);
        assert_eq!(refused(&text), ("invalid", Some("to")));
    }
    assert_eq!(refused(r#"{"content":"x"}"#), ("invalid", Some("to")));
    assert_eq!(refused(r#"{"to":3,"conversation":"dm-1-3","content":"x"}"#), ("invalid", Some("to")));
    for (name, value) in [
        ("conversation", "7"),
        ("conversation", "\"dm-2-1\""),
        ("client_id", "1"),
        ("client_id", "\"a b\""),
        ("client_id", "\"\""),
        ("content", "1"),
        ("content", "\" \""),
        ("content", "\"\\ud800\""),
        ("content", "null"),
        ("data", "[]"),
        ("data", "\"{}\""),
        ("data", r#"{"a":"\ud800"}"#),
        ("data", r#"{"a":1e999}"#),
        ("reply_to", "1"),
        ("reply_to", "\"x\""),
    ] {
        let target = if name == "conversation" { "" } else { r#""to":3,"# };
        let content = if name == "content" { "" } else { r#","content":"x""# };
        let text = format!(r#"{{{target}"{name}":{value}{content}}}"#);
        assert_eq!(refused(&text), ("invalid", Some(name)), "{text}");
    }
    assert_eq!(refused(r#"{"to":3}"#), ("invalid", Some("content")));
    let long = format!(r#"{{"to":3,"content":"{}"}}"#, "x".repeat(65_537));
    assert_eq!(refused(&long), ("too_large", Some("content")));
}

#[test]
fn a_text_that_is_no_object_says_so() {
    for text in ["", "{", "hello", "{\"to\":3,}", "{\"to\":3} x", "[", "{'to':3}", "{\"to\":\"\u{1}\"}"] {
        assert_eq!(refused(text), ("bad_json", None), "{text:?}");
    }
    for text in ["3", "null", "[]", "[null,3,null,\"x\",null,null]", "\"x\"", r#"{"to":3,"to":4}"#] {
        assert_eq!(refused(text), ("invalid", None), "{text:?}");
    }
}

#[test]
fn depth_is_bounded_before_anything_is_parsed() {
    let nested = |depth: usize| format!(r#"{{"x":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    assert_eq!(refused(&nested(31)), ("invalid", Some("to")));
    assert_eq!(refused(&nested(32)), ("bad_json", None));
    assert_eq!(refused(&nested(30_000)), ("bad_json", None));
    let brackets = format!(r#"{{"to":3,"content":"\"{}\\"}}"#, "[".repeat(100));
    assert!(read(&brackets).is_ok(), "brackets in a string are text");
    assert!(read(r#"{"to":3,"content":"x","a":[],"b":[[]],"c":{}}"#).is_ok());
}

#[test]
fn an_error_about_another_field_still_names_the_message() {
    let body: SendBody<'_> = parse(r#"{"to":"3","client_id":"c1","content":"x"}"#, DEPTH_MAX).unwrap();
    assert_eq!(body.client_id().unwrap().unwrap().as_str(), "c1");
    assert!(body.into_send().is_err());
}

#[test]
fn accepted_leaves_out_what_is_not_there() {
    let mut answer = Accepted {
        client_id: ClientId::new("c1").unwrap(),
        id: MessageId(uuid::uuid!("1ba04d0a-f5b1-834e-870a-1336a013b369")),
        conversation: "dm-2-3".parse().unwrap(),
        at: Timestamp(0),
        seq: None,
    };
    let expected = r#"{"type":"accepted","client_id":"c1","id":"1ba04d0a-f5b1-834e-870a-1336a013b369","conversation":"dm-2-3","at":"1970-01-01T00:00:00.000Z"}"#;
    assert_eq!(accepted(&answer, None), expected);
    answer.seq = Some(Seq(7));
    let frame = accepted(&answer, Some("r\"1"));
    assert!(frame.starts_with(br#"{"type":"accepted","ref":"r\"1","client_id":"#));
    assert!(frame.ends_with(br#","seq":7}"#));
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text: String, tail in r#"[\[\]{}":,0-9a-z\\]{0,60}"#) {
        let _ = read(&text);
        let _ = read(&format!("{{\"content\":{tail}"));
    }
}
