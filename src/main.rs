//! The executable: parse the command, hand it to its role.

use std::process::ExitCode;

fn main() -> ExitCode {
    chatd::cli::main()
}
