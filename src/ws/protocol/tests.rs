//! What each frame of a client is taken for, and what is told about a wrong one.

use serde_json::Value;

use super::*;
use crate::chat::change::Change;
use crate::chat::send::{Send, Target};
use crate::domain::MessageId;

/// A frame's refusal: code, field, ref and client_id, all as the answer shows them.
fn refused(text: &str) -> (String, Value, Value, Value) {
    let refusal = parse(text).err().unwrap_or_else(|| panic!("taken: {text}"));
    let frame = error(&refusal.error, &refusal.mark, refusal.client_id.as_ref());
    let mut frame: Value = serde_json::from_slice(&frame).unwrap();
    assert_eq!(frame["type"], "error");
    assert!(frame["message"].as_str().is_some_and(|message| !message.is_empty()));
    let code = frame["code"].as_str().unwrap().to_owned();
    (code, frame["field"].take(), frame["ref"].take(), frame["client_id"].take())
}

fn taken(text: &str) -> Said {
    parse(text).unwrap_or_else(|refusal| panic!("{}: {text}", refusal.error)).1
}

fn sent(text: &str) -> Send {
    match taken(text) {
        Said::Command(command) => match *command {
            Command::Send(send) => send,
            Command::Change(_) => panic!("a change: {text}"),
        },
        other => panic!("{other:?}: {text}"),
    }
}

fn changed(text: &str) -> Change {
    match taken(text) {
        Said::Command(command) => match *command {
            Command::Change(change) => change,
            Command::Send(_) => panic!("a message: {text}"),
        },
        other => panic!("{other:?}: {text}"),
    }
}

#[test]
fn an_edit_and_a_deletion_name_a_message() {
    let id = r#""conversation":"dm-1-2","id":"1ba04d0a-f5b1-834e-870a-1336a013b369""#;
    let edit = changed(&format!(r#"{{"type":"edit",{id},"content":"Hi","client_id":"c1","data":{{}}}}"#));
    assert_eq!(edit.conversation, "dm-1-2".parse().unwrap());
    assert_eq!(edit.target, MessageId(uuid::uuid!("1ba04d0a-f5b1-834e-870a-1336a013b369")));
    assert_eq!(edit.content.as_ref().map(|content| content.as_str()), Some("Hi"));
    assert_eq!(edit.client_id, Some(ClientId::new("c1").unwrap()));
    let delete = changed(&format!(r#"{{"type":"delete",{id},"content":"what is no deletion's"}}"#));
    assert_eq!((delete.target, delete.client_id), (edit.target, None));
    assert!(delete.content.is_none());
}

#[test]
fn every_frame_of_protocol_md_is_understood_whatever_else_it_holds() {
    let send = sent(r#"{"type":"send","to":3,"content":"x","client_id":"c1","later":[1]}"#);
    let three = UserId::new(3).unwrap();
    assert_eq!((send.target, send.client_id), (Target::User(three), Some(ClientId::new("c1").unwrap())));
    let send = sent(r#"{"content":"x","to":{"external_id":"ana"},"type":"send"}"#);
    assert_eq!((send.target, send.client_id), (Target::External("ana".into()), None));
    let whole = r#"{"type":"send","conversation":"dm-1-2","content":"x","data":{"a":1},
        "reply_to":"1ba04d0a-f5b1-834e-870a-1336a013b369"}"#;
    let send = sent(whole);
    assert_eq!(send.body.data.as_ref().map(|data| data.as_str()), Some(r#"{"a":1}"#));
    assert!(send.body.reply_to.is_some());
    let dm = "dm-1-2".parse().unwrap();
    let received = taken(r#"{"type":"received","conversation":"dm-1-2","seq":7}"#);
    assert!(matches!(received, Said::Received(conversation, Seq(7)) if conversation == dm));
    let read = taken(r#"{"type":"read","conversation":"dm-1-2","seq":7}"#);
    assert!(matches!(read, Said::Read(conversation, Seq(7)) if conversation == dm));
    assert!(matches!(taken(r#"{"type":"resume"}"#), Said::Resume(None)));
    assert!(matches!(taken(r#"{"type":"resume","cursor":null}"#), Said::Resume(None)));
    let cursor = taken(r#"{"type":"resume","cursor":"any text"}"#);
    assert!(matches!(cursor, Said::Resume(Some(text)) if text == "any text"), "judged later");
    let auth = taken(r#"{"type":"auth","token":"a.b.c"}"#);
    assert!(matches!(auth, Said::Auth(token) if token.expose() == "a.b.c"));
    assert!(matches!(taken(" {\"type\" : \"ping\"}\n"), Said::Ping));
}

#[test]
fn a_missing_or_wrong_field_is_named() {
    const ID: &str = r#""conversation":"dm-1-2","id":"1ba04d0a-f5b1-834e-870a-1336a013b369""#;
    let table: &[(&str, &str, &str)] = &[
        (r#"{}"#, "invalid", "type"),
        (r#"{"type":null}"#, "invalid", "type"),
        (r#"{"type":1}"#, "invalid", "type"),
        (r#"{"type":"send","content":"x"}"#, "invalid", "to"),
        (r#"{"type":"send","to":"3","content":"x"}"#, "invalid", "to"),
        (r#"{"type":"send","to":0,"content":"x"}"#, "invalid", "to"),
        (r#"{"type":"send","to":1.5,"content":"x"}"#, "invalid", "to"),
        (r#"{"type":"send","to":9007199254740992,"content":"x"}"#, "invalid", "to"),
        (r#"{"type":"send","to":{"external_id":""},"content":"x"}"#, "invalid", "to"),
        (r#"{"type":"send","to":{"external_id":7},"content":"x"}"#, "invalid", "to"),
        (r#"{"type":"send","to":[3],"content":"x"}"#, "invalid", "to"),
        (r#"{"type":"send","to":3,"conversation":"dm-1-2","content":"x"}"#, "invalid", "to"),
        (r#"{"type":"send","conversation":"dm-2-1","content":"x"}"#, "invalid", "conversation"),
        (r#"{"type":"send","conversation":3,"content":"x"}"#, "invalid", "conversation"),
        (r#"{"type":"send","to":3}"#, "invalid", "content"),
        (r#"{"type":"send","to":3,"content":7}"#, "invalid", "content"),
        (r#"{"type":"send","to":3,"content":""}"#, "invalid", "content"),
        (r#"{"type":"send","to":3,"content":" \u200b "}"#, "invalid", "content"),
        (r#"{"type":"send","to":3,"content":"a\u0000"}"#, "invalid", "content"),
        (r#"{"type":"send","to":3,"content":"\ud800"}"#, "invalid", "content"),
        (r#"{"type":"send","to":3,"content":"x","data":[1]}"#, "invalid", "data"),
        (r#"{"type":"send","to":3,"content":"x","data":{"a":1e999}}"#, "invalid", "data"),
        (r#"{"type":"send","to":3,"content":"x","reply_to":"c1"}"#, "invalid", "reply_to"),
        (r#"{"type":"send","to":3,"content":"x","client_id":"a b"}"#, "invalid", "client_id"),
        (r#"{"type":"send","to":3,"content":"x","client_id":""}"#, "invalid", "client_id"),
        (r#"{"type":"send","to":3,"content":"x","client_id":7}"#, "invalid", "client_id"),
        (r#"{"type":"edit","id":"x","content":"x"}"#, "invalid", "conversation"),
        (r#"{"type":"edit","conversation":"dm-1-2","content":"x"}"#, "invalid", "id"),
        (r#"{"type":"edit","conversation":"dm-1-2","id":"c1","content":"x"}"#, "invalid", "id"),
        (r#"{"type":"edit","conversation":"dm-1-2","id":7,"content":"x"}"#, "invalid", "id"),
        (&format!(r#"{{"type":"edit",{ID}}}"#), "invalid", "content"),
        (&format!(r#"{{"type":"edit",{ID},"content":null}}"#), "invalid", "content"),
        (&format!(r#"{{"type":"edit",{ID},"content":" "}}"#), "invalid", "content"),
        (&format!(r#"{{"type":"edit",{ID},"content":"x","client_id":""}}"#), "invalid", "client_id"),
        (r#"{"type":"delete","conversation":"dm-1-2"}"#, "invalid", "id"),
        (r#"{"type":"delete","conversation":"dm-2-1","id":"x"}"#, "invalid", "conversation"),
        (r#"{"type":"received","seq":1}"#, "invalid", "conversation"),
        (r#"{"type":"received","conversation":"dm-1-1","seq":1}"#, "invalid", "conversation"),
        (r#"{"type":"received","conversation":"dm-1-2"}"#, "invalid", "seq"),
        (r#"{"type":"read","conversation":"dm-1-2","seq":"1"}"#, "invalid", "seq"),
        (r#"{"type":"read","conversation":"dm-1-2","seq":1.0}"#, "invalid", "seq"),
        (r#"{"type":"read","conversation":"DM-1-2","seq":1}"#, "invalid", "conversation"),
        (r#"{"type":"resume","cursor":7}"#, "invalid", "cursor"),
        (r#"{"type":"auth"}"#, "invalid", "token"),
        (r#"{"type":"auth","token":{}}"#, "invalid", "token"),
    ];
    for (text, code, field) in table {
        let (found, named, ..) = refused(text);
        assert_eq!((found.as_str(), &named), (*code, &Value::from(*field)), "{text}");
    }
}

#[test]
fn what_is_no_json_and_what_is_no_object_are_told_apart() {
    let deep = |levels: usize| {
        let (open, shut) = ("[".repeat(levels), "]".repeat(levels));
        format!(r#"{{"type":"ping","x":{open}{shut}}}"#)
    };
    for text in ["", " ", "{", "hello", r#"{"type":"ping"} {}"#, r#"{"type":'ping'}"#, "{\"a\":\"\n\"}"] {
        assert_eq!(refused(text).0, "bad_json", "{text}");
    }
    assert!(matches!(taken(&deep(31)), Said::Ping));
    assert_eq!(refused(&deep(32)).0, "bad_json", "33 levels");
    for text in ["[]", "7", "null", r#""ping""#, r#"{"type":"ping","type":"ping"}"#] {
        assert_eq!(refused(text).0, "invalid", "{text}");
    }
}

#[test]
fn an_unknown_type_is_told_so_with_its_ref() {
    for kind in ["", "PING", "edit ", "message", "hello"] {
        let text = format!(r#"{{"type":"{kind}","ref":"r"}}"#);
        assert_eq!(refused(&text), ("unknown_type".into(), Value::Null, "r".into(), Value::Null), "{kind}");
    }
}

#[test]
fn a_ref_of_64_characters_comes_back_and_a_longer_one_is_invalid() {
    let with = |mark: &str| format!(r#"{{"type":"dance","ref":"{mark}"}}"#);
    let longest = "ä".repeat(64);
    assert_eq!(refused(&with(&longest)).2, Value::from(longest));
    let (code, field, mark, _) = refused(&with(&"a".repeat(65)));
    assert_eq!((code.as_str(), field, mark), ("invalid", "ref".into(), Value::Null));
    for wrong in ["7", "{}", "true"] {
        let (code, field, ..) = refused(&format!(r#"{{"type":"ping","ref":{wrong}}}"#));
        assert_eq!((code.as_str(), field), ("invalid", "ref".into()), "{wrong}");
    }
    let (mark, _) = parse(r#"{"type":"ping","ref":null}"#).unwrap();
    assert_eq!(mark, None);
}

#[test]
fn a_refused_message_is_known_by_its_ref_and_client_id() {
    let text = r#"{"type":"send","to":"3","client_id":"c1","ref":"r","content":"x"}"#;
    assert_eq!(refused(text), ("invalid".into(), "to".into(), "r".into(), "c1".into()));
    let text = r#"{"type":"delete","conversation":"dm-1-2","client_id":"c1","ref":"r"}"#;
    assert_eq!(refused(text), ("invalid".into(), "id".into(), "r".into(), "c1".into()));
    let text = r#"{"type":"send","to":3,"client_id":"not one","ref":"r","content":"x"}"#;
    assert_eq!(refused(text), ("invalid".into(), "client_id".into(), "r".into(), Value::Null));
}

#[test]
fn what_may_be_tried_again_says_when() {
    let after = |code| {
        let frame = error(&Error::new(code, "x"), &None, None);
        serde_json::from_slice::<Value>(&frame).unwrap()["retry_after_ms"].take()
    };
    assert_eq!(after(ErrorCode::Unavailable), 1_000);
    assert_eq!(after(ErrorCode::Overloaded), 1_000);
    assert_eq!(after(ErrorCode::Invalid), Value::Null);
}

proptest::proptest! {
    #[test]
    fn nothing_that_arrives_makes_it_panic(text: String, kind in "send|edit|delete|received|read|resume|auth|ping") {
        let _ = parse(&text);
        let _ = parse(&format!(r#"{{"type":"{kind}",{text}}}"#));
    }
}
