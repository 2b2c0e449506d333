//! What the log asks of the thing it is written on: few calls, each as small as the operating system's own.
//!
//! Knows no frames and no recovery. [`SystemFiles`] is the real thing; [`crate::FaultyFiles`] keeps everything in
//! memory and fails as disks fail.

use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Files by name.
pub trait Medium: Debug + Send + Sync {
    /// Makes a directory and those above it.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// The names in a directory.
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;
    /// A new, empty file; what had the name is gone.
    fn create(&self, path: &Path) -> io::Result<Box<dyn MediumFile>>;
    /// A file that is there, to be changed.
    fn open(&self, path: &Path) -> io::Result<Box<dyn MediumFile>>;
    /// A file that is there, from its beginning, and its length.
    fn read(&self, path: &Path) -> io::Result<(Box<dyn Read + Send>, u64)>;
    /// Gives a file another name; what had that name is gone.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Takes a name away.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Names made, changed and removed in a directory are kept when this returns.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes a directory for this process, until what it answers is dropped. None if another process has it.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Debug + Send>>>;
}

/// One open file.
pub trait MediumFile: Debug + Send {
    /// Writes some of `bytes` at an offset; answers how many.
    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<usize>;
    /// What was written is kept when this returns.
    fn sync_data(&mut self) -> io::Result<()>;
    /// The same, and everything about the file.
    fn sync_all(&mut self) -> io::Result<()>;
    /// Cuts it, or lengthens it with zeros.
    fn set_len(&mut self, len: u64) -> io::Result<()>;
    /// Sees to it that the file is at least so long and has room for all of it. What is new are zeros.
    fn allocate(&mut self, len: u64) -> io::Result<()>;

    /// Writes all of `bytes` at an offset.
    fn write_all_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            match self.write_at(rest, at + done as u64) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => done += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Whether a refusal says that there is no room, and nothing worse.
pub(crate) fn is_no_room(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded
    )
}

/// The operating system's files.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemFiles;

impl Medium for SystemFiles {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        std::fs::create_dir_all(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let entries = std::fs::read_dir(dir)?;
        entries.map(|entry| Ok(entry?.path())).collect()
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn MediumFile>> {
        Ok(Box::new(SystemFile(File::create(path)?)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn MediumFile>> {
        let file = OpenOptions::new().write(true).open(path)?;
        Ok(Box::new(SystemFile(file)))
    }

    fn read(&self, path: &Path) -> io::Result<(Box<dyn Read + Send>, u64)> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        Ok((Box::new(file), len))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Debug + Send>>> {
        let open = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)?;
        match open.try_lock() {
            Ok(()) => Ok(Some(Box::new(open))),
            Err(std::fs::TryLockError::WouldBlock) => Ok(None),
            Err(std::fs::TryLockError::Error(error)) => Err(error),
        }
    }
}

#[derive(Debug)]
struct SystemFile(File);

impl MediumFile for SystemFile {
    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<usize> {
        self.0.write_at(bytes, at)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn sync_all(&mut self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn allocate(&mut self, len: u64) -> io::Result<()> {
        let have = self.0.metadata()?.len();
        if have >= len {
            return Ok(());
        }
        #[cfg(target_os = "linux")]
        {
            use rustix::fs::{FallocateFlags, fallocate};
            match fallocate(&self.0, FallocateFlags::empty(), have, len - have) {
                Err(rustix::io::Errno::OPNOTSUPP) => {}
                done => return Ok(done?),
            }
        }
        // Zeros hold the room where nothing else does.
        let zeros = [0; 64 << 10];
        let mut at = have;
        while at < len {
            let part = (len - at).min(zeros.len() as u64) as usize;
            let written = self.write_all_at(zeros.get(..part).unwrap_or_default(), at);
            if let Err(error) = written {
                self.0.set_len(have)?;
                return Err(error);
            }
            at += part as u64;
        }
        Ok(())
    }
}
