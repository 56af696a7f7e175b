//! The file of a program: opened once, and executed from that very descriptor ever after.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use sha2::{Digest, Sha256};

/// Opens a program. With a digest (hexadecimal) it is copied into sealed memory first, checked there and executed from
/// there, so that nobody changes it between the check and the execution, nor later.
///
/// Errors with what is wrong, and what to do.
pub(super) fn open(path: &Path, sha256: Option<&str>) -> Result<OwnedFd, String> {
    let shown = path.display();
    // A device or a pipe must not keep its opener waiting.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| {
        format!("`{shown}` cannot be opened ({e}); name a program that exists and can be read")
    })?;
    let mut file = File::from(fd);
    let unread = |e: io::Error| format!("`{shown}` cannot be read ({e})");
    let meta = file.metadata().map_err(unread)?;
    if !meta.is_file() || meta.permissions().mode() & 0o111 == 0 {
        return Err(format!(
            "`{shown}` is no program: not a file that may be executed"
        ));
    }
    let mut start = [0; 2];
    if file.read_at(&mut start, 0).map_err(unread)? == 2 && &start == b"#!" {
        return Err(format!(
            "`{shown}` is a script, which its interpreter would run; name the interpreter, and the script in `fixed`"
        ));
    }
    let Some(expected) = sha256 else {
        return Ok(file.into());
    };
    let (sealed, digest) = copied(&mut file).map_err(unread)?;
    if !digest.eq_ignore_ascii_case(expected) {
        return Err(format!(
            "`{shown}` has the digest {digest}, not that of the grant"
        ));
    }
    Ok(sealed)
}

/// The file's contents in memory that nobody can change, and their digest.
fn copied(file: &mut File) -> io::Result<(OwnedFd, String)> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Kernels before 6.3 know no `EXEC` and need none.
    let memory = rustix::fs::memfd_create("loop-program", flags | MemfdFlags::EXEC)
        .or_else(|_| rustix::fs::memfd_create("loop-program", flags))?;
    let mut memory = File::from(memory);
    file.rewind()?;
    let mut digest = Sha256::new();
    let mut chunk = vec![0; 256 << 10];
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            break;
        }
        digest.update(&chunk[..read]);
        memory.write_all(&chunk[..read])?;
    }
    rustix::fs::fchmod(&memory, Mode::from_raw_mode(0o500))?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&memory, seals)?;
    let hex = digest.finalize().iter().map(|b| format!("{b:02x}")).collect();
    Ok((memory.into(), hex))
}
