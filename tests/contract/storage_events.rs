//! `Events`: pages of history, and the scan that repairs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

use chatd::domain::history::Kind;
use chatd::domain::{Content, Data, MessageBody, MessageId, RecordBody, Seq};
use chatd::storage::{Move, Page, Since};

use crate::storage_support::{
    Owner, Store, content_of, delete, dm, edit, id_of, message, on_each_storage, seqs, user,
};

on_each_storage!(
    a_conversation_without_events_is_empty,
    pages_run_in_both_directions_and_say_whether_there_is_more,
    an_event_is_read_as_it_was_stored,
    a_scan_is_in_offset_order_and_says_how_far_it_came,
    a_scan_sees_its_own_partition_only,
    pages_of_messages_leave_changes_out_and_count_messages,
    what_was_deleted_is_not_unread,
    records_are_looked_up_as_later_ones_are_judged_by_them,
);

async fn a_conversation_without_events_is_empty(store: Store) {
    for page in [Page::After(Seq(0)), Page::Before(Seq(9)), Page::Newest { skip: 0 }] {
        let page = store.messages(dm(1, 2), page, 10).await.unwrap();
        assert_eq!((page.rows, page.has_more), (vec![], false));
    }
    assert_eq!(store.events(dm(1, 2), Seq(0), 10).await.unwrap().rows, []);
    assert_eq!(store.last_seq(dm(1, 2)).await.unwrap(), Seq(0));
}

async fn pages_run_in_both_directions_and_say_whether_there_is_more(store: Store) {
    let mut owner = Owner::new(&store, 1).await;
    for n in 1..=5 {
        owner.say(1, 2, &format!("text {n}")).await;
        owner.say(1, 3, "elsewhere").await;
    }
    for (page, limit, expected, more) in [
        (Page::After(Seq(0)), 5, vec![1, 2, 3, 4, 5], false),
        (Page::After(Seq(0)), 4, vec![1, 2, 3, 4], true),
        (Page::After(Seq(3)), 9, vec![4, 5], false),
        (Page::After(Seq(5)), 9, vec![], false),
        (Page::Before(Seq(6)), 2, vec![5, 4], true),
        (Page::Before(Seq(3)), 2, vec![2, 1], false),
        (Page::Before(Seq(1)), 2, vec![], false),
        (Page::Newest { skip: 0 }, 2, vec![5, 4], true),
        (Page::Newest { skip: 3 }, 2, vec![2, 1], false),
        (Page::Newest { skip: 4 }, 2, vec![1], false),
        (Page::Newest { skip: 9 }, 2, vec![], false),
    ] {
        let found = store.messages(dm(1, 2), page, limit).await.unwrap();
        assert_eq!((seqs(&found.rows), found.has_more), (expected, more), "{page:?}, {limit}");
        if let Page::After(seq) = page {
            assert_eq!(store.events(dm(1, 2), seq, limit).await.unwrap(), found, "where all are messages");
        }
    }
}

async fn an_event_is_read_as_it_was_stored(store: Store) {
    let mut owner = Owner::new(&store, 6).await;
    let first = message(1, 2, "a.B_c-9:x", "Grüße \"you\" 👋\n' --", 1_700_000_000_120);
    let mut second = message(2, 1, "b", "x", 1_700_000_000_121);
    let raw = serde_json::value::RawValue::from_string(r#"{"a": 1.50, "b":"ü"}"#.to_owned()).unwrap();
    second.body = RecordBody::Message(MessageBody {
        content: Content::new("y".repeat(16_384)).unwrap(),
        data: Some(Data::new(raw).unwrap()),
        reply_to: Some(first.id),
    });
    owner.apply_records(vec![first.clone(), second.clone()]).await;
    let rows = store.events(dm(1, 2), Seq(0), 10).await.unwrap().rows;
    assert_eq!(rows.len(), 2);
    let partition = owner.partition(dm(1, 2));
    for (offset, (event, record)) in (0..).zip(rows.iter().zip([first, second])) {
        assert_eq!(event.position, owner.at(partition, offset));
        assert_eq!(event.conversation, record.conversation);
        assert_eq!((event.id, &event.client_id, event.from), (record.id, &record.client_id, record.from));
        assert_eq!((event.at, &event.body), (record.at, &record.body.clone().into()));
    }
}

async fn a_scan_is_in_offset_order_and_says_how_far_it_came(store: Store) {
    let mut owner = Owner::new(&store, 1).await;
    for n in 0..4 {
        owner.say(1, 2 + n % 2, &format!("text {n}")).await;
    }
    // Offset 4 is a reuse, offset 5 a retry: nothing to tell.
    owner
        .apply_records(vec![message(1, 2, "said-1", "other", 9), message(1, 2, "said-1", "text 0", 9)])
        .await;
    let scan = |after, limit| {
        let store = &store;
        async move {
            let scanned = store.scan(owner.log, 0, after, limit).await.unwrap();
            let offsets =
                scanned.outcomes.iter().map(|outcome| outcome.position().offset).collect::<Vec<_>>();
            (offsets, scanned.through)
        }
    };
    assert_eq!(scan(-1, 10).await, (vec![0, 1, 2, 3, 4], 5));
    assert_eq!(scan(-1, 5).await, (vec![0, 1, 2, 3, 4], 5));
    assert_eq!(scan(-1, 4).await, (vec![0, 1, 2, 3], 3));
    assert_eq!(scan(1, 2).await, (vec![2, 3], 3));
    assert_eq!(scan(3, 2).await, (vec![4], 5));
    assert_eq!(scan(5, 2).await, (vec![], 5));
}

async fn a_scan_sees_its_own_partition_only(store: Store) {
    let mut owner = Owner::new(&store, 6).await;
    // Partitions 2 and 4, see the protocol's vectors.
    owner.say(2, 3, "here").await;
    owner.say(1001, 1002, "there").await;
    let scanned = store.scan(owner.log, owner.partition(dm(2, 3)), -1, 10).await.unwrap();
    let chatd::domain::Outcome::Stored(event) = &scanned.outcomes[0] else { panic!() };
    assert_eq!((scanned.outcomes.len(), content_of(event)), (1, "here"));
}

async fn pages_of_messages_leave_changes_out_and_count_messages(store: Store) {
    let mut owner = Owner::new(&store, 1).await;
    let mut records = Vec::new();
    for n in 1..=5 {
        records.push(message(1, 2, &format!("m{n}"), &format!("text {n}"), 1));
        records.push(edit(1, 2, &format!("e{n}"), id_of(1, 2, &format!("m{n}")), &format!("edited {n}")));
    }
    records.push(delete(1, 2, "d", id_of(1, 2, "m3")));
    owner.apply_records(records).await;
    // Messages have the seqs 1, 3, 5, 7, 9; 2, 4, 6, 8, 10 and 11 are changes.
    for (page, limit, expected, more) in [
        (Page::After(Seq(0)), 5, vec![1, 3, 5, 7, 9], false),
        (Page::After(Seq(2)), 2, vec![3, 5], true),
        (Page::After(Seq(9)), 2, vec![], false),
        (Page::Before(Seq(8)), 2, vec![7, 5], true),
        (Page::Before(Seq(2)), 2, vec![1], false),
        (Page::Newest { skip: 0 }, 2, vec![9, 7], true),
        (Page::Newest { skip: 1 }, 2, vec![7, 5], true),
        (Page::Newest { skip: 3 }, 2, vec![3, 1], false),
        (Page::Newest { skip: 5 }, 2, vec![], false),
    ] {
        let found = store.messages(dm(1, 2), page, limit).await.unwrap();
        assert_eq!((seqs(&found.rows), found.has_more), (expected, more), "{page:?}, {limit}");
    }
    let all = store.events(dm(1, 2), Seq(1), 3).await.unwrap();
    assert_eq!((seqs(&all.rows), all.has_more), (vec![2, 3, 4], true));
}

async fn what_was_deleted_is_not_unread(store: Store) {
    let mut owner = Owner::new(&store, 1).await;
    for n in 1..=3 {
        owner.apply_records(vec![message(1, 2, &format!("m{n}"), "x", 1)]).await;
    }
    let unread = async |owner: &Owner| {
        let until = owner.frontier().await;
        store.missed(user(2), &Since::Beginning, &until, None, 10).await.unwrap()[0].unread
    };
    assert_eq!(unread(&owner).await, 3);
    owner.apply_records(vec![edit(1, 2, "e", id_of(1, 2, "m3"), "y")]).await;
    assert_eq!(unread(&owner).await, 3, "an edit is no message");
    owner.apply_records(vec![delete(1, 2, "d", id_of(1, 2, "m2"))]).await;
    assert_eq!(unread(&owner).await, 2);
    let seq = Seq(1);
    let each =
        Move { conversation: dm(1, 2), user: user(2), delivered_from: seq, delivered_to: seq, read: seq };
    store.advance(&[each]).await.unwrap();
    assert_eq!(unread(&owner).await, 1);
}

async fn records_are_looked_up_as_later_ones_are_judged_by_them(store: Store) {
    let mut owner = Owner::new(&store, 1).await;
    let (a, b, e, d) = (id_of(1, 2, "a"), id_of(1, 2, "b"), id_of(1, 2, "e"), id_of(1, 2, "d"));
    let records = [
        message(1, 2, "a", "first", 5),
        message(1, 2, "b", "other", 6),
        edit(1, 2, "e", a, "second"),
        delete(1, 2, "d", b),
    ];
    owner.apply_records(records.to_vec()).await;
    let ids = [a, b, e, d, id_of(1, 2, "never")];
    let found = store.stored(dm(1, 2), &ids).await.unwrap();
    let told = |id: MessageId| found.get(&id).map(|stored| (stored.from, stored.at.0, stored.kind));
    assert_eq!(told(a), Some((user(1), 5, Kind::Message)));
    assert_eq!(told(b), Some((user(1), 6, Kind::Tombstone)));
    assert_eq!((told(e), told(d)), (Some((user(1), 6, Kind::Change)), Some((user(1), 6, Kind::Change))));
    assert_eq!(found.len(), 4);
    for (id, record) in [a, b, e, d].into_iter().zip(&records) {
        assert!(found[&id].asked.is_for(&record.body), "{record:?}");
        assert!(!found[&id].asked.is_for(&message(1, 2, "x", "something else", 1).body), "{record:?}");
    }
    assert!(store.stored(dm(1, 3), &ids).await.unwrap().is_empty(), "another conversation");
}
