//! `emmy new`: writes a commented scenario to start from.

use std::{fs::File, io, io::Write, path::PathBuf};

use clap::Args;

use super::{Exit, Talk, complain, load, shell_word, tell};

const TEMPLATE: &str = include_str!("../../../assets/template.ron");

/// `emmy new`
#[derive(Clone, Debug, Args)]
pub(super) struct NewArgs {
    /// Name of the scenario; the file is NAME.ron.
    name: String,
}

/// Writes it; a file that is there is left alone.
pub(super) fn new(args: &NewArgs, talk: &Talk) -> Exit {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_. ".contains(c);
    if args.name.is_empty() || !args.name.chars().all(fits) {
        complain(
            &format!("`{}` is not a name for a file", args.name),
            "use letters a-z, digits, `-`, `_`, `.` and blanks",
        );
        return Exit::WrongInput;
    }
    let text = TEMPLATE.replace("NAME", &args.name);
    // The reader knows which names will not do: leading dots, devices of other systems.
    if let Err(exit) = load::from_text(&format!("{}.ron", args.name), text.clone(), Vec::new(), ".".as_ref()) {
        return exit;
    }
    let path = PathBuf::from(format!("{}.ron", args.name));
    match File::create_new(&path).and_then(|mut file| file.write_all(text.as_bytes())) {
        Ok(()) if talk.quiet => Exit::Done,
        Ok(()) => {
            let told = tell(&format!("wrote {}; try: emmy run {}\n", path.display(), shell_word(&path)));
            told.map_or_else(|exit| exit, |()| Exit::Done)
        }
        Err(error) => {
            let remedy = match error.kind() {
                io::ErrorKind::AlreadyExists => "choose another name: files are never overwritten",
                _ => "go to a folder that can be written to",
            };
            complain(&format!("{}: {error}", path.display()), remedy);
            Exit::Environment
        }
    }
}
