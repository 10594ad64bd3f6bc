//! The program `emmy`.

use std::process::ExitCode;

fn main() -> ExitCode {
    emmy::cli::main(std::env::args_os())
}
