//! What holds a program on the kernel's side: landlock and seccomp, as far as the running kernel has them.
//!
//! landlock: files below what the grant names and no others, no TCP (ABI 4), no signal to a process outside (ABI 6).
//! seccomp: no way out of the process group, so that killing the group leaves nothing; no sockets; none of the calls
//! that are for administrators and debuggers.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetError, Scope, make_bitflags,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

/// What the running kernel can hold a program by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confinement {
    pub seccomp: bool,
    /// The version of landlock; 0: there is none.
    pub landlock: i32,
}

/// The first version that also holds `truncate`, below which a file that may only be read could be emptied.
const LANDLOCK_LEAST: i32 = 3;

impl Confinement {
    /// Asks the kernel.
    pub fn here() -> Self {
        const VERSION: libc::c_uint = 1;
        let none = std::ptr::null::<u8>();
        let landlock = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0usize, VERSION) };
        let action = libc::SECCOMP_RET_ERRNO;
        const ACTION_AVAILABLE: libc::c_uint = 2;
        let asked = unsafe { libc::syscall(libc::SYS_seccomp, ACTION_AVAILABLE, 0, &raw const action) };
        Confinement {
            seccomp: asked == 0 && architecture().is_some(),
            landlock: landlock.max(0) as i32,
        }
    }

    /// What is lacking, in words.
    pub fn lacking(self) -> Vec<String> {
        let mut lacking = vec![];
        if !self.seccomp {
            lacking.push("seccomp".to_string());
        }
        match self.landlock {
            0 => lacking.push("landlock".to_string()),
            version if version < LANDLOCK_LEAST => {
                lacking.push(format!("landlock {LANDLOCK_LEAST} (there is {version})"));
            }
            _ => {}
        }
        lacking
    }
}

/// What a program may touch.
pub(super) struct Reach<'a> {
    /// Its own file; none in memory, which is on no path and needs no rule.
    pub program: Option<&'a OwnedFd>,
    /// Directories and files to read, besides those of the system.
    pub read: &'a [PathBuf],
    /// To read and write.
    pub write: &'a [PathBuf],
    /// The roots, and whether they may be written to.
    pub roots: Vec<(OwnedFd, bool)>,
    /// Whether it may start other programs.
    pub exec: bool,
    /// Whether it may use the network.
    pub net: bool,
}

/// What programs are linked with and read as they start. `/proc` and `/sys` are not: they tell of other processes.
const SYSTEM: [&str; 10] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/alternatives",
    "/etc/ssl/certs",
];
/// Where the loader is, which every program starts with; executables of others too, under names of their own.
const LOADERS: [&str; 6] = ["/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib32", "/usr/lib64"];
const DEVICES: [&str; 5] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
];

/// The landlock ruleset of a program; none where the kernel has no landlock.
///
/// Errors with the index of the path among `read` and `write` that cannot be opened, or what else failed.
pub(super) fn ruleset(reach: Reach) -> Result<Option<OwnedFd>, (Option<usize>, String)> {
    let abi = ABI::V6;
    let other = |e: RulesetError| (None, e.to_string());
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(abi))
        .map_err(other)?;
    if !reach.net {
        rules = rules.handle_access(AccessNet::from_all(abi)).map_err(other)?;
    }
    let mut rules = rules
        .scope(Scope::from_all(abi))
        .map_err(other)?
        .create()
        .map_err(other)?;
    let read = make_bitflags!(AccessFs::{ReadFile | ReadDir});
    let run = if reach.exec {
        read | AccessFs::Execute
    } else {
        read
    };
    let change = AccessFs::from_all(abi) & !AccessFs::from_read(abi) & !AccessFs::IoctlDev;
    let there = |paths: &[&str]| {
        paths
            .iter()
            .filter_map(|p| PathFd::new(p).ok())
            .collect::<Vec<_>>()
    };
    for fd in there(&SYSTEM) {
        rules = allow(rules, fd, run).map_err(other)?;
    }
    for fd in there(&LOADERS) {
        rules = allow(rules, fd, read | AccessFs::Execute).map_err(other)?;
    }
    for fd in there(&DEVICES) {
        rules = allow(rules, fd, AccessFs::ReadFile | AccessFs::WriteFile).map_err(other)?;
    }
    if let Some(program) = reach.program {
        rules = allow(rules, program, AccessFs::ReadFile | AccessFs::Execute).map_err(other)?;
    }
    let named = reach.read.iter().map(|p| (p, run));
    for (index, (path, access)) in named
        .chain(reach.write.iter().map(|p| (p, run | change)))
        .enumerate()
    {
        let fd = PathFd::new(path).map_err(|e| (Some(index), e.to_string()))?;
        rules = allow(rules, fd, access).map_err(other)?;
    }
    for (root, write) in reach.roots {
        let access = if write { read | change } else { read };
        rules = allow(rules, root, access).map_err(other)?;
    }
    Ok(rules.into())
}

fn allow(
    rules: RulesetCreated,
    fd: impl AsFd,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    let file = rustix::fs::fstat(&fd).is_ok_and(|meta| {
        rustix::fs::FileType::from_raw_mode(meta.st_mode) != rustix::fs::FileType::Directory
    });
    let access = if file {
        access & AccessFs::from_file(ABI::V6)
    } else {
        access
    };
    rules.add_rule(PathBeneath::new(fd, access))
}

fn architecture() -> Option<TargetArch> {
    std::env::consts::ARCH.try_into().ok()
}

/// Calls that fail with `EPERM`: out of the process group, into other processes, and what is for administrators.
const REFUSED: &[libc::c_long] = &[
    libc::SYS_setsid,
    libc::SYS_setpgid,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_mount_setattr,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_syslog,
    libc::SYS_vhangup,
];

/// New namespaces.
const NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u64;

/// The seccomp filters of a program; none where there are none for this processor.
pub(super) fn filters(net: bool) -> Result<Vec<Vec<libc::sock_filter>>, String> {
    let Some(architecture) = architecture() else {
        return Ok(vec![]);
    };
    let text = |e: seccompiler::BackendError| e.to_string();
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = REFUSED.iter().map(|call| (*call, vec![])).collect();
    #[cfg(target_arch = "x86_64")]
    rules.extend([libc::SYS_iopl, libc::SYS_ioperm].map(|call| (call, vec![])));
    if !net {
        rules.insert(libc::SYS_socket, vec![]);
    }
    let rule = |arg, op, value| {
        let condition = SeccompCondition::new(arg, SeccompCmpArgLen::Dword, op, value)?;
        SeccompRule::new(vec![condition])
    };
    let mut spaces = vec![];
    for flag in (0..32).map(|bit| 1 << bit).filter(|bit| NAMESPACES & bit != 0) {
        spaces.push(rule(0, SeccompCmpOp::MaskedEq(flag), flag).map_err(text)?);
    }
    rules.insert(libc::SYS_clone, spaces);
    // Typing into a terminal in another's name.
    let typed = [libc::TIOCSTI, libc::TIOCLINUX];
    let typed = typed.map(|request| rule(1, SeccompCmpOp::Eq, request).map_err(text));
    rules.insert(libc::SYS_ioctl, typed.into_iter().collect::<Result<_, _>>()?);
    // Its flags are in memory, where no filter can look; programs go back to `clone` where the system does not know it.
    let unknown = [(libc::SYS_clone3, vec![])].into();
    // The second set of numbers that a kernel may have for the same calls.
    #[cfg(target_arch = "x86_64")]
    {
        const X32: i64 = 0x4000_0000;
        let again = rules
            .iter()
            .map(|(call, conditions)| (call | X32, conditions.clone()));
        let again = again.collect::<Vec<_>>();
        rules.extend(again);
    }
    let mut filters = vec![];
    for (rules, errno) in [(rules, libc::EPERM), (unknown, libc::ENOSYS)] {
        let refuse = SeccompAction::Errno(errno as u32);
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, architecture).map_err(text)?;
        let made: BpfProgram = filter.try_into().map_err(text)?;
        let raw = |i: &seccompiler::sock_filter| libc::sock_filter {
            code: i.code,
            jt: i.jt,
            jf: i.jf,
            k: i.k,
        };
        filters.push(made.iter().map(raw).collect());
    }
    Ok(filters)
}
