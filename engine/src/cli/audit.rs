//! `emmy audit verify`: checks an audit log, by itself and by what others have witnessed of it, and says what it tells and how far it
//! can be believed.
//!
//! A log comes from someone else, so nothing of it reaches a terminal unescaped or at full length, and it is read one line at a time:
//! a line has at most a MiB, a file may have any size.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{Exit, Talk, complain, remark, report::counted, tell};
use crate::{
    audit_log::{self, AuditLogError, Verified, Witnessed},
    text::harmless,
};

const EXIT_CODES: &str = "\
Exit codes:
  0    every line is what was written, and fits to the others; what nobody signed,
       or has no end, is warned of
  1    the log is not what was written, does not fit together or to what another log
       witnessed of it, or is not signed with the key of --key; the message names the
       first line that is wrong
  2    wrong command line, or a file that cannot be read
  3    standard output cannot be written: disk full";

/// What begins a key of another kind.
const NODE_KEY: &str = "emmy-key-";

/// `emmy audit`
#[derive(Clone, Debug, Args)]
pub(super) struct AuditArgs {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum AuditCommand {
    /// Check that a log is what was written: every line, their order, what they say, and the signatures.
    Verify(VerifyArgs),
}

/// `emmy audit verify`
#[derive(Clone, Debug, Args)]
#[command(after_help = EXIT_CODES, after_long_help = EXIT_CODES)]
struct VerifyArgs {
    /// The audit log. It is read line by line, so it may be of any size.
    file: PathBuf,
    /// The key that must have signed it, as `emmy keygen --show` prints it on the machine of its writer. Without it, the key that
    /// the log itself names: that shows damage, but not somebody who wrote a whole log of their own.
    #[arg(long, value_name = "HEX", value_parser = parse_key)]
    key: Option<String>,
    /// Logs of other nodes of the same run, which are checked, too. Nodes tell each other how their logs end, and write down what they
    /// hear: a log that was written anew or cut off since then, even by who has its key, does not fit to what the others wrote.
    #[arg(long, value_name = "OTHER", num_args = 1..)]
    with: Vec<PathBuf>,
    /// Write what was found as JSON.
    #[arg(long)]
    json: bool,
}

fn parse_key(text: &str) -> Result<String, String> {
    let (digits, found) = (64, text.chars().count());
    if text.starts_with(NODE_KEY) {
        return Err(
            "this is who a node is; the key that signs its logs is the other one that `emmy keygen --show` prints"
                .into(),
        );
    }
    match text.chars().position(|c| !c.is_ascii_hexdigit()) {
        Some(at) => Err(format!("character {} is no hexadecimal digit", at + 1)),
        None if found != digits => Err(format!("{digits} hexadecimal digits expected, not {found}")),
        None => Ok(text.to_ascii_lowercase()),
    }
}

/// What `--json` writes of a log that is what was written.
#[derive(Debug, Serialize)]
struct Whole<'a> {
    schema: u32,
    file: String,
    verified: bool,
    entries: u64,
    signatures: u64,
    /// Lines after the last signature.
    unsigned: u64,
    committed: u64,
    undone: u64,
    /// What crashes left behind whole lines, and was cut off [bytes].
    cut_bytes: u64,
    run: &'a str,
    writer: &'a str,
    key: &'a str,
    /// Whether the key was named on the command line; if not, the log itself names it.
    key_given: bool,
    /// How the run ended; null if the log does not say.
    closed: Option<&'a str>,
    /// What the logs of others have witnessed of it: how many ends, and the last line that one of them covers.
    witnessed: u64,
    witnessed_up_to: u64,
}

/// What `--json` writes of any other.
#[derive(Debug, Serialize)]
struct Broken<'a> {
    schema: u32,
    file: String,
    verified: bool,
    /// The first line that is wrong.
    line: u64,
    fault: &'a str,
}

/// Reads logs.
pub(super) fn audit(args: &AuditArgs, talk: &Talk) -> Exit {
    match &args.command {
        AuditCommand::Verify(args) => verify(args, talk).map_or_else(|exit| exit, |()| Exit::Done),
    }
}

fn verify(args: &VerifyArgs, talk: &Talk) -> Result<(), Exit> {
    let found = audit_log::verify_file(&args.file, args.key.as_deref()).map_err(|error| refuse(&error, args))?;
    let witnessed = compare(args, &found)?;
    let writer = format!("node {}", found.node);
    let whole = Whole {
        schema: 1,
        file: args.file.display().to_string(),
        verified: true,
        entries: found.entries,
        signatures: found.signatures,
        unsigned: found.unsigned,
        committed: found.committed,
        undone: found.undone,
        cut_bytes: found.cut_bytes,
        run: &found.run,
        writer: &writer,
        key: args.key.as_deref().unwrap_or(&found.key),
        key_given: args.key.is_some(),
        closed: found.closed.as_deref(),
        witnessed: witnessed.heads,
        witnessed_up_to: witnessed.up_to,
    };
    warn(&args.file, &found);
    match (args.json, talk.quiet) {
        (true, _) => tell(&json(&whole)),
        (false, true) => Ok(()),
        (false, false) => tell(&summary(&whole)),
    }
}

/// What all the other logs together have witnessed of this one.
fn compare(args: &VerifyArgs, found: &Verified) -> Result<Witnessed, Exit> {
    let mut all = Witnessed::default();
    for other in &args.with {
        let one = audit_log::cross_check(&args.file, found, other).map_err(|error| refuse(&error, args))?;
        if one.heads == 0 {
            let others = if one.of_other_lives > 0 { "ends of another log of the same node" } else { "nothing" };
            remark(format_args!("warning: {} has witnessed {others}, and no end of this log", other.display()));
        }
        all.heads += one.heads;
        all.up_to = all.up_to.max(one.up_to);
    }
    Ok(all)
}

fn json(result: &impl Serialize) -> String {
    serde_json::to_string_pretty(result).expect("numbers and text") + "\n"
}

fn summary(whole: &Whole) -> String {
    let by = if whole.key_given { "as asked" } else { "as the log itself says: --key holds it to one that you know" };
    let signed = if whole.signatures == 0 { "names" } else { "signed with" };
    format!(
        "{}: what was written\n  entries      {}, {} of them {}; {} after the last\n  steps        {} committed, {} undone\n  \
         written by   {} in the run {}\n  {signed:<12} {} ({by})\n  witnessed    {}\n  ended        {}\n",
        whole.file,
        whole.entries,
        whole.signatures,
        if whole.signatures == 1 { "a signature" } else { "signatures" },
        whole.unsigned,
        whole.committed,
        whole.undone,
        harmless(whole.writer),
        harmless(whole.run),
        harmless(whole.key),
        match whole.witnessed {
            0 => "by no other log: --with names some".to_owned(),
            heads => format!(
                "{}, up to line {}",
                counted(usize::try_from(heads).unwrap_or(usize::MAX), "end"),
                whole.witnessed_up_to
            ),
        },
        whole.closed.map_or_else(|| "the log does not say".to_owned(), harmless),
    )
}

/// What a log that is whole does not prove.
fn warn(path: &Path, found: &Verified) {
    let path = path.display();
    if found.unsigned > 0 {
        let lines = counted(usize::try_from(found.unsigned).unwrap_or(usize::MAX), "line");
        let after = if found.signatures == 0 { "no signature at all" } else { "no signature after them" };
        remark(format_args!(
            "warning: {path}: {lines} at the end with {after}: whoever keeps the file could have written them"
        ));
    }
    if found.cut_bytes > 0 {
        let bytes = found.cut_bytes;
        remark(format_args!(
            "warning: {path}: {bytes} bytes behind whole lines were cut off after a crash: a `resumed` entry says where"
        ));
    }
    if let Some((line, due)) = &found.gap {
        remark(format_args!(
            "warning: {path}: line {line} is not {due}, and the log ends before an epoch that says why"
        ));
    }
    if found.closed.is_none() {
        remark(format_args!(
            "warning: {path}: the log does not say how the run ended: it goes on still, was broken off, or lines at the end are missing"
        ));
    }
}

fn refuse(error: &AuditLogError, args: &VerifyArgs) -> Exit {
    let AuditLogError::Broken { path, line, what } = error else {
        complain(&error.to_string(), "check the path: an audit log that can be read is expected");
        return Exit::WrongInput;
    };
    let remedy =
        "nothing from this line on is proved; compare with a copy of the file, or with the logs of other nodes";
    complain(&format!("{}, line {line}: {}", path.display(), harmless(what)), remedy);
    let broken = Broken { schema: 1, file: path.display().to_string(), verified: false, line: *line, fault: what };
    let told = if args.json { tell(&json(&broken)) } else { Ok(()) };
    told.map_or_else(|exit| exit, |()| Exit::CheckFailed)
}
