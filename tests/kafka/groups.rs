//! Who reads what, while members come, go and die.

use std::time::{Duration, Instant};

use chatd::pipeline::EventSource;
use chatd::pipeline::kafka::{KafkaSettings, ensure_topic};
use uuid::Uuid;

use crate::member::{Member, all_of, with_topic};
use crate::stack::stack;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_share_the_partitions_and_a_newcomer_moves_as_few_as_can_be() {
    let settings = with_topic(&stack(&["kafka"])).await;
    let mut first = Member::join(&settings).await;
    assert_eq!(first.has(6).await.partitions, [0, 1, 2, 3, 4, 5]);
    let mut second = Member::join(&settings).await;
    let (one, two) = (first.has(3).await, second.has(3).await);
    assert_eq!(all_of(&[&first, &second]), [0, 1, 2, 3, 4, 5]);

    let mut third = Member::join(&settings).await;
    let moved = third.has(2).await.partitions;
    let (one_after, two_after) = (first.has(2).await, second.has(2).await);
    assert_eq!(all_of(&[&first, &second, &third]), [0, 1, 2, 3, 4, 5]);
    for (before, after) in [(one, one_after), (two, two_after)] {
        assert!(after.partitions.iter().all(|kept| before.partitions.contains(kept)), "nobody swaps");
        assert!(moved.iter().any(|moved| before.partitions.contains(moved)), "each gives one");
        // One round to let go, one with what it has now.
        assert_eq!(after.round, before.round + 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_is_followed_within_two_seconds() {
    let settings = with_topic(&stack(&["kafka"])).await;
    let mut stays = Member::join(&settings).await;
    stays.has(6).await;
    let mut leaves = Member::join(&settings).await;
    stays.has(3).await;
    leaves.has(3).await;

    let began = Instant::now();
    let left = leaves.leave().await;
    stays.has(6).await;
    let followed = began.elapsed();
    println!("left after {left:?}, followed after {followed:?}");
    assert!(followed < Duration::from_secs(2), "{followed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_dies_is_followed_within_ten_seconds() {
    let settings = with_topic(&stack(&["kafka"])).await;
    let mut stays = Member::join(&settings).await;
    stays.has(6).await;
    let mut dies = Member::join(&settings).await;
    stays.has(3).await;
    dies.has(3).await;

    let began = Instant::now();
    dies.die();
    stays.has(6).await;
    let followed = began.elapsed();
    println!("followed after {followed:?}");
    assert!(followed > Duration::from_secs(2), "nobody told the group, so it had to miss it: {followed:?}");
    assert!(followed < Duration::from_secs(10), "{followed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_does_not_let_go_delays_the_others_for_a_moment_only() {
    let settings = with_topic(&stack(&["kafka"])).await;
    let busy = chatd::pipeline::kafka::KafkaLog::connect(settings.clone()).await.unwrap();
    let mut assigned = busy.assigned();
    assigned.wait_for(|assignment| assignment.partitions.len() == 6).await.unwrap();

    let began = Instant::now();
    let mut second = Member::join(&settings).await;
    second.has(3).await;
    let waited = began.elapsed();
    println!("waited for {waited:?}");
    assert!(waited < Duration::from_secs(5), "{waited:?}");
    // It gets its share although it never said that it let go of the rest: the fence in storage will tell it.
    assert_eq!(assigned.wait_for(|now| now.partitions.len() == 3).await.unwrap().partitions.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_left_does_not_come_back_by_being_asked() {
    let settings = with_topic(&stack(&["kafka"])).await;
    let mut member = Member::join(&settings).await;
    let round = member.has(6).await.round;
    member.log.leave().await;
    let assigned = member.log.assigned().borrow().clone();
    assert_eq!((assigned.round, assigned.partitions), (round + 1, vec![]), "everything is given up");
    let mut next = Member::join(&settings).await;
    next.has(6).await;
    member.log.leave().await; // once more changes nothing
    assert_eq!(next.assignment().partitions.len(), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chatd_of_another_topic_does_not_disturb_a_group_by_mistake() {
    let exports = stack(&["kafka"]);
    let settings = with_topic(&exports).await;
    let other = KafkaSettings { topic: format!("{}.other", Uuid::new_v4().simple()), ..settings.clone() };
    ensure_topic(&other, false).await.unwrap();
    let mut first = Member::join(&settings).await;
    first.has(6).await;
    let stranger = Member::join(&other).await;
    let mut second = Member::join(&settings).await;
    first.has(3).await;
    second.has(3).await;
    assert!(stranger.assignment().partitions.is_empty(), "it gets nothing");
}
