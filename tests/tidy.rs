//! Holds what no compiler checks: layers, what every file says of itself, and that the documents speak of what is there.
//!
//! It reads text and nothing else. The tables come first: a new module gets a row in `LAYERS`, a new command in README.md one in
//! `COMMANDS`. Where a rule is not yet met, a ratchet holds what there is, and only ever gets shorter.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Each module of `engine`, lowest first, with the modules it may use.
const LAYERS: &[(&str, &[&str])] = &[
    // What things are.
    ("quanta", &[]),
    ("contract", &["quanta"]), // names and ranges
    ("math", &[]),
    ("units", &[]),
    ("particle", &["quanta"]),
    ("step", &[]), // labels and clock
    ("ledger", &["math"]),
    ("metrics", &[]),
    ("text", &[]), // what others wrote, as it may be shown
    // What a run means.
    ("scenario", &["contract", "math", "units"]), // text to checked values to bodies: knows no quanta
    // How they move.
    ("force", &["contract", "math", "quanta"]),
    ("integrator", &["contract", "math", "particle", "quanta"]),
    ("backend", &["contract", "force", "integrator", "math", "metrics", "particle", "quanta"]),
    // Whether it counts.
    ("audit", &["ledger", "math", "particle", "quanta", "scenario", "text"]),
    ("audit_log", &[]), // what became of every step, in lines that cannot be changed
    ("residence", &["audit", "backend", "ledger", "step"]), // where the committed state is
    (
        "advance",
        &[
            "audit",
            "backend",
            "contract",
            "force",
            "integrator",
            "ledger",
            "math",
            "metrics",
            "particle",
            "quanta",
            "residence",
        ],
    ),
    (
        "commit",
        &[
            "advance",
            "audit",
            "backend",
            "force",
            "ledger",
            "math",
            "metrics",
            "particle",
            "quanta",
            "residence",
            "scenario",
            "step",
        ],
    ),
    (
        "snapshot",
        &[
            "audit",
            "contract",
            "force",
            "integrator",
            "ledger",
            "math",
            "particle",
            "quanta",
            "scenario",
            "step",
            "units",
        ],
    ),
    // Who hears of it.
    ("wire", &[]),
    ("security", &["text", "wire"]), // keys, handshakes, sealed datagrams: no sockets, no clock
    ("transport", &["metrics", "security", "wire"]), // the only module that knows laminar
    ("exchange", &["backend", "force", "metrics", "particle", "quanta", "transport", "wire"]), // what partitions send each other within a step
    (
        "partition",
        &[
            "advance",
            "audit",
            "backend",
            "commit",
            "contract",
            "exchange",
            "force",
            "integrator",
            "ledger",
            "math",
            "metrics",
            "particle",
            "quanta",
            "snapshot",
            "transport",
            "wire",
        ],
    ),
    // When, and who decides.
    ("coordinator", &["audit", "ledger", "math", "wire"]), // sans-IO: no sockets, no clock, no World
    ("plugins", &["advance", "commit", "metrics", "residence", "step"]), // says who runs in which phase, and does nothing else
    (
        "node",
        &[
            "advance",
            "audit",
            "backend",
            "commit",
            "force",
            "integrator",
            "ledger",
            "math",
            "metrics",
            "particle",
            "plugins",
            "quanta",
            "residence",
            "snapshot",
            "step",
        ],
    ),
    ("spawn", &["audit", "contract", "force", "integrator", "math", "node", "particle", "quanta", "scenario", "step"]),
    (
        "run",
        &[
            "audit",
            "backend",
            "commit",
            "ledger",
            "math",
            "metrics",
            "node",
            "particle",
            "quanta",
            "scenario",
            "residence",
            "snapshot",
            "spawn",
            "step",
        ],
    ),
    (
        "member",
        &[
            "audit",
            "backend",
            "commit",
            "contract",
            "coordinator",
            "exchange",
            "ledger",
            "metrics",
            "node",
            "particle",
            "partition",
            "quanta",
            "snapshot",
            "step",
            "text",
            "transport",
            "wire",
        ],
    ),
    (
        "remote",
        &[
            "audit",
            "backend",
            "commit",
            "ledger",
            "member",
            "metrics",
            "node",
            "particle",
            "partition",
            "quanta",
            "run",
            "snapshot",
            "step",
            "transport",
            "wire",
        ],
    ),
    (
        "cluster",
        &[
            "audit",
            "backend",
            "commit",
            "coordinator",
            "exchange",
            "force",
            "integrator",
            "ledger",
            "member",
            "metrics",
            "node",
            "particle",
            "partition",
            "quanta",
            "run",
            "snapshot",
            "step",
            "wire",
        ],
    ),
];

/// These may use everything and are used by nobody.
const ASSEMBLY: &[&str] = &["lib", "cli", "main", "server"];

/// The only files with unsafe code; each has a safe twin and a test that holds the two together.
const UNSAFE: &[&str] = &["engine/src/backend/gpu/door.rs", "engine/src/backend/isa.rs"];

/// The longest a function may be, signature and braces included [lines].
const FUNCTION_LINES_MAX: usize = 70;

/// The ratchet: functions that are longer for now (file, name, lines). They may become shorter, and then leave this list.
const LONG_FUNCTIONS: &[(&str, &str, usize)] = &[];

/// Every command of README.md, the file that runs it, and the text in that file which does.
const COMMANDS: &[(&str, &str, &str)] = &[
    ("tests/run", ".ci/run", "run_command_of_readme test-command"),
    ("cargo run --release -- run scenarios/outer_solar_system.ron", ".ci/run", "run_command_of_readme run-command"),
    ("emmy cluster run scenarios/plummer_1k.ron --nodes 4 --steps 100", "tests/cluster.rs", "<!-- cluster-command -->"),
    ("emmy keygen --name server-1 server-1.key >> trust", "tests/cluster.rs", "<!-- server-commands -->"),
    ("emmy keygen --name server-2 server-2.key >> trust", "tests/cluster.rs", "<!-- server-commands -->"),
    ("emmy keygen --name server-3 server-3.key >> trust", "tests/cluster.rs", "<!-- server-commands -->"),
    ("emmy keygen --name me me.key >> trust", "tests/cluster.rs", "<!-- server-commands -->"),
    ("emmy devices", "tests/cli.rs", "<!-- gpu-commands -->"),
    (
        "emmy run scenarios/plummer_1k.ron --set contract=portable64 --steps 20 --no-files --backend gpu",
        "tests/cli.rs",
        "<!-- gpu-commands -->",
    ),
];

// -------------------------------------------------------------------------------------------------- layers

#[test]
fn modules_only_use_the_modules_that_their_rows_name() {
    let mut faults = Vec::new();

    for source in sources("engine/src") {
        let module = source.module();
        if ASSEMBLY.contains(&module) {
            continue;
        }
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == module) else {
            faults.push(format!("{}: give `{module}` a row in LAYERS", source.name));
            continue;
        };
        for used in modules_used(&without_tests(&source.code()), source.depth()) {
            if used != module && !allowed.contains(&used.as_str()) {
                faults.push(format!("{}: `{module}` may not use `{used}`", source.name));
            }
        }
    }

    assert_none(&faults);
}

#[test]
fn the_table_of_layers_points_downwards_only() {
    for (row, (module, allowed)) in LAYERS.iter().enumerate() {
        for used in *allowed {
            let lower = LAYERS[..row].iter().any(|(name, _)| name == used);
            assert!(lower, "LAYERS: `{module}` may use `{used}`, which does not stand in an earlier row");
        }
    }
}

#[test]
fn every_row_of_the_table_is_a_module() {
    let modules: BTreeSet<String> = sources("engine/src").iter().map(|source| source.module().to_owned()).collect();

    for (module, _) in LAYERS {
        assert!(modules.contains(*module), "LAYERS: there is no module `{module}`: take the row out");
    }
}

// --------------------------------------------------------------------------------------------------- files

#[test]
fn every_file_says_what_it_is_for() {
    let silent = all_sources().into_iter().filter(|source| !source.text.starts_with("//! "));
    let faults: Vec<String> = silent.map(|source| format!("{}: must begin with `//! `", source.name)).collect();

    assert_none(&faults);
}

#[test]
fn unsafe_has_no_other_doors() {
    let used = |source: &Source| words(&source.code()).any(|word| word == "unsafe");
    let found: Vec<String> = all_sources().into_iter().filter(used).map(|source| source.name).collect();

    assert_eq!(found, UNSAFE, "files with unsafe code, and those that may have it");
}

#[test]
fn nothing_is_left_for_later() {
    // Written in two parts, so that this file does not find itself.
    let notes = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let macros = [concat!("to", "do!"), concat!("unimple", "mented!"), concat!("db", "g!")];
    let mut faults = Vec::new();

    for source in all_sources() {
        let code = source.code();
        let in_text = notes.iter().filter(|note| words(&source.text).any(|word| word == **note));
        let in_code = macros.iter().filter(|name| code.contains(**name));
        faults.extend(in_text.chain(in_code).map(|found| format!("{}: `{found}`", source.name)));
    }

    assert_none(&faults);
}

#[test]
fn every_file_of_the_engine_is_part_of_it() {
    let mut faults = Vec::new();

    for source in sources("engine/src") {
        let path = Path::new(&source.name);
        let (stem, folder) = (file_stem(path), path.parent().expect("a file stands in a folder"));
        if ["lib", "main"].contains(&stem.as_str()) {
            continue;
        }
        let (module, home) = match stem.as_str() {
            "mod" => (file_stem(folder), folder.parent().expect("src has a parent")),
            _ => (stem, folder),
        };
        let parents = ["mod.rs", "lib.rs", "main.rs"].map(|name| home.join(name));
        let declared = |parent: &PathBuf| {
            let text = fs::read_to_string(Path::new(ROOT).join(parent)).unwrap_or_default();
            text.contains(&format!("mod {module};"))
        };
        if !parents.iter().any(declared) {
            faults.push(format!("{}: no `mod {module};` beside it, so it is not compiled", source.name));
        }
    }

    assert_none(&faults);
}

#[test]
fn functions_fit_a_screen() {
    let mut faults = Vec::new();
    let mut still_long = BTreeSet::new();

    for source in sources("engine/src") {
        for (function, lines) in functions(&source.code()) {
            let known = LONG_FUNCTIONS.iter().find(|(file, name, _)| *file == source.name && *name == function);
            let limit = known.map_or(FUNCTION_LINES_MAX, |(_, _, limit)| *limit);
            if lines > limit {
                faults.push(format!("{}: `{function}` has {lines} lines; at most {limit}", source.name));
            }
            if lines > FUNCTION_LINES_MAX {
                still_long.insert((source.name.clone(), function));
            }
        }
    }
    for (file, name, _) in LONG_FUNCTIONS {
        if !still_long.contains(&((*file).to_owned(), (*name).to_owned())) {
            faults.push(format!("{file}: `{name}` is short now: take it out of LONG_FUNCTIONS"));
        }
    }

    assert_none(&faults);
}

#[test]
fn every_test_and_bench_is_a_target() {
    let manifest = read("engine/Cargo.toml");
    let mut faults = Vec::new();

    for folder in ["tests", "benches"] {
        for source in sources(folder).iter().filter(|source| source.name.matches('/').count() == 1) {
            if !manifest.contains(&format!("path = \"../{}\"", source.name)) {
                faults.push(format!("engine/Cargo.toml: no target has the path ../{}: it never runs", source.name));
            }
        }
    }
    for path in manifest.split("path = \"../").skip(1).filter_map(|rest| rest.split('"').next()) {
        if !Path::new(ROOT).join(path).exists() {
            faults.push(format!("engine/Cargo.toml: there is no ../{path}"));
        }
    }

    assert_none(&faults);
}

// ----------------------------------------------------------------------------------------------- scenarios

#[test]
fn every_scenario_says_what_it_is_for() {
    let mut faults = Vec::new();

    for path in files("scenarios", "ron") {
        let (name, text, stem) = (name_of(&path), read(&path), file_stem(&path));
        if !text.starts_with("// ") {
            faults.push(format!("{name}: must begin with a comment: what it shows, and where its numbers come from"));
        }
        if !text.contains(&format!("\n    name: \"{stem}\",")) {
            faults.push(format!("{name}: its `name` must be \"{stem}\", as that of its file"));
        }
    }

    assert_none(&faults);
}

// ----------------------------------------------------------------------------------------------- documents

#[test]
fn the_code_map_names_every_module_and_nothing_else() {
    let document = read("ARCHITECTURE.md");
    let map = section(&document, "Code map").expect("ARCHITECTURE.md: no heading `Code map`");
    let named: BTreeSet<String> = quoted(map).filter(|text| is_path(text)).map(in_source_folder).collect();
    let mut faults = Vec::new();

    for entry in fs::read_dir(Path::new(ROOT).join("engine/src")).expect("engine/src can be read") {
        let path = entry.expect("an entry can be read").path();
        let name = path.file_name().expect("an entry has a name").to_string_lossy().into_owned();
        let is_module = path.is_dir() || name.ends_with(".rs");
        if is_module && !named.contains(&format!("engine/src/{name}")) {
            faults.push(format!("ARCHITECTURE.md: the code map does not name `{name}`"));
        }
    }
    for path in &named {
        if !Path::new(ROOT).join(path).exists() {
            faults.push(format!("ARCHITECTURE.md: the code map names `{path}`, which does not exist"));
        }
    }

    assert_none(&faults);
}

#[test]
fn every_command_of_the_readme_is_run() {
    let readme = read("README.md");
    let commands = commands(&readme);
    let mut faults = Vec::new();

    for command in &commands {
        if !COMMANDS.iter().any(|(known, _, _)| known == command) {
            faults.push(format!("README.md: `{command}` has no row in COMMANDS: say where it is run"));
        }
    }
    for (command, file, evidence) in COMMANDS {
        if !commands.iter().any(|found| found == command) {
            faults.push(format!("COMMANDS: `{command}` is not in README.md"));
        }
        if !read(file).contains(evidence) {
            faults.push(format!("COMMANDS: {file} does not contain `{evidence}`, so it does not run `{command}`"));
        }
    }

    assert_none(&faults);
}

// -------------------------------------------------------------------------------------------- reading files

/// A Rust file.
struct Source {
    /// Its path from the root of the repository, with `/`.
    name: String,
    text: String,
}

impl Source {
    /// The top-level module it belongs to: `force` for engine/src/force/kernel.rs and for engine/src/force.rs.
    fn module(&self) -> &str {
        let inside = self.name.trim_start_matches("engine/src/");
        inside.split('/').next().unwrap_or(inside).trim_end_matches(".rs")
    }

    /// How many times `super::` leads from its own items to the root of the crate.
    fn depth(&self) -> usize {
        let inside = self.name.trim_start_matches("engine/src/").trim_end_matches(".rs");
        inside.trim_end_matches("/mod").split('/').count()
    }

    /// The text with comments and the insides of strings blanked out, line by line as long as before.
    fn code(&self) -> String {
        code_of(&self.text)
    }
}

fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// A file of the repository.
fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(Path::new(ROOT).join(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All files below a folder with this extension, from the root, sorted; none if the folder is not there.
fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(Path::new(ROOT).join(&folder)) else { continue };
        for entry in entries {
            let entry = entry.expect("an entry can be read");
            let path = folder.join(entry.file_name());
            if entry.path().is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn sources(folder: &str) -> Vec<Source> {
    files(folder, "rs").iter().map(|path| Source { name: name_of(path), text: read(path) }).collect()
}

fn all_sources() -> Vec<Source> {
    ["engine", "tests", "benches"].iter().flat_map(|folder| sources(folder)).collect()
}

fn name_of(path: &Path) -> String {
    path.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/")
}

fn file_stem(path: &Path) -> String {
    path.file_stem().expect("a file has a name").to_string_lossy().into_owned()
}

// --------------------------------------------------------------------------------------------- reading Rust

/// Identifiers and numbers.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty())
}

/// Blanks out comments, and the insides of strings and characters. Lines stay where they are.
fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let word_before = code.chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_');
        let length = hidden_length(rest, word_before);
        if length == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            code.extend(rest[..length].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            rest = &rest[length..];
        }
    }
    code
}

/// The length in bytes of the comment, string or character at the start of a text; 0 if there is none.
fn hidden_length(text: &str, word_before: bool) -> usize {
    let up_to = |end: &str, from: usize| text[from..].find(end).map_or(text.len(), |at| from + at + end.len());
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if text.starts_with("/*") {
        return up_to("*/", 2);
    }
    let prefix = text.trim_start_matches(['b', 'c']);
    let raw = prefix.strip_prefix('r').map(|rest| (rest, rest.len() - rest.trim_start_matches('#').len()));
    match raw {
        Some((rest, hashes)) if !word_before && rest[hashes..].starts_with('"') => {
            let end = format!("\"{}", "#".repeat(hashes));
            up_to(&end, text.len() - rest.len() + hashes + 1)
        }
        _ if text.starts_with('"') => 1 + escaped_length(&text[1..], '"'),
        // 'a' and '\n' are characters, 'a and 'static are lifetimes.
        _ if text.starts_with('\'') => match text[1..].chars().next() {
            Some('\\') => 1 + escaped_length(&text[1..], '\''),
            Some(c) if text[1 + c.len_utf8()..].starts_with('\'') => 2 + c.len_utf8(),
            _ => 0,
        },
        _ => 0,
    }
}

/// The length up to and with the end sign that no backslash stands before.
fn escaped_length(text: &str, end: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if c == end && !escaped {
            return at + c.len_utf8();
        }
        escaped = c == '\\' && !escaped;
    }
    text.len()
}

/// Code without the items behind `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    const ATTRIBUTE: &str = "#[cfg(test)]";
    let mut kept = String::new();
    let mut rest = code;
    while let Some(at) = rest.find(ATTRIBUTE) {
        kept.push_str(&rest[..at]);
        let item = &rest[at + ATTRIBUTE.len()..];
        let body = item.find(['{', ';']).unwrap_or(item.len());
        let end = if item[body..].starts_with('{') { body + block_length(&item[body..]) } else { body };
        rest = &item[end..];
    }
    kept + rest
}

/// The length of the block that a text begins with, from `{` to the `}` that closes it.
fn block_length(code: &str) -> usize {
    let mut depth = 0_usize;
    for (at, c) in code.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return at + 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

/// The modules of the crate that code names: `crate::x`, `crate::{x, y::z}`, and `super::x` where `super` is the crate.
fn modules_used(code: &str, depth: usize) -> BTreeSet<String> {
    let from_root = paths_after(code, "crate::");
    let climb = "super::".repeat(depth);
    let climbed = paths_after(code, &climb);
    let known = |name: &String| LAYERS.iter().any(|(module, _)| module == name) || ASSEMBLY.contains(&name.as_str());
    // After `crate::` every name counts, known or not, so that a module without a row is found; items of lib.rs there are none.
    from_root.chain(climbed.filter(known)).filter(|name| name.starts_with(char::is_lowercase)).collect()
}

/// The first names of the paths behind a prefix.
fn paths_after<'c>(code: &'c str, prefix: &'c str) -> impl Iterator<Item = String> + 'c {
    code.match_indices(prefix)
        .filter(|(at, _)| !code[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':'))
        .flat_map(|(at, _)| first_names(&code[at + prefix.len()..]))
}

/// `x` of `x::y`, `x` and `z` of `{x::{a, b}, z}`.
fn first_names(path: &str) -> Vec<String> {
    if !path.starts_with('{') {
        return words(path).next().map(str::to_owned).into_iter().collect();
    }
    let group = &path[1..block_length(path).max(2) - 1];
    let mut depth = 0_i32;
    let mut names = Vec::new();
    let mut start = 0;
    for (at, c) in group.char_indices().chain([(group.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.extend(words(&group[start..at]).next().map(str::to_owned));
                start = at + 1;
            }
            _ => {}
        }
    }
    names
}

/// Name and number of lines of every function that has a body.
fn functions(code: &str) -> Vec<(String, usize)> {
    let starts =
        code.match_indices("fn ").filter(|(at, _)| code[..*at].chars().next_back().is_none_or(char::is_whitespace));
    let body = |(at, _): (usize, &str)| {
        let rest = &code[at..];
        let open = end_of_signature(rest)?;
        let lines = rest[..open + block_length(&rest[open..])].lines().count();
        Some((words(&rest[3..]).next()?.to_owned(), lines))
    };
    starts.filter_map(body).collect()
}

/// Where the body of a function begins; `None` for a declaration. `;` in `[u8; 3]` does not count.
fn end_of_signature(code: &str) -> Option<usize> {
    let mut depth = 0_i32;
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            '{' if depth == 0 => return Some(at),
            ';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

// ----------------------------------------------------------------------------------------- reading Markdown

/// The text from a heading to the next one of the same or a higher level.
fn section<'d>(document: &'d str, heading: &str) -> Option<&'d str> {
    let level = |line: &str| line.len() - line.trim_start_matches('#').len();
    let mut at = 0;
    let mut found: Option<(usize, usize)> = None;
    for line in document.split_inclusive('\n') {
        match found {
            None if line.starts_with('#') && line.trim_matches(['#', ' ', '\n', '\r']) == heading => {
                found = Some((at + line.len(), level(line)));
            }
            Some((start, outer)) if (1..=outer).contains(&level(line)) => return Some(&document[start..at]),
            _ => {}
        }
        at += line.len();
    }
    found.map(|(start, _)| &document[start..])
}

/// What stands between single backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// `quanta.rs`, `backend/`, `engine/src/backend/cpu.rs`; not `crate::quanta`, not `cargo test`.
fn is_path(text: &str) -> bool {
    let simple = !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "_-./".contains(c));
    simple && (text.ends_with('/') || text.ends_with(".rs"))
}

/// A path in the code map, from the root; one that does not exist there stands in engine/src.
fn in_source_folder(path: &str) -> String {
    let path = path.trim_end_matches('/');
    if Path::new(ROOT).join(path).exists() { path.to_owned() } else { format!("engine/src/{path}") }
}

/// The commands in the fenced blocks marked `sh`, without comments and with continued lines joined.
fn commands(document: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut inside = false;
    let mut command = String::new();
    for line in document.lines() {
        if line.trim_start().starts_with("```") {
            inside = line.trim() == "```sh";
            continue;
        }
        let line = line.split(" #").next().unwrap_or_default().trim();
        if !inside || line.is_empty() || line.starts_with('#') {
            continue;
        }
        command.push_str(line.trim_end_matches('\\'));
        if !line.ends_with('\\') {
            found.push(std::mem::take(&mut command));
        }
    }
    found
}

// --------------------------------------------------------------------------------- the readers are tested too

#[test]
fn comments_strings_and_characters_are_no_code() {
    let text = "a // b\n\"c\\\"d\" 'e' '\\'' &'f g r#\"h\"i\"# /* j\n */ k";

    let left: Vec<String> = words(&code_of(text)).map(str::to_owned).collect();

    assert_eq!(left, ["a", "f", "g", "k"]);
    assert_eq!(code_of(text).lines().count(), text.lines().count());
}

#[test]
fn every_way_to_name_a_module_is_seen() {
    let code = "use crate::{audit::{self, Breach}, math, quanta::exp2 as two}; use super::node::Node; crate::step::Step;
                #[cfg(test)] mod tests { use crate::ledger::Ledger; } fn f() { super::super::units(); $crate::wire::x }";

    let used = modules_used(&without_tests(code), 1);

    assert_eq!(used.into_iter().collect::<Vec<_>>(), ["audit", "math", "node", "quanta", "step", "wire"]);
}

#[test]
fn functions_are_measured_from_signature_to_brace() {
    let code = "trait T { fn declared(a: [u8; 3]); }\nfn short() {}\npub fn long(\n    a: u8,\n) -> [u8; 2] {\n    if a {\n    }\n}\n";

    let found = functions(code);

    assert_eq!(found, [("short".to_owned(), 1), ("long".to_owned(), 6)]);
}

#[test]
fn commands_are_read_from_blocks_marked_sh_only() {
    let document = "```sh\n# a comment\ncargo test # another\nemmy run \\\n  x.ron\n```\n```ron\n(version: 1)\n```\n";

    assert_eq!(commands(document), ["cargo test", "emmy run x.ron"]);
}
