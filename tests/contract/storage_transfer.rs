//! A history on its way from SQLite into PostgreSQL: all of it arrives or nothing does, and it goes on there as it
//! would have gone on here.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chatd::chat::transfer::{Copied, TransferError, transfer};
use chatd::domain::{
    Audience, Frontier, LogNumber, NameKey, Outcome, ProfileChange, Seq, Subject, Timestamp,
};
use chatd::pipeline::LogIdentity;
use chatd::storage::postgres::PostgresImport;
use chatd::storage::sqlite::{SqliteExport, SqliteSettings, SqliteStore};
use chatd::storage::transfer::{Import, Table};
use chatd::storage::{DeadLetter, DuePolicy, Missed, Move, NewUser, Settlement, Since};
use diesel::Connection;
use diesel::prelude::*;
use diesel::sql_types::Text;
use tempfile::TempDir;
use uuid::Uuid;

use crate::postgres_schema::Schema;
use crate::storage_support::{
    Owner, Store, delete, dm, edit, history, id_of, message, postgres_on, seqs, user,
};

const PARTITIONS: u32 = 6;
const HOUR: Duration = Duration::from_secs(3_600);

/// An embedded storage with one of everything in it.
struct Old {
    store: Store,
    path: PathBuf,
    /// A cursor from the middle of the history.
    then: Frontier,
    /// Everything.
    all: Frontier,
}

impl Old {
    async fn new() -> Self {
        let (store, path) = sqlite().await;
        let mut owner = Owner::new(&store, PARTITIONS).await;
        people(&store).await;
        for n in 1..=700 {
            owner.say(1, 2, &format!("früher {n} 🙂")).await;
        }
        owner.say(3, 1, "read").await;
        let read = |who, conversation, to, read| {
            let (delivered_to, read) = (Seq(to), Seq(read));
            Move { conversation, user: user(who), delivered_from: Seq(1), delivered_to, read }
        };
        store.advance(&[read(2, dm(1, 2), 650, 600), read(1, dm(1, 3), 1, 1)]).await.unwrap();
        let then = owner.frontier().await;
        for n in 1..=20 {
            owner.say(2, 1, &format!("spaeter {n}")).await;
        }
        store.name_gaps(user(1), &[(dm(1, 2), Seq(715))]).await.unwrap();
        // A retry with other content, and a value that is no record.
        let said = owner.say(4, 5, "first").await;
        let reused = message(4, 5, said.client_id.as_str(), "second", 9);
        assert_eq!(owner.apply_records(vec![reused]).await.0.len(), 1);
        // Messages that were edited and deleted, and an edit of nothing.
        let ids = ["a", "b"].map(|client_id| id_of(3, 1, client_id));
        let records = vec![
            message(3, 1, "a", "as sent", 9),
            message(3, 1, "b", "gone", 9),
            edit(3, 1, "e1", ids[0], "as edited"),
            delete(3, 1, "d", ids[1]),
            edit(3, 1, "early", id_of(3, 1, "later"), "x"),
        ];
        assert_eq!(owner.apply_records(records).await.0.len(), 5);
        let mut dead = owner.batch(Vec::new());
        let mut partition = owner.empty(0);
        let letter = DeadLetter { offset: partition.next, reason: "?".into(), value: vec![0, 255, 1].into() };
        (partition.dead, partition.next) = (vec![letter], partition.next + 1);
        dead.partitions.push(partition);
        owner.apply(dead).await;
        mails(&mut owner).await;
        let all = owner.frontier().await;
        Self { store, path, then, all }
    }

    /// Everything that a resume from here tells.
    async fn missed(&self, store: &Store, who: i64, since: &Since, until: &Frontier) -> Vec<Missed> {
        store.missed(user(who), since, until, None, 1_000).await.unwrap()
    }
}

async fn sqlite() -> (Store, PathBuf) {
    let folder: TempDir = tempfile::tempdir().unwrap();
    let path = folder.path().join("chatd.db");
    let store = SqliteStore::open(SqliteSettings::new(&path)).await.unwrap();
    (Store::new(Arc::new(store), Arc::new(folder)), path)
}

async fn people(store: &Store) {
    let person = |id: i64| NewUser {
        id: user(id),
        name: format!("Ünser {id}"),
        email: (id % 2 == 0).then(|| format!("user{id}@example.test")),
    };
    store.save(&(1..=8).map(person).collect::<Vec<_>>()).await.unwrap();
    store.provision(&external("mia"), Some("Mia")).await.unwrap();
    store.saw(&[(user(1), Timestamp(60_000)), (user(2), Timestamp(120_000))]).await.unwrap();
    store.show_to(user(2), Audience::Shared).await.unwrap();
    let change = ProfileChange { name: None, time_zone: Some("UTC".into()), language: Some("de".into()) };
    store.change(user(1), &change).await.unwrap();
}

fn external(id: &str) -> Subject {
    Subject::External { issuer: "https://id.example.test".into(), id: id.into() }
}

/// Mails that were sent, that wait, and conversations that are due now, and later.
async fn mails(owner: &mut Owner) {
    let store = owner.store.clone();
    owner.grace = Duration::ZERO;
    owner.say(1, 6, "mailed").await;
    owner.say(1, 7, "no address").await;
    owner.say(1, 8, "fails").await;
    let all = owner.frontier().await;
    let policy = DuePolicy {
        settled: all.clone(),
        published: all,
        min_interval: HOUR,
        per_day: 10,
        max_age: HOUR,
        limit: 100,
    };
    while store.raise_due(&policy).await.unwrap().mails > 0 {}
    for mail in store.lease_mails(Duration::from_secs(1), 2).await.unwrap() {
        let settlement = match mail.user.get() {
            6 => Settlement::Sent,
            _ => Settlement::Retry { after: HOUR, reason: "421".into() },
        };
        store.settle_mail(mail.id, &settlement).await.unwrap();
    }
    // Waits for an hour since the last mail, and does not stand in the way of whoever comes first.
    owner.say(1, 6, "again").await;
    let policy = DuePolicy { settled: owner.frontier().await, published: owner.frontier().await, ..policy };
    store.raise_due(&policy).await.unwrap();
    owner.grace = HOUR;
    owner.say(1, 4, "due in an hour").await;
}

/// Copies and compares; the import is not finished.
async fn copy(old: &Old, schema: &Schema) -> Result<(PostgresImport, Vec<Copied>), TransferError> {
    let mut source = SqliteExport::open(&old.path).await.unwrap();
    let mut target = PostgresImport::open(schema.settings()).await.unwrap();
    let copied = transfer(&mut source, &mut target, &mut |_| {}).await?;
    Ok((target, copied))
}

async fn moved(old: &Old, next: Option<(LogIdentity, Vec<i64>)>) -> (Store, Vec<Copied>) {
    let schema = Schema::new();
    let (mut target, copied) = copy(old, &schema).await.unwrap();
    target.finish(next).await.unwrap();
    let settings = schema.settings();
    (postgres_on(schema, settings).await, copied)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_there_as_it_was() {
    let old = Old::new().await;
    let (new, copied) = moved(&old, None).await;
    for table in &copied {
        assert!(table.rows > 0, "the test has no rows in {}", table.table);
    }
    assert_eq!(old.store.incarnation().await, new.incarnation().await);
    assert_eq!(old.store.followed().await, new.followed().await);
    assert_eq!(old.store.list(0, 100).await, new.list(0, 100).await);
    let seen = [user(1), user(2)];
    assert_eq!(old.store.sightings(&seen).await, new.sightings(&seen).await);
    assert_eq!(new.named(&NameKey::of("ÜNSER"), 20).await.unwrap().len(), 8);
    for who in 2..=8 {
        let [here, there] = [&old.store, &new].map(|store| store.conversations(user(who), None, 100));
        assert_eq!(here.await, there.await, "{who}");
        let conversation = dm(1, who);
        assert_eq!(history(&old.store, conversation).await, history(&new, conversation).await);
        assert_eq!(old.store.receipts(conversation).await, new.receipts(conversation).await);
        assert_eq!(old.store.due_at(conversation).await, new.due_at(conversation).await, "{who}");
    }
    let since = [Since::Frontier(old.then.clone()), Since::Confirmed, Since::Beginning];
    for (who, since) in (1..=8).flat_map(|who| since.iter().map(move |since| (who, since))) {
        let [here, there] = [&old.store, &new].map(|store| old.missed(store, who, since, &old.all));
        assert_eq!(here.await, there.await, "{who} {since:?}");
    }
    let [here, there] = [&old.store, &new].map(|store| store.rejections(user(4), None, &old.all, 9));
    let told = there.await.unwrap();
    assert_eq!((told.len(), here.await.unwrap()), (1, told));
    let partitions: Vec<_> = (0..PARTITIONS).collect();
    let [here, there] = [&old.store, &new].map(|store| store.claims(old.all.log, &partitions));
    assert_eq!(here.await, there.await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_goes_on_with_the_same_log() {
    let old = Old::new().await;
    let (new, _) = moved(&old, None).await;
    let mut owner = Owner::new(&new, PARTITIONS).await;
    owner.said = 1_000;
    assert_eq!((owner.log, owner.frontier().await), (old.all.log, old.all.clone()));
    assert_eq!(owner.say(1, 2, "on").await.seq, Seq(721));
    assert_eq!(owner.say(7, 8, "new here").await.seq, Seq(1));
    assert_eq!(new.provision(&external("ben"), None).await.unwrap().id.get(), (1 << 40) + 1);
    let reused = message(4, 5, history(&new, dm(4, 5)).await[0].client_id.as_str(), "third", 9);
    assert_eq!(owner.apply_records(vec![reused]).await.0.len(), 1, "rejections get ids of their own");
    // What was sent, changed and rejected there is known here.
    let a = id_of(3, 1, "a");
    let retries = vec![
        message(3, 1, "a", "as sent", 9),
        edit(3, 1, "e1", a, "as edited"),
        message(3, 1, "b", "gone", 9),
    ];
    assert_eq!(owner.apply_records(retries).await, (vec![], 3));
    let later = message(3, 1, "later", "x", 9);
    let early = edit(3, 1, "early", later.id, "x");
    let (outcomes, _) = owner.apply_records(vec![later, early, edit(3, 1, "e2", a, "again")]).await;
    let [Outcome::Stored(_), Outcome::Rejected(_), Outcome::Stored(_)] = &outcomes[..] else {
        panic!("{outcomes:?}")
    };
    // A message to somebody who waits for an hour since the last mail is looked at in its own time.
    owner.grace = Duration::ZERO;
    let before = new.due_at(dm(1, 6)).await.unwrap().unwrap();
    owner.say(1, 6, "once more").await;
    assert!(new.due_at(dm(1, 6)).await.unwrap().unwrap() < before, "it stands in the way");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_later_log_begins_behind_it_and_cursors_of_the_old_one_stay_good() {
    let old = Old::new().await;
    let next = LogIdentity { id: Uuid::from_u128(0x0ca), partitions: 3 };
    let (new, _) = moved(&old, Some((next, vec![7, 0, 0]))).await;
    assert_eq!(new.followed().await.unwrap(), Some((LogNumber(2), next)));
    let claims = new.claim(LogNumber(2), &[0, 1, 2]).await.unwrap();
    assert_eq!(
        claims.iter().map(|claim| (claim.next_offset, claim.published)).collect::<Vec<_>>(),
        [(7, 6), (0, -1), (0, -1)]
    );
    let mut owner = Owner::of(&new, LogNumber(2), claims);
    owner.said = 1_000;
    owner.say(2, 1, "721").await;
    owner.say(1, 2, "722").await;
    owner.say(1, 8, "2").await;
    let until = owner.frontier().await;
    let ranges = async |who: i64, since: &Since| -> Vec<(String, i64, i64)> {
        let mut all: Vec<_> = (old.missed(&new, who, since, &until).await.into_iter())
            .map(|each| (each.conversation.to_string(), each.from.0, each.to.0))
            .collect();
        all.sort();
        all
    };
    let range = |a, b, from, to| (dm(a, b).to_string(), from, to);
    // Who had all of the old log misses what came with the new one; who had a part, the rest too.
    let had_all = Since::Frontier(old.all.clone());
    assert_eq!(ranges(2, &had_all).await, [range(1, 2, 721, 722)]);
    assert_eq!(ranges(8, &had_all).await, [range(1, 8, 2, 2)]);
    assert_eq!(ranges(5, &had_all).await, []);
    let had_some = Since::Frontier(old.then.clone());
    assert_eq!(ranges(2, &had_some).await, [range(1, 2, 701, 722)]);
    assert_eq!(ranges(8, &had_some).await, [range(1, 8, 1, 2)]);
    assert_eq!(ranges(5, &had_some).await, [range(4, 5, 1, 1)]);
    let nothing = Since::Frontier(Frontier::nothing(LogNumber(1), 6));
    assert_eq!(ranges(2, &nothing).await, [range(1, 2, 1, 722)]);
    // And they confirm what they say: all of the old log up to there, nothing of the new one.
    let moved = new.confirm_frontier(user(2), &old.all).await.unwrap();
    assert_eq!(moved.iter().map(|receipt| receipt.delivered).collect::<Vec<_>>(), [Seq(720)]);
    assert_eq!(seqs(&history(&new, dm(1, 2)).await), (1..=722).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_that_ends_half_way_leaves_nothing_and_can_be_begun_again() {
    let old = Old::new().await;
    let schema = Schema::new();
    drop(copy(&old, &schema).await.unwrap());
    let count = schema.connect().await.query_one("SELECT count(*) FROM events", &[]).await.unwrap();
    assert_eq!(count.get::<_, i64>(0), 0);
    let (mut target, _) = copy(&old, &schema).await.unwrap();
    target.finish(None).await.unwrap();
    match copy(&old, &schema).await.map(|_| ()) {
        Err(TransferError::Occupied(there)) => {
            assert_eq!(Ok(there.incarnation), old.store.incarnation().await, "told apart from other data");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_changes_on_its_way_is_found_and_nothing_stays() {
    let old = Old::new().await;
    for (table, change) in [
        ("events", "NEW.content := rtrim(NEW.content, '0')"),
        ("users", "NEW.email := NULL; NEW.email_verified := false"),
        ("members", "NEW.gap_to := 0"),
        ("mails", "IF NEW.state = 'sent' THEN RETURN NULL; END IF"),
    ] {
        let schema = Schema::new();
        drop(PostgresImport::open(schema.settings()).await.unwrap());
        let trigger = format!(
            "CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN {change}; RETURN NEW; END $$;
             CREATE TRIGGER change BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION change()"
        );
        let client = schema.connect().await;
        client.batch_execute(&trigger).await.unwrap();
        match copy(&old, &schema).await.map(|_| ()) {
            Err(TransferError::Differs { table: named, .. }) => assert_eq!(named, table),
            other => panic!("{table}: {other:?}"),
        }
        let count = client.query_one("SELECT count(*) FROM users", &[]).await.unwrap();
        assert_eq!(count.get::<_, i64>(0), 0, "{table}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_starts_on_the_target_meanwhile_waits_or_gives_up() {
    let old = Old::new().await;
    let schema = Schema::new();
    let (mut target, _) = copy(&old, &schema).await.unwrap();
    let settings = schema.settings();
    let beside = postgres_on(schema, settings).await;
    let joining = tokio::spawn({
        let beside = beside.clone();
        async move { beside.attach_log(LogIdentity { id: Uuid::from_u128(0xbad), partitions: 6 }).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!joining.is_finished(), "it has to wait");
    target.finish(None).await.unwrap();
    assert!(joining.await.unwrap().is_err(), "the history follows its own log");
    assert_eq!(beside.followed().await, old.store.followed().await);
}

#[derive(QueryableByName)]
struct Name {
    #[diesel(sql_type = Text)]
    owner: String,
    #[diesel(sql_type = Text)]
    name: String,
}

type Columns = BTreeMap<String, BTreeSet<String>>;

/// The tables that go along, with their columns and what lies beside them here and there.
fn known(beside: &[(&str, &[&str])]) -> Columns {
    let name = |name: &&str| (*name).to_owned();
    let mut known: Columns =
        Table::ALL.iter().map(|t| (name(&t.name()), t.columns().iter().map(name).collect())).collect();
    for (table, columns) in beside {
        known.entry(name(table)).or_default().extend(columns.iter().map(name));
    }
    known
}

/// A later migration that adds a table or a column is found here: let it go along, or say below why it does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_table_and_no_column_is_forgotten() {
    let (_store, path) = sqlite().await;
    let mut file = diesel::SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    let names: Vec<Name> = diesel::sql_query(
        "SELECT t.name AS owner, c.name FROM sqlite_schema AS t, pragma_table_info(t.name) AS c
         WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%' AND t.name <> '__diesel_schema_migrations'",
    )
    .load(&mut file)
    .unwrap();
    let mut found = Columns::new();
    for Name { owner, name } in names {
        found.entry(owner).or_default().insert(name);
    }
    // The key of the one row, and what is about this file alone.
    let own: &[&str] = &["only_row", "restored_from_backup", "durable_at"];
    assert_eq!(found, known(&[("deployment", own)]));

    let schema = Schema::new();
    drop(PostgresImport::open(schema.settings()).await.unwrap());
    let client = schema.connect().await;
    let rows = client
        .query(
            "SELECT c.table_name::text, c.column_name::text FROM information_schema.columns AS c
             JOIN information_schema.tables AS t USING (table_schema, table_name)
             WHERE c.table_schema = $1 AND t.table_type = 'BASE TABLE'
                 AND c.table_name <> '__diesel_schema_migrations'",
            &[&schema.name],
        )
        .await
        .unwrap();
    let mut found = Columns::new();
    for row in rows {
        found.entry(row.get(0)).or_default().insert(row.get(1));
    }
    // Here it is a sequence.
    found.get_mut("deployment").unwrap().insert("next_user_id".into());
    // notify_later is the part of notify_due that is far away.
    let later: &[&str] = &["conversation_key", "due_at", "grace_ms"];
    assert_eq!(found, known(&[("deployment", &["only_row"]), ("notify_later", later)]));
}
