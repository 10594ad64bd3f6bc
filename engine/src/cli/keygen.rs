//! `emmy keygen`: makes the secret key of a node, and shows what others may know of it.
//!
//! Standard output is text for a trust file, as it is: the line of the node, and with `--show` a comment that names the key of its
//! audit logs. No secret is ever printed.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{Exit, Talk, complain, remark, shell_word, tell};
use crate::{
    audit_log::{PURPOSE as AUDIT_PURPOSE, Signer},
    security::{
        keys::{KeyError, SecretKey},
        trust,
    },
};

const EXIT_CODES: &str = "\
Exit codes:
  0    done
  2    wrong command line; with --show: no such file, no secret key, or others may read it
  3    FILE exists or cannot be written, or the system has no random numbers";

/// Who a node is called if neither the command line nor the name of the file says so.
const NAME: &str = "node";

/// `emmy keygen`
#[derive(Clone, Debug, Args)]
#[command(after_help = EXIT_CODES, after_long_help = EXIT_CODES)]
pub(super) struct KeygenArgs {
    /// The file of the secret key: a new one, or with --show one that is there. It is never overwritten.
    file: PathBuf,
    /// Make nothing: show the public key of FILE, and the key that signs its audit logs.
    #[arg(long)]
    show: bool,
    /// What people call the node, in the trust files of its peers [default: FILE without folder and extension].
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    name: Option<String>,
}

/// A name that a trust file gives back as it is.
fn parse_name(text: &str) -> Result<String, String> {
    let name = text.trim();
    match name.chars().find(|&c| c == '#' || c.is_control()) {
        Some(c) => Err(format!("a name in a trust file cannot hold {c:?}")),
        None if name.is_empty() => Err("expected a name".into()),
        None if name.len() > trust::NAME_MAX => {
            Err(format!("{} bytes, at most {} expected", name.len(), trust::NAME_MAX))
        }
        None => Ok(name.to_owned()),
    }
}

impl KeygenArgs {
    fn name(&self) -> String {
        let stem = self.file.file_stem().and_then(|stem| stem.to_str());
        let by_file = || stem.and_then(|stem| parse_name(stem).ok());
        self.name.clone().or_else(by_file).unwrap_or_else(|| NAME.to_owned())
    }
}

/// Makes, or shows.
pub(super) fn keygen(args: &KeygenArgs, talk: &Talk) -> Exit {
    let done = if args.show { show(args) } else { make(args, talk) };
    done.map_or_else(|exit| exit, |()| Exit::Done)
}

fn make(args: &KeygenArgs, talk: &Talk) -> Result<(), Exit> {
    let path = &args.file;
    let secret = SecretKey::generate().map_err(|error| refuse_new(&error, path))?;
    secret.write_new(path).map_err(|error| refuse_new(&error, path))?;
    if !talk.quiet {
        let word = shell_word(path);
        remark(format_args!(
            "wrote {word}: keep it on this machine, for it alone makes this node who it is. The line below goes into the trust file \
             of every peer; `emmy keygen --show {word}` prints it again"
        ));
    }
    tell(&line(&secret, &args.name()))
}

fn show(args: &KeygenArgs) -> Result<(), Exit> {
    let secret = SecretKey::read(&args.file).map_err(|error| refuse_old(&error))?;
    let signer = Signer::of(&secret.derive(AUDIT_PURPOSE));
    tell(&format!("{}# signs its audit logs: {}\n", line(&secret, &args.name()), signer.public()))
}

/// The node as a trust file has it.
fn line(secret: &SecretKey, name: &str) -> String {
    format!("{} {name}\n", secret.public())
}

fn refuse_new(error: &KeyError, path: &Path) -> Exit {
    let remedy = match error {
        KeyError::Exists { .. } => format!("`emmy keygen --show {}` prints its public key", shell_word(path)),
        KeyError::File { .. } => "choose a folder that is there and that can be written to".to_owned(),
        // What it takes is in the message.
        _ => String::new(),
    };
    complain(&error.to_string(), &remedy);
    Exit::Environment
}

fn refuse_old(error: &KeyError) -> Exit {
    let remedy = match error {
        KeyError::File { .. } => "check the path; without --show, `emmy keygen FILE` makes a new key",
        KeyError::Malformed { .. } => "check the path, or bring back a copy; `emmy keygen NEW_FILE` makes a new key",
        _ => "",
    };
    complain(&error.to_string(), remedy);
    Exit::WrongInput
}
