//! Arenas in memfds.

use std::io;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use rustix::fs::{
    FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, fcntl_get_seals, fstat, fstatfs,
    ftruncate, memfd_create,
};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::{Descriptor, MOST};
use crate::failure::Failure;

/// What makes reading safe: the memory keeps its size, nobody makes holes in it by the descriptor or by mapping it anew,
/// and none of this can be added to or taken back. The writer's own mapping, made before, still writes.
const SEALS: SealFlags = SealFlags::SHRINK
    .union(SealFlags::GROW)
    .union(SealFlags::FUTURE_WRITE)
    .union(SealFlags::SEAL);
/// The file system of memfds in ordinary pages. Of huge ones there may be none left when they are read, which kills.
const TMPFS: i64 = 0x0102_1994;

/// A mapping of all of a descriptor's memory.
struct Mapping {
    at: NonNull<u8>,
    size: usize,
}

// SAFETY: it is memory of the process, not of a thread; `Arena` writes by `&mut self`.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(fd: &Descriptor, size: usize, prot: ProtFlags) -> io::Result<Mapping> {
        let flags = MapFlags::SHARED | MapFlags::POPULATE;
        // SAFETY: a new mapping, where the kernel likes it.
        let at = unsafe { mmap(std::ptr::null_mut(), size, prot, flags, fd, 0)? };
        match NonNull::new(at.cast()) {
            Some(at) => Ok(Mapping { at, size }),
            None => Err(io::ErrorKind::OutOfMemory.into()),
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it was mapped so, and nothing refers to it any longer.
        let _ = unsafe { munmap(self.at.as_ptr().cast(), self.size) };
    }
}

/// Memory to write payloads to.
pub struct Arena(Mapping);

impl Arena {
    /// Memory of that size, and what the reader needs.
    ///
    /// Errors where the system has no descriptor, memory or seals for it.
    pub fn new(size: usize) -> io::Result<(Arena, Descriptor)> {
        let fd = memfd_create("loop-arena", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&fd, size as u64)?;
        // what is lacking is missed here, and not when a page is touched
        fallocate(&fd, FallocateFlags::empty(), 0, size as u64)?;
        let mapping = Mapping::new(&fd, size, ProtFlags::READ | ProtFlags::WRITE)?;
        fcntl_add_seals(&fd, SEALS)?;
        Ok((Arena(mapping), fd))
    }

    /// Puts bytes at an offset.
    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        assert!(offset <= self.0.size && bytes.len() <= self.0.size - offset);
        // SAFETY: within the mapping, which is writable.
        unsafe {
            let to = self.0.at.as_ptr().add(offset);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
        }
    }
}

/// Memory of the peer's, to read payloads from.
pub struct View(Mapping);

impl View {
    /// Looks at memory that is to be of that size.
    ///
    /// Errors where it is not, or reading it could end this process.
    pub fn open(fd: &Descriptor, size: u64) -> Result<View, Failure> {
        let unfit = |why: &str| Failure::protocol(format!("an arena {why}"));
        let system = |e: rustix::io::Errno| unfit(&format!("cannot be looked at: {e}"));
        if !(1..=MOST).contains(&size) {
            return Err(unfit(&format!("of {size} bytes; 1 to {MOST} are taken")));
        }
        // other files have none, or cannot have all
        let sealed = fcntl_get_seals(fd).is_ok_and(|seals| seals.contains(SEALS));
        if !sealed || fstatfs(fd).map_err(system)?.f_type as i64 != TMPFS {
            return Err(unfit("is not sealed against changes of its size"));
        }
        let stat = fstat(fd).map_err(system)?;
        if stat.st_size as u64 != size || (stat.st_blocks as u64) * 512 < size {
            return Err(unfit(&format!(
                "is of {} bytes, {size} were announced",
                stat.st_size
            )));
        }
        Mapping::new(fd, size as usize, ProtFlags::READ)
            .map(View)
            .map_err(|e| unfit(&format!("cannot be mapped: {e}")))
    }

    /// Whether so many bytes at an offset are within it.
    pub fn holds(&self, offset: usize, length: usize) -> bool {
        offset <= self.0.size && length <= self.0.size - offset
    }

    /// Copies bytes from an offset. The peer may write to them meanwhile: what is copied is some bytes.
    pub fn copy(&self, offset: usize, to: &mut [MaybeUninit<u8>]) {
        assert!(self.holds(offset, to.len()));
        // SAFETY: within the mapping, which lives as long as this. Each byte is read once, by the address, and no
        // reference to it exists, so that nothing is concluded from what it was.
        unsafe {
            let from = self.0.at.as_ptr().add(offset);
            std::ptr::copy_nonoverlapping(from, to.as_mut_ptr().cast(), to.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(fd: &Descriptor, size: u64) -> String {
        match View::open(fd, size) {
            Ok(_) => panic!("it is taken"),
            Err(failure) => failure.message,
        }
    }

    fn read(view: &View, offset: usize, n: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(n);
        view.copy(offset, &mut bytes.spare_capacity_mut()[..n]);
        // SAFETY: just copied.
        unsafe { bytes.set_len(n) };
        bytes
    }

    #[test]
    fn what_is_written_can_be_read_after_the_writer_has_gone() {
        let (mut arena, fd) = Arena::new(8192).unwrap();
        let view = View::open(&fd, 8192).unwrap();
        drop(fd);
        arena.write(4090, b"across pages");
        assert_eq!(read(&view, 4090, 12), b"across pages");
        arena.write(4090, b"then changed");
        drop(arena);
        assert_eq!(read(&view, 4090, 12), b"then changed");
        assert_eq!(read(&view, 8191, 1), b"\0");
    }

    #[test]
    fn who_passes_an_arena_on_cannot_take_it_back() {
        let (_arena, fd) = Arena::new(8192).unwrap();
        for size in [0, 4096, 1 << 20] {
            assert!(ftruncate(&fd, size).is_err());
        }
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        assert!(fallocate(&fd, hole, 0, 4096).is_err(), "no holes");
        assert!(fcntl_add_seals(&fd, SealFlags::WRITE).is_err(), "no more seals");
        assert!(rustix::io::pwrite(&fd, b"x", 0).is_err());
        let write = ProtFlags::READ | ProtFlags::WRITE;
        assert!(Mapping::new(&fd, 8192, write).is_err(), "no other writer");
    }

    #[test]
    fn what_could_end_the_reader_is_not_looked_at() {
        let made = |seals: SealFlags, size: u64, filled: bool| {
            let fd = memfd_create("test", MemfdFlags::ALLOW_SEALING).unwrap();
            ftruncate(&fd, size).unwrap();
            if filled {
                fallocate(&fd, FallocateFlags::empty(), 0, size).unwrap();
            }
            fcntl_add_seals(&fd, seals).unwrap();
            fd
        };
        for missing in [
            SealFlags::SHRINK,
            SealFlags::GROW,
            SealFlags::SEAL,
            SealFlags::FUTURE_WRITE,
        ] {
            let why = failure(&made(SEALS - missing, 4096, true), 4096);
            assert!(why.contains("not sealed"), "{missing:?}: {why}");
        }
        let why = failure(&made(SEALS, 8192, true), 4096);
        assert!(why.contains("is of 8192 bytes, 4096 were announced"), "{why}");
        failure(&made(SEALS, 4096, true), 8192);
        // a page that is not there would have to be found when it is read
        failure(&made(SEALS, 8192, false), 8192);
        failure(&made(SEALS, 0, false), 0);
        assert!(failure(&made(SEALS, 4096, true), MOST + 1).contains("are taken"));
        let file: Descriptor = tempfile::tempfile().unwrap().into();
        ftruncate(&file, 4096).unwrap();
        failure(&file, 4096);
        let (pipe, _) = std::io::pipe().unwrap();
        failure(&pipe.into(), 4096);
        // of huge pages, where the system has some to promise
        if let Ok(fd) = memfd_create("test", MemfdFlags::ALLOW_SEALING | MemfdFlags::HUGETLB) {
            ftruncate(&fd, 2 << 20).unwrap();
            fcntl_add_seals(&fd, SEALS).unwrap();
            failure(&fd, 2 << 20);
        }
    }
}
