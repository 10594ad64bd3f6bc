//! Tells the program where it comes from: commit, compiler, target. Nothing here reaches a bit of state.

use std::process::Command;

fn main() {
    let output = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = output("git", &["describe", "--always", "--dirty", "--abbrev=12"]).unwrap_or_else(|| "unknown".into());
    let rustc = std::env::var("RUSTC").ok().and_then(|rustc| output(&rustc, &["--version"])).unwrap_or_default();
    println!("cargo::rustc-env=EMMY_COMMIT={commit}");
    println!("cargo::rustc-env=EMMY_RUSTC={rustc}");
    for name in ["TARGET", "PROFILE"] {
        println!("cargo::rustc-env=EMMY_{name}={}", std::env::var(name).unwrap_or_default());
    }
    println!("cargo::rerun-if-changed=../.git/HEAD");
    println!("cargo::rerun-if-changed=build.rs");
}
