//! `Users`: provisioning, import, the directory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

use chatd::domain::{NameKey, ProfileChange, Subject, User, UserId};
use chatd::storage::{NewUser, Saved};

use crate::storage_support::{Store, on_each_storage, user};

on_each_storage!(
    a_stranger_is_nobody,
    fifty_first_tokens_at_once_make_one_user,
    a_subject_is_unique_for_its_issuer,
    a_name_is_filled_once_and_never_replaced,
    saving_says_what_it_did_and_keeps_an_address_that_is_not_given,
    saving_is_all_or_nothing,
    adding_the_missing_leaves_the_others_alone,
    the_list_is_by_id_in_pages,
    people_are_found_by_the_beginning_of_their_names,
    whatever_gives_a_name_is_found_by_it,
    a_name_of_any_form_can_be_kept_and_found,
    who_changes_their_profile_keeps_the_rest,
);

fn external(issuer: &str, id: &str) -> Subject {
    Subject::External { issuer: issuer.into(), id: id.into() }
}

fn person(id: i64, name: &str, email: Option<&str>) -> NewUser {
    NewUser { id: user(id), name: name.into(), email: email.map(Into::into) }
}

async fn a_stranger_is_nobody(store: Store) {
    assert_eq!(store.user(&Subject::Id(user(7))).await.unwrap(), None);
    assert_eq!(store.user(&external("", "ana")).await.unwrap(), None);
    assert_eq!(store.list(0, 10).await.unwrap(), []);
}

async fn fifty_first_tokens_at_once_make_one_user(store: Store) {
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..50 {
        let store = store.clone();
        tasks.spawn(async move {
            let by_sub = store.provision(&external("https://issuer", "ana"), Some("Ana")).await.unwrap();
            let by_id = store.provision(&Subject::Id(user(42)), (n % 2 == 0).then_some("Ben")).await.unwrap();
            (by_sub.id, by_id.id)
        });
    }
    let mut ids = tasks.join_all().await;
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert!(ids[0].0.get() >= UserId::GENERATED);
    let users = store.list(0, 10).await.unwrap();
    assert_eq!(users.iter().map(|each| each.name.as_str()).collect::<Vec<_>>(), ["Ben", "Ana"]);
    assert_eq!(users[1].external_id.as_deref(), Some("ana"));
}

async fn a_subject_is_unique_for_its_issuer(store: Store) {
    let mut ids = Vec::new();
    for subject in [external("", "ana"), external("a", "ana"), external("b", "ana"), external("a", "ben")] {
        ids.push(store.provision(&subject, None).await.unwrap().id);
        assert_eq!(store.user(&subject).await.unwrap().unwrap().id, ids[ids.len() - 1]);
    }
    let first = UserId::GENERATED;
    assert_eq!(ids.iter().map(|id| id.get()).collect::<Vec<_>>(), [first, first + 1, first + 2, first + 3]);
}

async fn a_name_is_filled_once_and_never_replaced(store: Store) {
    let subject = Subject::Id(user(7));
    assert_eq!(store.provision(&subject, None).await.unwrap().name, "");
    assert_eq!(store.provision(&subject, Some("Ana")).await.unwrap().name, "Ana");
    assert_eq!(store.provision(&subject, Some("Eve")).await.unwrap().name, "Ana");
    assert_eq!(store.provision(&subject, None).await.unwrap().name, "Ana");
    let known = store.user(&subject).await.unwrap().unwrap();
    assert_eq!((known.name.as_str(), known.email, known.disabled), ("Ana", None, false));
}

async fn saving_says_what_it_did_and_keeps_an_address_that_is_not_given(store: Store) {
    let save = |each: NewUser| {
        let store = &store;
        async move { store.save(&[each]).await.unwrap()[0] }
    };
    assert_eq!(save(person(1, "Ana", None)).await, Saved::Added);
    assert_eq!(save(person(1, "Ana", None)).await, Saved::Unchanged);
    assert_eq!(save(person(1, "Ana", Some("ana@example.test"))).await, Saved::Updated);
    assert_eq!(save(person(1, "Ana", Some("ana@example.test"))).await, Saved::Unchanged);
    assert_eq!(save(person(1, "Anna", None)).await, Saved::Updated);
    let known = store.user(&Subject::Id(user(1))).await.unwrap().unwrap();
    assert_eq!((known.name.as_str(), known.email.as_deref()), ("Anna", Some("ana@example.test")));
    let twice = [person(2, "Ben", None), person(1, "Anna", None), person(2, "Benjamin", None)];
    assert_eq!(store.save(&twice).await.unwrap(), [Saved::Added, Saved::Unchanged, Saved::Updated]);
}

async fn saving_is_all_or_nothing(store: Store) {
    let too_long = format!("{}@example.test", "a".repeat(400));
    let users = [person(1, "Ana", None), person(2, "Ben", Some(&too_long))];
    assert!(matches!(store.save(&users).await, Err(chatd::storage::StorageError::Refused(_))));
    assert!(store.add_missing(&users).await.is_err());
    assert_eq!(store.list(0, 10).await.unwrap(), []);
}

async fn adding_the_missing_leaves_the_others_alone(store: Store) {
    store.save(&[person(1, "Ana", None)]).await.unwrap();
    let demo = [person(1, "Demo", Some("demo@example.test")), person(2, "Ben", Some("ben@example.test"))];
    store.add_missing(&demo).await.unwrap();
    store.add_missing(&demo).await.unwrap();
    let users = store.list(0, 10).await.unwrap();
    let seen: Vec<_> = users.iter().map(|each| (each.name.as_str(), each.email.as_deref())).collect();
    assert_eq!(seen, [("Ana", None), ("Ben", Some("ben@example.test"))]);
}

async fn the_list_is_by_id_in_pages(store: Store) {
    let users: Vec<_> = [5, 3, 9, 1].map(|id| person(id, "x", None)).to_vec();
    store.save(&users).await.unwrap();
    let ids = |after, limit| {
        let store = &store;
        async move { store.list(after, limit).await.unwrap().iter().map(|each| each.id.get()).collect::<Vec<_>>() }
    };
    assert_eq!(ids(0, 3).await, [1, 3, 5]);
    assert_eq!(ids(5, 3).await, [9]);
    assert_eq!(ids(9, 3).await, [0; 0]);
}

async fn found(store: &Store, beginning: &str) -> Vec<i64> {
    let found = store.named(&NameKey::beginning(beginning).unwrap(), 20).await.unwrap();
    found.iter().map(|each| each.id.get()).collect()
}

async fn people_are_found_by_the_beginning_of_their_names(store: Store) {
    let people =
        ["Ana", "anastasia", "ＡＮＡＢＥＬ", "Banana", "Éva", "Ｓｔｒａße 5", "李雷", "ｱﾅ", "an%_a", "Ana"];
    let people: Vec<_> = people.iter().zip(1..).map(|(name, id)| person(id, name, None)).collect();
    store.save(&people).await.unwrap();
    assert_eq!(found(&store, "ana").await, [1, 10, 3, 2], "by name, then by id");
    assert_eq!(found(&store, "ＡＮＡs").await, [2]);
    assert_eq!(found(&store, "STRASSE").await, [6]);
    assert_eq!(found(&store, "éVA").await, [5]);
    assert_eq!(found(&store, "eva").await, [0; 0], "accents count");
    assert_eq!(found(&store, "李").await, [7]);
    assert_eq!(found(&store, "ア").await, [8]);
    assert_eq!(found(&store, "an%").await, [9]);
    assert_eq!(found(&store, "___").await, [0; 0]);
    let two = store.named(&NameKey::beginning("ana").unwrap(), 2).await.unwrap();
    assert_eq!(two.len(), 2);
}

async fn whatever_gives_a_name_is_found_by_it(store: Store) {
    store.provision(&Subject::Id(user(1)), None).await.unwrap();
    store.provision(&Subject::Id(user(2)), Some("Number")).await.unwrap();
    let external = store.provision(&external("", "x"), Some("Number")).await.unwrap().id.get();
    assert_eq!(found(&store, "number").await, [2, external]);
    store.provision(&Subject::Id(user(1)), Some("NUMBERLESS")).await.unwrap();
    assert_eq!(found(&store, "number").await, [2, external, 1]);
    store.add_missing(&[person(5, "Number", None)]).await.unwrap();
    store.save(&[person(2, "Renamed", None)]).await.unwrap();
    assert_eq!(found(&store, "number").await, [5, external, 1]);
    store.save(&[person(5, "Renamed too", Some("five@example.test"))]).await.unwrap();
    assert_eq!(
        (found(&store, "number").await, found(&store, "renamed").await),
        (vec![external, 1], vec![2, 5])
    );
}

async fn a_name_of_any_form_can_be_kept_and_found(store: Store) {
    // One letter that stands for 18, 64 times, with marks.
    let longest = format!("{}{}", "\u{FDFA}".repeat(64), "\u{344}".repeat(200));
    let longest = chatd::domain::user::normalized_name(&longest).unwrap();
    store
        .save(&[person(1, &longest, None), person(2, "\u{10FFFF}\u{10FFFF}\u{10FFFF}x", None)])
        .await
        .unwrap();
    assert_eq!(found(&store, "\u{FDFA}").await, [1]);
    assert_eq!(found(&store, &longest).await, [1]);
    assert!(store.named(&NameKey::beginning("a\0b").unwrap(), 20).await.is_ok_and(|found| found.is_empty()));
}

async fn who_changes_their_profile_keeps_the_rest(store: Store) {
    store.save(&[person(1, "Ana", Some("ana@example.test"))]).await.unwrap();
    let change = |name: Option<&str>, time_zone: Option<&str>, language: Option<&str>| {
        let own = |text: Option<&str>| text.map(str::to_owned);
        let change = ProfileChange { name: own(name), time_zone: own(time_zone), language: own(language) };
        let store = &store;
        async move { store.change(user(1), &change).await.unwrap().unwrap() }
    };
    let all = |of: &User| (of.name.clone(), of.time_zone.clone(), of.language.clone(), of.email.clone());
    let expected = |name: &str, time_zone: Option<&str>, language: Option<&str>| {
        let own = |text: Option<&str>| text.map(str::to_owned);
        (name.to_owned(), own(time_zone), own(language), Some("ana@example.test".to_owned()))
    };
    assert_eq!(all(&change(None, None, None).await), expected("Ana", None, None));
    let now = change(Some("Anna"), Some("Europe/Berlin"), None).await;
    assert_eq!(all(&now), expected("Anna", Some("Europe/Berlin"), None));
    let now = change(None, None, Some("pt-BR")).await;
    assert_eq!(all(&now), expected("Anna", Some("Europe/Berlin"), Some("pt-BR")));
    assert_eq!(store.user(&Subject::Id(user(1))).await.unwrap(), Some(now));
    assert_eq!((found(&store, "anna").await, found(&store, "ana").await), (vec![1], vec![]));
    assert_eq!(store.provision(&Subject::Id(user(1)), Some("Eve")).await.unwrap().name, "Anna");
    assert_eq!(store.change(user(2), &ProfileChange::default()).await.unwrap(), None);
}
