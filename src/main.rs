//! The executable: parse the command, hand it to its role.

use std::process::ExitCode;

fn main() -> ExitCode {
    // One TLS provider for all of the process; with two linked in, rustls would panic at its first use.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    chatd::cli::main()
}
