//! What a registration promises, one step at a time.

mod model;

use tokio::sync::oneshot::error::TryRecvError;

use super::*;

fn user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

fn generation(number: u64) -> Generation {
    Generation::new(number).unwrap()
}

fn registered(users: &[i64]) -> Roster {
    let mut roster = Roster::new();
    users.iter().for_each(|id| assert!(matches!(roster.join(user(*id)), Joined::Later)));
    roster.begin(generation(1));
    while let Some(batch) = roster.batch(2) {
        roster.answered(&batch);
    }
    assert!(roster.sound(generation(1)));
    roster
}

#[test]
fn who_was_there_before_is_in_the_set_and_who_comes_waits_for_it() {
    let mut roster = registered(&[1, 2, 3]);
    assert_eq!(roster.inside(), 3);
    assert!(matches!(roster.join(user(2)), Joined::Known));
    let Joined::Wait(_, mut known) = roster.join(user(4)) else { panic!("not known yet") };
    let batch = roster.batch(9).unwrap();
    assert_eq!((&batch.enter, known.try_recv()), (&vec![user(4)], Err(TryRecvError::Empty)));
    roster.answered(&batch);
    assert_eq!((known.try_recv(), roster.inside()), (Ok(()), 4));
}

#[test]
fn who_leaves_and_comes_again_at_once_costs_nothing() {
    let mut roster = registered(&[1]);
    roster.leave(user(1));
    assert!(matches!(roster.join(user(1)), Joined::Known));
    assert_eq!(roster.batch(9), None);
}

#[test]
fn who_comes_while_being_taken_out_waits_to_be_in_again() {
    let mut roster = registered(&[1]);
    roster.leave(user(1));
    let out = roster.batch(9).unwrap();
    let Joined::Wait(_, mut known) = roster.join(user(1)) else { panic!("on the way out") };
    roster.answered(&out);
    assert_eq!(known.try_recv(), Err(TryRecvError::Empty));
    let back = roster.batch(9).unwrap();
    assert_eq!(back.enter, [user(1)]);
    roster.answered(&back);
    assert_eq!((known.try_recv(), roster.inside()), (Ok(()), 1));
}

#[test]
fn an_end_lets_those_who_wait_go_on_and_the_next_generation_begins_with_them() {
    let mut roster = registered(&[1]);
    let Joined::Wait(_, mut known) = roster.join(user(2)) else { panic!("not known yet") };
    let late = roster.batch(9).unwrap();
    roster.end();
    assert_eq!(known.try_recv(), Err(TryRecvError::Closed));
    assert_eq!(roster.batch(9), None, "there is no set to put anybody into");
    roster.begin(generation(2));
    roster.answered(&late);
    assert_eq!(roster.inside(), 0, "an answer of the generation before says nothing about this one");
    assert_eq!(roster.batch(9).unwrap().enter.len(), 2);
    assert!(!roster.sound(generation(1)) && roster.sound(generation(2)));
}

#[test]
fn nothing_is_kept_of_who_left() {
    let mut roster = registered(&[1, 2]);
    roster.join(user(3));
    for id in [1, 2, 3] {
        roster.leave(user(id));
    }
    while let Some(batch) = roster.batch(1) {
        roster.answered(&batch);
    }
    assert_eq!((roster.users.len(), roster.queue.len(), roster.inside()), (0, 0, 0));
    roster.leave(user(9));
    assert_eq!(roster.users.len(), 0);
}
