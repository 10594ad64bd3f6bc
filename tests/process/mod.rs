//! Runs the program as users do: a folder of its own for each test, and what the program said.
#![allow(dead_code, reason = "a module of several test files, each of which uses some of it")]

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

pub(crate) const EMMY: &str = env!("CARGO_BIN_EXE_emmy");

/// A folder of its own for one test; removed at the end.
pub(crate) struct Place(pub(crate) PathBuf);

impl Place {
    /// `test` is the name of a test that no other has.
    pub(crate) fn new(test: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("emmy-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("the folder for temporary files can be written");
        Self(folder)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The same as an argument.
    pub(crate) fn file(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        fs::write(self.path(name), bytes).expect("a file in a folder of our own");
        name.to_owned()
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).expect("a file in a folder of our own")
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(EMMY);
        command.current_dir(&self.0).args(arguments).env_remove("RUST_LOG").env("NO_COLOR", "1");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(crate) fn emmy(&self, arguments: &[&str]) -> Said {
        let output = self.command(arguments).output().expect("emmy starts");
        Said::of(output, &format!("{arguments:?}"))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What the program said, and how it ended; without a code, if it was killed.
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    pub(crate) fn of(output: Output, what: &str) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("emmy writes UTF-8");
        let (out, err) = (text(output.stdout), text(output.stderr));
        let code = output.status.code();
        assert!(code != Some(101) && !err.contains("panicked"), "{what} panicked:\n{err}");
        Self { code, out, err }
    }

    /// Ended with this code.
    #[track_caller]
    pub(crate) fn with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    /// Said each of these on standard error.
    #[track_caller]
    pub(crate) fn remarking(self, words: &[&str]) -> Self {
        // Reports are wrapped to the width of the terminal.
        let flat = self.err.replace(['│', '\n'], " ").split_whitespace().collect::<Vec<_>>().join(" ");
        for word in words {
            assert!(flat.contains(word), "`{word}` is missing in:\n{}", self.err);
        }
        self
    }

    /// The same, and nothing on standard output.
    #[track_caller]
    pub(crate) fn complaining(self, words: &[&str]) -> Self {
        assert_eq!(self.out, "", "a fault belongs on standard error");
        self.remarking(words)
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error} in:\n{}\n{}", self.out, self.err))
    }
}
