//! What the compiler does not see: who may import whom, what is called where, the size and shape of files,
//! dependencies with reasons, documents that are linked. Each rule is a function of the tree and finds a
//! seeded fault in its own test.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a panic is how a test fails

#[path = "tidy/crates.rs"]
mod crates;
#[path = "tidy/documents.rs"]
mod documents;
#[path = "tidy/files.rs"]
mod files;
#[path = "tidy/paths.rs"]
mod paths;
#[path = "tidy/places.rs"]
mod places;
#[path = "tidy/rooms.rs"]
mod rooms;
#[path = "tidy/rust.rs"]
mod rust;
#[path = "tidy/tree.rs"]
mod tree;

use tree::Tree;

fn none(violations: &[String]) {
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

#[test]
fn rooms_import_only_whom_they_may() {
    none(&rooms::directions(&Tree::of_this_repository()));
}

#[test]
fn adapters_are_named_only_where_ports_are_put_together() {
    none(&rooms::adapters(&Tree::of_this_repository()));
}

#[test]
fn technologies_stay_in_their_rooms() {
    none(&places::technologies(&Tree::of_this_repository()));
}

#[test]
fn what_panics_or_prints_stays_in_tests_and_commands() {
    none(&places::calls(&Tree::of_this_repository()));
}

#[test]
fn files_are_short_and_say_what_they_are() {
    none(&files::shapes(&Tree::of_this_repository()));
}

#[test]
fn nothing_is_left_for_later_or_of_one_machine() {
    none(&files::words(&Tree::of_this_repository()));
}

#[test]
fn each_dependency_has_a_reason_and_a_use() {
    none(&crates::dependencies(&Tree::of_this_repository()));
}

#[test]
fn documents_are_linked_and_their_links_resolve() {
    none(&documents::links(&Tree::of_this_repository()));
}
