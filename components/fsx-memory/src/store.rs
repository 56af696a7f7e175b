//! Files, directories and links, and how much of them there may be.

use std::collections::{BTreeMap, BTreeSet};

use crate::exports::loop_::fsx::files::{ErrorCode, Instant};
use crate::grant::{Count, Links};
use crate::loop_::core::clock;
use crate::watches::Watches;

pub type Id = u64;
pub type Result<T> = std::result::Result<T, ErrorCode>;

/// The largest size that a file may be said to have.
pub const MAX_SIZE: u64 = (1 << 63) - 1;

/// Bytes that must be left before anything is added, for all that is not asked for.
const HEADROOM: usize = 1 << 20;

/// A directory that a grant opens.
pub struct Root {
    pub top: Id,
    pub volume: usize,
    pub links: Links,
    /// Whether anything may be changed.
    pub writable: bool,
}

impl Root {
    /// The volume, if anything may be changed there.
    pub fn to_change(&self) -> Result<usize> {
        if self.writable {
            Ok(self.volume)
        } else {
            Err(ErrorCode::ReadOnly)
        }
    }
}

pub struct Node {
    pub content: Content,
    pub modified: Instant,
}

pub enum Content {
    File(File),
    Directory(Directory),
    Link(String),
}

#[derive(Default)]
pub struct File {
    pub data: Vec<u8>,
    /// How many names it has in each volume, and streams that came from there: each volume has its bytes once.
    held: BTreeMap<usize, u32>,
}

#[derive(Default)]
pub struct Directory {
    pub entries: BTreeMap<String, Id>,
    /// The directory that it is in, and its name there; None: it is a root.
    pub above: Option<(Id, String)>,
}

impl Node {
    fn new(content: Content) -> Self {
        let now = clock::now();
        let modified = Instant {
            seconds: now.seconds,
            nanoseconds: now.nanoseconds,
        };
        Node { content, modified }
    }

    pub fn file(data: Vec<u8>) -> Self {
        let held = BTreeMap::new();
        Node::new(Content::File(File { data, held }))
    }

    pub fn directory() -> Self {
        Node::new(Content::Directory(Directory::default()))
    }

    pub fn link(target: String) -> Self {
        Node::new(Content::Link(target))
    }

    pub fn is_directory(&self) -> bool {
        matches!(self.content, Content::Directory(_))
    }

    pub fn size(&self) -> u64 {
        match &self.content {
            Content::File(file) => file.data.len() as u64,
            _ => 0,
        }
    }
}

/// What a root, or all temporary directories together, hold and may hold.
struct Volume {
    used: Count,
    most: Count,
}

#[derive(Default)]
pub struct Store {
    nodes: BTreeMap<Id, Node>,
    last: Id,
    volumes: Vec<Volume>,
    pub watches: Watches,
}

const ONE: Count = Count { bytes: 0, files: 1 };

fn bytes(bytes: u64) -> Count {
    Count { bytes, files: 0 }
}

/// Whether there is memory for `more` bytes at the end of `data`, and some to go on with.
fn reserve(data: &mut Vec<u8>, more: usize) -> Result<()> {
    let full = |_| ErrorCode::InsufficientSpace;
    data.try_reserve(more).map_err(full)?;
    let mut rest = Vec::<u8>::new();
    rest.try_reserve_exact(HEADROOM).map_err(full)?;
    // it was asked for to see whether it is there
    std::hint::black_box(&rest);
    Ok(())
}

impl Store {
    pub fn volume(&mut self, most: Count) -> usize {
        let used = Count::default();
        self.volumes.push(Volume { used, most });
        self.volumes.len() - 1
    }

    /// A directory that is in no other.
    pub fn top(&mut self) -> Id {
        self.insert(Node::directory())
    }

    fn insert(&mut self, node: Node) -> Id {
        self.last += 1;
        self.nodes.insert(self.last, node);
        self.last
    }

    pub fn get(&self, id: Id) -> Option<&Node> {
        self.nodes.get(&id)
    }

    /// What has a name, or is open.
    pub fn node(&self, id: Id) -> &Node {
        self.nodes.get(&id).expect("it is there")
    }

    pub fn node_mut(&mut self, id: Id) -> &mut Node {
        self.nodes.get_mut(&id).expect("it is there")
    }

    pub fn is_directory(&self, id: Id) -> bool {
        self.get(id).is_some_and(Node::is_directory)
    }

    pub fn entries(&self, id: Id) -> Result<&BTreeMap<String, Id>> {
        match self.get(id).map(|node| &node.content) {
            Some(Content::Directory(directory)) => Ok(&directory.entries),
            Some(_) => Err(ErrorCode::NotDirectory),
            None => Err(ErrorCode::NoEntry),
        }
    }

    pub fn directory_mut(&mut self, id: Id) -> &mut Directory {
        match &mut self.node_mut(id).content {
            Content::Directory(directory) => directory,
            _ => unreachable!("nothing but a directory has entries"),
        }
    }

    /// The contents of a file.
    pub fn bytes(&self, id: Id) -> Result<&[u8]> {
        match &self.node(id).content {
            Content::File(file) => Ok(&file.data),
            Content::Directory(_) => Err(ErrorCode::IsDirectory),
            Content::Link(_) => Err(ErrorCode::Unsupported),
        }
    }

    fn is_file(&self, id: Id) -> bool {
        matches!(self.node(id).content, Content::File(_))
    }

    fn file_of(&self, id: Id) -> &File {
        match &self.node(id).content {
            Content::File(file) => file,
            _ => unreachable!("what is opened as a file is one"),
        }
    }

    fn file_mut(&mut self, id: Id) -> &mut File {
        match &mut self.node_mut(id).content {
            Content::File(file) => file,
            _ => unreachable!("what is opened as a file is one"),
        }
    }

    pub fn lookup(&self, dir: Id, name: &str) -> Option<Id> {
        self.entries(dir).ok()?.get(name).copied()
    }

    /// Takes what will be added, before it is.
    pub fn take(&mut self, volume: usize, more: Count) -> Result<()> {
        let Volume { used, most } = &mut self.volumes[volume];
        let then = Count {
            bytes: used.bytes.saturating_add(more.bytes),
            files: used.files.saturating_add(more.files),
        };
        // what was too much from the start hinders nothing but what is added
        let too_much = |then, was, most| then > most && then > was;
        if too_much(then.bytes, used.bytes, most.bytes) || too_much(then.files, used.files, most.files) {
            return Err(ErrorCode::Quota);
        }
        *used = then;
        Ok(())
    }

    pub fn give(&mut self, volume: usize, less: Count) {
        let used = &mut self.volumes[volume].used;
        used.bytes -= less.bytes;
        used.files -= less.files;
    }

    /// Holds a file: a name of it, or a stream.
    pub fn hold(&mut self, volume: usize, id: Id) -> Result<()> {
        let size = self.node(id).size();
        if !self.file_mut(id).held.contains_key(&volume) {
            self.take(volume, bytes(size))?;
        }
        *self.file_mut(id).held.entry(volume).or_default() += 1;
        Ok(())
    }

    /// Lets go of a file, which is gone when nobody holds it.
    pub fn release(&mut self, volume: usize, id: Id) {
        let size = self.node(id).size();
        let file = self.file_mut(id);
        let held = file.held.get_mut(&volume).expect("it is held");
        *held -= 1;
        if *held > 0 {
            return;
        }
        file.held.remove(&volume);
        let gone = file.held.is_empty();
        self.give(volume, bytes(size));
        if gone {
            self.nodes.remove(&id);
        }
    }

    /// A file without a name yet, held by a stream.
    pub fn unnamed(&mut self, volume: usize) -> Result<Id> {
        reserve(&mut vec![], 0)?;
        self.take(volume, ONE)?;
        let id = self.insert(Node::file(vec![]));
        *self.file_mut(id).held.entry(volume).or_default() += 1;
        Ok(id)
    }

    /// Lets go of a file that got no name.
    pub fn forget(&mut self, volume: usize, id: Id) {
        self.give(volume, ONE);
        self.release(volume, id);
    }

    /// Adds something new to a directory.
    pub fn create(&mut self, volume: usize, dir: Id, name: &str, mut node: Node) -> Result<Id> {
        reserve(&mut vec![], 0)?;
        let more = Count {
            bytes: node.size(),
            files: 1,
        };
        self.take(volume, more)?;
        match &mut node.content {
            Content::File(file) => {
                file.held.insert(volume, 1);
            }
            Content::Directory(directory) => directory.above = Some((dir, name.into())),
            Content::Link(_) => {}
        }
        let id = self.insert(node);
        self.enter(dir, name, id);
        self.tell_created(dir, name, id);
        Ok(id)
    }

    /// Gives a file that has been held a name, in place of what has that now: its own hold becomes that of the name.
    pub fn name(&mut self, volume: usize, dir: Id, name: &str, id: Id) {
        match self.lookup(dir, name) {
            Some(old) => {
                self.give(volume, ONE);
                self.drop_content(volume, old);
                self.enter(dir, name, id);
                self.tell_modified(dir, name);
            }
            None => {
                self.enter(dir, name, id);
                self.tell_created(dir, name, id);
            }
        }
    }

    /// Gives a file a second name.
    pub fn link(&mut self, volume: usize, dir: Id, name: &str, id: Id) -> Result<()> {
        reserve(&mut vec![], 0)?;
        self.take(volume, ONE)?;
        if let Err(code) = self.hold(volume, id) {
            self.give(volume, ONE);
            return Err(code);
        }
        self.enter(dir, name, id);
        self.tell_created(dir, name, id);
        Ok(())
    }

    /// Removes a file, a link, or an empty directory.
    pub fn remove(&mut self, volume: usize, dir: Id, name: &str) {
        let Some(id) = self.lookup(dir, name) else { return };
        self.tell_removed(dir, name, id);
        self.directory_mut(dir).entries.remove(name);
        self.touch(dir);
        self.give(volume, ONE);
        self.drop_content(volume, id);
    }

    /// Forgets what a name stood for.
    pub fn drop_content(&mut self, volume: usize, id: Id) {
        if self.is_file(id) {
            self.release(volume, id);
        } else {
            self.nodes.remove(&id);
        }
    }

    /// Puts a name into a directory, and says so to whatever is a directory itself.
    pub fn enter(&mut self, dir: Id, name: &str, id: Id) {
        self.directory_mut(dir).entries.insert(name.into(), id);
        if let Content::Directory(directory) = &mut self.node_mut(id).content {
            directory.above = Some((dir, name.into()));
        }
        self.touch(dir);
    }

    pub fn touch(&mut self, id: Id) {
        let now = clock::now();
        self.node_mut(id).modified = Instant {
            seconds: now.seconds,
            nanoseconds: now.nanoseconds,
        };
    }

    /// Takes or gives back what makes a file of its size one of `size`, wherever it is held.
    fn resize(&mut self, id: Id, size: u64) -> Result<()> {
        let old = self.node(id).size();
        let volumes: Vec<usize> = self.file_mut(id).held.keys().copied().collect();
        if size <= old {
            for volume in volumes {
                self.give(volume, bytes(old - size));
            }
            return Ok(());
        }
        for (taken, volume) in volumes.iter().enumerate() {
            if let Err(code) = self.take(*volume, bytes(size - old)) {
                for volume in &volumes[..taken] {
                    self.give(*volume, bytes(size - old));
                }
                return Err(code);
            }
        }
        Ok(())
    }

    /// Writes into a file, from `offset` on.
    pub fn put(&mut self, id: Id, offset: u64, data: &[u8]) -> Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        let end = offset
            .checked_add(data.len() as u64)
            .filter(|end| *end <= MAX_SIZE)
            .ok_or(ErrorCode::FileTooLarge)?;
        if end > self.node(id).size() {
            self.set_size(id, end)?;
        }
        // within what is in memory by now
        let at = offset as usize;
        self.file_mut(id).data[at..at + data.len()].copy_from_slice(data);
        self.touch(id);
        Ok(())
    }

    /// Makes a file hold these bytes.
    pub fn set(&mut self, id: Id, data: Vec<u8>) -> Result<()> {
        self.resize(id, data.len() as u64)?;
        self.file_mut(id).data = data;
        self.touch(id);
        Ok(())
    }

    /// Cuts the end of a file off, or adds zeroes.
    pub fn set_size(&mut self, id: Id, size: u64) -> Result<()> {
        if size > MAX_SIZE {
            return Err(ErrorCode::FileTooLarge);
        }
        let old = self.node(id).size();
        self.resize(id, size)?;
        let data = &mut self.file_mut(id).data;
        if size > old {
            let more = usize::try_from(size - old).map_err(|_| ErrorCode::InsufficientSpace);
            if let Err(code) = more.and_then(|more| reserve(data, more)) {
                data.shrink_to_fit();
                // what was taken was not added after all
                for volume in self.file_mut(id).held.keys().copied().collect::<Vec<_>>() {
                    self.give(volume, bytes(size - old));
                }
                return Err(code);
            }
        }
        data.resize(size as usize, 0);
        if size < old / 2 {
            data.shrink_to_fit();
        }
        self.touch(id);
        Ok(())
    }

    /// The bytes of a file once more.
    pub fn copied(&self, id: Id) -> Result<Vec<u8>> {
        let data = self.bytes(id)?;
        let mut copy = vec![];
        reserve(&mut copy, data.len())?;
        copy.extend_from_slice(data);
        Ok(copy)
    }

    /// Moves what is in one volume to another, if its quota lets it: `id` and all that is below it.
    pub fn moved(&mut self, from: usize, to: usize, id: Id) -> Result<()> {
        if from == to {
            return Ok(());
        }
        let all: Vec<Id> = self
            .below(id)
            .into_iter()
            .map(|(_, _, id)| id)
            .chain([id])
            .collect();
        let files: BTreeSet<Id> = all.iter().copied().filter(|id| self.is_file(*id)).collect();
        let new = files
            .iter()
            .filter(|id| !self.file_of(**id).held.contains_key(&to));
        let size = new.map(|id| self.node(*id).size()).sum();
        let more = Count {
            bytes: size,
            files: all.len() as u64,
        };
        self.take(to, more)?;
        for id in all {
            if files.contains(&id) {
                *self.file_mut(id).held.entry(to).or_default() += 1;
                self.release(from, id);
            }
            self.give(from, ONE);
        }
        Ok(())
    }
}
