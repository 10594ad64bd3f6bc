//! `emmy new`: writes a commented scenario to start from.

use std::path::PathBuf;

use clap::Args;

use super::{Exit, complain};

const TEMPLATE: &str = include_str!("../../../assets/template.ron");

/// `emmy new`
#[derive(Clone, Debug, Args)]
pub(super) struct NewArgs {
    /// Name of the scenario; the file is NAME.ron.
    name: String,
}

/// Writes it; a file that is there is left alone.
pub(super) fn new(args: &NewArgs) -> Exit {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if args.name.is_empty() || !args.name.chars().all(fits) {
        complain(&format!("`{}` is not a name for a file", args.name), "use letters, digits, - and _");
        return Exit::WrongInput;
    }
    let path = PathBuf::from(format!("{}.ron", args.name));
    let text = TEMPLATE.replace("NAME", &args.name);
    let written =
        std::fs::File::create_new(&path).and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()));
    match written {
        Ok(()) => {
            println!("wrote {}; try: emmy run {}", path.display(), path.display());
            Exit::Done
        }
        Err(error) => {
            complain(&format!("{}: {error}", path.display()), "choose another name: files are never overwritten");
            Exit::Environment
        }
    }
}
