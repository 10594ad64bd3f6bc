//! The folder of a run: what was asked for, what was used, a log that survives a crash, checkpoints, and the manifest.
//!
//! ```text
//! <name>-<utc>-<hash>/
//!   scenario.ron         as given
//!   scenario.used.ron    every default filled in: starts an exact copy
//!   diagnostics.jsonl    one line at a time, one write a line
//!   checkpoints/         step-….ckpt, the newest few
//!   manifest.json        written at the start, completed at the end
//! ```
//! An existing folder is never overwritten. Files that are written once appear whole or not at all.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::checkpoint::{self, Checkpoint};

/// A file or folder that could not be written or read.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {error}", path = path.display())]
pub struct FolderError {
    /// The file or folder.
    pub path: PathBuf,
    /// What the system said.
    pub error: io::Error,
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> FolderError + '_ {
    |error| FolderError { path: path.to_owned(), error }
}

/// The open folder of a run.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    diagnostics: File,
    /// The step of the last line of the log.
    last_logged: Option<u64>,
    keep: usize,
    /// Keeps another process from writing here, for as long as this one lives, however it ends.
    _lock: Option<File>,
}

impl RunFolder {
    /// Makes the folder of a new run, with both scenario files.
    ///
    /// # Errors
    /// If it is there already and not empty, or cannot be written.
    pub fn create(path: &Path, given: &str, used: &str, keep: u32) -> Result<Self, FolderError> {
        if fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some()) {
            let error =
                io::Error::new(io::ErrorKind::AlreadyExists, "the folder is not empty, and runs are never overwritten");
            return Err(at(path)(error));
        }
        let checkpoints = path.join("checkpoints");
        fs::create_dir_all(&checkpoints).map_err(at(&checkpoints))?;
        let lock = lock(path)?;
        for (name, text) in [("scenario.ron", given), ("scenario.used.ron", used)] {
            let file = path.join(name);
            checkpoint::write_whole(&file, text.as_bytes()).map_err(at(&file))?;
        }
        Self::open(path, keep, lock)
    }

    /// Goes on in the folder of an interrupted run: lines of the log beyond `step` are of steps that will be taken again.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub fn resume(path: &Path, used: &str, keep: u32, step: u64) -> Result<Self, FolderError> {
        let lock = lock(path)?;
        let scenario = path.join("scenario.used.ron");
        if fs::read_to_string(&scenario).is_ok_and(|before| before != used) {
            // The run was made longer or shorter: the file says what is run now.
            checkpoint::write_whole(&scenario, used.as_bytes()).map_err(at(&scenario))?;
        }
        let log = path.join("diagnostics.jsonl");
        let mut last_logged = None;
        if log.exists() {
            let (kept, last) = lines_up_to(&log, step).map_err(at(&log))?;
            checkpoint::write_whole(&log, &kept).map_err(at(&log))?;
            last_logged = last;
        }
        let checkpoints = path.join("checkpoints");
        fs::create_dir_all(&checkpoints).map_err(at(&checkpoints))?;
        remove_partial(&checkpoints);
        Ok(Self { last_logged, ..Self::open(path, keep, lock)? })
    }

    fn open(path: &Path, keep: u32, lock: Option<File>) -> Result<Self, FolderError> {
        let log = path.join("diagnostics.jsonl");
        let diagnostics = OpenOptions::new().create(true).append(true).open(&log).map_err(at(&log))?;
        Ok(Self { path: path.to_owned(), diagnostics, last_logged: None, keep: keep as usize, _lock: lock })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends the line of a step to the diagnostics log, in one write.
    ///
    /// # Errors
    /// If the disk is full, say.
    pub fn log(&mut self, step: u64, line: &impl Serialize) -> Result<(), FolderError> {
        let mut text = serde_json::to_string(line).expect("a line is plain numbers and text");
        text.push('\n');
        self.diagnostics.write_all(text.as_bytes()).map_err(at(&self.path.join("diagnostics.jsonl")))?;
        self.last_logged = Some(step);
        Ok(())
    }

    /// The step of the last line of the log.
    #[must_use]
    pub fn last_logged(&self) -> Option<u64> {
        self.last_logged
    }

    /// Writes a checkpoint, and then removes the oldest beyond those that are kept. Later ones, which a resumed run finds when
    /// it starts from an older one, are left alone: it comes to them.
    ///
    /// # Errors
    /// If it cannot be written; older checkpoints stay as they are.
    pub fn checkpoint(&self, checkpoint: &Checkpoint) -> Result<PathBuf, FolderError> {
        // Lines before a checkpoint are not written again after it: they go to the disk first.
        self.diagnostics.sync_data().map_err(at(&self.path.join("diagnostics.jsonl")))?;
        let folder = self.path.join("checkpoints");
        let path = folder.join(checkpoint::file_name(checkpoint.header.step));
        checkpoint::write_whole(&path, &checkpoint::encode(checkpoint)).map_err(at(&path))?;
        let listed = checkpoint::list(&folder).map_err(at(&folder))?;
        tracing::info!("wrote {}", path.display());
        for (_, old) in listed.into_iter().filter(|(step, _)| *step <= checkpoint.header.step).skip(self.keep) {
            fs::remove_file(&old).map_err(at(&old))?;
        }
        Ok(path)
    }

    /// The manifest that is there already, if it can be read.
    #[must_use]
    pub fn read_manifest(&self) -> Option<serde_json::Value> {
        serde_json::from_slice(&fs::read(self.path.join("manifest.json")).ok()?).ok()
    }

    /// Writes the manifest.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn manifest(&self, manifest: &impl Serialize) -> Result<(), FolderError> {
        let path = self.path.join("manifest.json");
        let text = serde_json::to_string_pretty(manifest).expect("a manifest is plain numbers and text");
        checkpoint::write_whole(&path, text.as_bytes()).map_err(at(&path))
    }

    /// BLAKE3 hashes of the files of the run, by name.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn hashes(&self) -> Result<std::collections::BTreeMap<String, String>, FolderError> {
        let mut hashes = std::collections::BTreeMap::new();
        for name in ["scenario.ron", "scenario.used.ron", "diagnostics.jsonl"] {
            let path = self.path.join(name);
            let bytes = fs::read(&path).map_err(at(&path))?;
            hashes.insert(name.to_owned(), blake3::hash(&bytes).to_string());
        }
        Ok(hashes)
    }
}

/// Locks a folder, where the system can.
fn lock(folder: &Path) -> Result<Option<File>, FolderError> {
    let Ok(file) = File::open(folder) else {
        return Ok(None);
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => {
            let error = io::Error::new(io::ErrorKind::ResourceBusy, "another emmy is running in this folder");
            Err(at(folder)(error))
        }
        Err(TryLockError::Error(_)) => Ok(None),
    }
}

/// The lines of a log whose `step` is at most `step`, and the step of the last; one that a crash cut short is dropped.
fn lines_up_to(log: &Path, step: u64) -> io::Result<(Vec<u8>, Option<u64>)> {
    let (mut kept, mut last) = (Vec::new(), None);
    for line in BufReader::new(File::open(log)?).split(b'\n') {
        // Bytes, not text: whatever a power cut left there, what is no line of ours is dropped.
        let line = line?;
        let value: Option<serde_json::Value> = serde_json::from_slice(&line).ok();
        if let Some(at) = value.and_then(|value| value["step"].as_u64()).filter(|&at| at <= step) {
            kept.extend(line);
            kept.push(b'\n');
            last = Some(at);
        }
    }
    Ok((kept, last))
}

/// Removes what a crash left of files that were being written.
fn remove_partial(folder: &Path) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "partial")) {
        // It is only in the way: the run does not depend on it.
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_never_overwritten_and_a_torn_line_is_dropped() {
        let folder = std::env::temp_dir().join(format!("emmy-folder-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        let mut run = RunFolder::create(&folder, "given", "used", 3).unwrap();
        for step in 0..5 {
            run.log(step, &serde_json::json!({ "step": step })).unwrap();
        }
        let refused = RunFolder::create(&folder, "given", "used", 3).unwrap_err();
        assert!(refused.to_string().contains("never overwritten"), "{refused}");

        run.diagnostics.write_all(b"{\"step\": 3, \"ti\xff").unwrap();
        let busy = RunFolder::resume(&folder, "used", 3, 3).unwrap_err();
        assert!(busy.to_string().contains("another emmy"), "{busy}");
        drop(run);
        drop(RunFolder::resume(&folder, "used", 3, 3).unwrap());
        let log = fs::read_to_string(folder.join("diagnostics.jsonl")).unwrap();
        assert_eq!(log.lines().count(), 4, "{log}");

        fs::remove_dir_all(&folder).unwrap();
    }
}
