//! Files in memory that fail as disks fail: for tests, on purpose, from a seed.
//!
//! ```text
//!   write ─► seen by readers at once ─► waits ─sync─► kept
//!                                        └ crash: each 512 bytes may be kept, or not; names, a prefix of what happened
//! ```
//!
//! A failed sync drops what waited, as kernels do: a second one would say yes and keep nothing. The room is counted by
//! the lengths of files. Knows nothing of what is in them.

use crate::medium::{Medium, MediumFile};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::{self, Cursor, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const SECTOR_BYTES: usize = 512;

/// A medium in memory.
#[derive(Clone, Debug)]
pub struct FaultyFiles(Arc<Mutex<Disk>>);

#[derive(Debug)]
struct Disk {
    chance: Chance,
    names: BTreeMap<PathBuf, usize>,
    kept_names: BTreeMap<PathBuf, usize>,
    /// What happened to names since the last sync of the directory.
    name_changes: Vec<NameChange>,
    files: Vec<Content>,
    capacity_bytes: u64,
    /// The sync that fails, counted from now; 0 for none.
    sync_fails_in: u64,
    syncs: u64,
    has_short_writes: bool,
    sync_delay: Duration,
}

#[derive(Clone, Debug)]
enum NameChange {
    Set(PathBuf, usize),
    Remove(PathBuf),
}

#[derive(Debug, Default)]
struct Content {
    now: Vec<u8>,
    kept: Vec<u8>,
    /// What waits for a sync.
    waiting: Vec<Step>,
}

#[derive(Clone, Debug)]
enum Step {
    Write(usize, Vec<u8>),
    Len(usize),
}

/// Numbers from a seed (splitmix64).
#[derive(Clone, Debug)]
struct Chance(u64);

impl Chance {
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`, which is not 0.
    fn below(&mut self, end: usize) -> usize {
        (self.draw() % end.max(1) as u64) as usize
    }
}

fn apply(content: &mut Vec<u8>, step: &Step) {
    match step {
        Step::Len(len) => content.resize(*len, 0),
        Step::Write(at, bytes) => {
            let end = at + bytes.len();
            if content.len() < end {
                content.resize(end, 0);
            }
            if let Some(place) = content.get_mut(*at..end) {
                place.copy_from_slice(bytes);
            }
        }
    }
}

impl FaultyFiles {
    /// An empty medium without faults and without end.
    #[must_use]
    pub fn new(seed: u64) -> FaultyFiles {
        FaultyFiles(Arc::new(Mutex::new(Disk {
            chance: Chance(seed),
            names: BTreeMap::new(),
            kept_names: BTreeMap::new(),
            name_changes: Vec::new(),
            files: Vec::new(),
            capacity_bytes: u64::MAX,
            sync_fails_in: 0,
            syncs: 0,
            has_short_writes: false,
            sync_delay: Duration::ZERO,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How much all files may hold together.
    pub fn set_capacity_bytes(&self, bytes: u64) {
        self.lock().capacity_bytes = bytes;
    }

    /// How much they hold.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.lock().used_bytes()
    }

    /// The sync that is the `nth` from now fails, and what waited for it is lost sooner or later.
    pub fn fail_sync(&self, nth: u64) {
        self.lock().sync_fails_in = nth;
    }

    /// How often anything was synced.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// Whether a write may take only a part of what it is given.
    pub fn set_short_writes(&self, on: bool) {
        self.lock().has_short_writes = on;
    }

    /// How long a sync takes.
    pub fn set_sync_delay(&self, delay: Duration) {
        self.lock().sync_delay = delay;
    }

    /// What is found after the power was lost now. Faults are gone, this one goes on untouched.
    #[must_use]
    pub fn after_crash(&self, seed: u64) -> FaultyFiles {
        let before = self.lock();
        let mut chance = Chance(seed);
        let mut names = before.kept_names.clone();
        let lived = chance.below(before.name_changes.len() + 1);
        for change in before.name_changes.iter().take(lived) {
            change.apply(&mut names);
        }
        let files = before.files.iter().map(|file| {
            let found = file.after_crash(&mut chance);
            Content {
                now: found.clone(),
                kept: found,
                waiting: Vec::new(),
            }
        });
        let files = files.collect();
        let after = FaultyFiles::new(chance.draw());
        {
            let mut disk = after.lock();
            disk.kept_names = names.clone();
            disk.names = names;
            disk.files = files;
        }
        after
    }

    /// Turns one bit of a file over. False when there is no such byte.
    pub fn flip(&self, path: &Path, at: usize, bit: u32) -> bool {
        let mut disk = self.lock();
        let number = disk.names.get(path).copied();
        let Some(file) = number.and_then(|number| disk.files.get_mut(number)) else {
            return false;
        };
        for content in [&mut file.now, &mut file.kept] {
            match content.get_mut(at) {
                Some(byte) => *byte ^= 1 << (bit % 8),
                None => return false,
            }
        }
        true
    }

    /// What a file holds now.
    #[must_use]
    pub fn bytes_of(&self, path: &Path) -> Option<Vec<u8>> {
        let disk = self.lock();
        let number = *disk.names.get(path)?;
        disk.files.get(number).map(|file| file.now.clone())
    }

    /// All names.
    #[must_use]
    pub fn names(&self) -> Vec<PathBuf> {
        self.lock().names.keys().cloned().collect()
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            NameChange::Set(path, file) => {
                // A file has one name: the one before goes.
                names.retain(|_, other| other != file);
                names.insert(path.clone(), *file);
            }
            NameChange::Remove(path) => {
                names.remove(path);
            }
        }
    }
}

impl Content {
    fn step(&mut self, step: Step) {
        apply(&mut self.now, &step);
        self.waiting.push(step);
    }

    /// What waited is there up to some moment, or in some sectors, or not at all.
    fn after_crash(&self, chance: &mut Chance) -> Vec<u8> {
        let mut found = self.kept.clone();
        let in_order = chance.below(2) == 0;
        let lived = chance.below(self.waiting.len() + 1);
        for (number, step) in self.waiting.iter().enumerate() {
            match step {
                _ if in_order && number > lived => break,
                Step::Write(at, bytes) if in_order && number == lived => {
                    let torn = chance.below(bytes.len() + 1);
                    let part = bytes.get(..torn).unwrap_or_default();
                    apply(&mut found, &Step::Write(*at, part.to_vec()));
                }
                Step::Write(at, bytes) if !in_order => {
                    for (sector, part) in bytes.chunks(SECTOR_BYTES).enumerate() {
                        if chance.below(2) == 0 {
                            let at = at + sector * SECTOR_BYTES;
                            apply(&mut found, &Step::Write(at, part.to_vec()));
                        }
                    }
                }
                Step::Len(_) if !in_order && chance.below(2) == 0 => {}
                step => apply(&mut found, step),
            }
        }
        found
    }
}

impl Disk {
    fn used_bytes(&self) -> u64 {
        let len = |number: &usize| self.files.get(*number).map_or(0, |file| file.now.len());
        self.names.values().map(|number| len(number) as u64).sum()
    }

    fn change_name(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.name_changes.push(change);
    }

    fn file(&mut self, number: usize) -> io::Result<&mut Content> {
        self.files
            .get_mut(number)
            .ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        let found = self.names.get(path).copied();
        found.ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn free_bytes(&self) -> u64 {
        self.capacity_bytes.saturating_sub(self.used_bytes())
    }

    /// Whether this sync is the one that fails.
    fn fails(&mut self) -> bool {
        self.syncs += 1;
        let fails = self.sync_fails_in == 1;
        self.sync_fails_in = self.sync_fails_in.saturating_sub(1);
        fails
    }
}

fn broken() -> io::Error {
    io::Error::other("the medium is broken")
}

impl Medium for FaultyFiles {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let mut names = self.names();
        names.retain(|path| path.parent() == Some(dir));
        Ok(names)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn MediumFile>> {
        let mut disk = self.lock();
        let number = disk.files.len();
        disk.files.push(Content::default());
        disk.change_name(NameChange::Set(path.to_owned(), number));
        let disk = self.clone();
        Ok(Box::new(FaultyFile { disk, number }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn MediumFile>> {
        let number = self.lock().find(path)?;
        let disk = self.clone();
        Ok(Box::new(FaultyFile { disk, number }))
    }

    fn read(&self, path: &Path) -> io::Result<(Box<dyn Read + Send>, u64)> {
        let bytes = self.bytes_of(path).ok_or(ErrorKind::NotFound)?;
        let len = bytes.len() as u64;
        Ok((Box::new(Cursor::new(bytes)), len))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.lock();
        let number = disk.find(from)?;
        disk.change_name(NameChange::Set(to.to_owned(), number));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.lock();
        disk.find(path)?;
        disk.change_name(NameChange::Remove(path.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        let mut disk = self.lock();
        if disk.fails() {
            disk.name_changes.clear();
            return Err(broken());
        }
        disk.kept_names = disk.names.clone();
        disk.name_changes.clear();
        Ok(())
    }

    fn lock(&self, _: &Path) -> io::Result<Option<Box<dyn Debug + Send>>> {
        Ok(Some(Box::new(())))
    }
}

#[derive(Debug)]
struct FaultyFile {
    disk: FaultyFiles,
    number: usize,
}

impl MediumFile for FaultyFile {
    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<usize> {
        let mut disk = self.disk.lock();
        let mut count = bytes.len();
        if disk.has_short_writes && count > 1 {
            count = 1 + disk.chance.below(count);
        }
        let free = disk.free_bytes();
        let at = usize::try_from(at).map_err(io::Error::other)?;
        let len = disk.file(self.number)?.now.len();
        let grows = (at + count).saturating_sub(len) as u64;
        if grows > free {
            // A disk takes what fits before it says no.
            count = count.saturating_sub((grows - free) as usize);
        }
        if count == 0 && !bytes.is_empty() {
            return Err(ErrorKind::StorageFull.into());
        }
        let part = bytes.get(..count).unwrap_or_default().to_vec();
        disk.file(self.number)?.step(Step::Write(at, part));
        Ok(count)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        let delay = self.disk.lock().sync_delay;
        if !delay.is_zero() {
            std::thread::sleep(delay);
        }
        let mut disk = self.disk.lock();
        let fails = disk.fails();
        let file = disk.file(self.number)?;
        if fails {
            // Nobody tries these again.
            file.waiting.clear();
            return Err(broken());
        }
        if file.waiting.iter().any(|step| matches!(step, Step::Len(_))) {
            file.kept.resize(file.now.len(), 0);
        }
        let waiting = std::mem::take(&mut file.waiting);
        waiting.iter().for_each(|step| apply(&mut file.kept, step));
        Ok(())
    }

    fn sync_all(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let free = disk.free_bytes();
        let len = usize::try_from(len).map_err(io::Error::other)?;
        let file = disk.file(self.number)?;
        // Lengthening takes no room on real disks; here it does, which is stricter.
        if (len.saturating_sub(file.now.len())) as u64 > free {
            return Err(ErrorKind::StorageFull.into());
        }
        file.step(Step::Len(len));
        Ok(())
    }

    fn allocate(&mut self, len: u64) -> io::Result<()> {
        let have = self.disk.lock().file(self.number)?.now.len() as u64;
        if have >= len {
            return Ok(());
        }
        self.set_len(len)
    }
}
