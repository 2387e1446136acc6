//! The executable: parse the command, hand it to its role.

fn main() {}
