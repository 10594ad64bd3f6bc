//! What a log is kept on. The writer asks little of it, so that tests can put a disk there that tears, loses and fills up.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

/// One file.
pub trait Disk: std::fmt::Debug {
    /// How long it is [bytes].
    ///
    /// # Errors
    /// What the system says.
    fn length(&mut self) -> io::Result<u64>;

    /// Reads from a place on, as much as there is and fits: how much. Nothing is there at the end only.
    ///
    /// # Errors
    /// What the system says.
    fn read(&mut self, at: u64, into: &mut [u8]) -> io::Result<usize>;

    /// Writes at the end. Who fails may have written a part.
    ///
    /// # Errors
    /// If the disk is full, say.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Cuts it off behind so many bytes.
    ///
    /// # Errors
    /// What the system says.
    fn truncate(&mut self, length: u64) -> io::Result<()>;

    /// Comes back when all that was written would outlast a crash. After an error nobody knows what would.
    ///
    /// # Errors
    /// What the system says.
    fn sync(&mut self) -> io::Result<()>;
}

/// A file of the system.
#[derive(Debug)]
pub struct FileDisk(File);

impl FileDisk {
    /// A file that must not be there yet.
    ///
    /// # Errors
    /// If it is there, or cannot be made.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).append(true).create_new(true).open(path)?;
        sync_folder_of(path)?;
        Ok(Self(file))
    }

    /// The file that is there, or else a new one.
    ///
    /// # Errors
    /// If it cannot be opened or made.
    pub fn open(path: &Path) -> io::Result<Self> {
        match OpenOptions::new().read(true).append(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::create(path),
            other => other.map(Self),
        }
    }
}

/// A new file outlasts a crash only when its folder knows of it.
#[cfg(unix)]
fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// Other systems do not open folders as files.
#[cfg(not(unix))]
fn sync_folder_of(_path: &Path) -> io::Result<()> {
    Ok(())
}

impl Disk for FileDisk {
    fn length(&mut self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read(&mut self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        self.0.seek(SeekFrom::Start(at))?;
        self.0.read(into)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        io::Write::write_all(&mut self.0, bytes)
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }
}

/// Reads a disk from its beginning.
pub(super) struct Reading<'d, D> {
    pub(super) disk: &'d mut D,
    pub(super) at: u64,
}

impl<D: Disk> Read for Reading<'_, D> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.disk.read(self.at, into)?;
        self.at += read as u64;
        Ok(read)
    }
}
