//! The grant: read, checked against this machine, and opened.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::num::{NonZeroU64, NonZeroUsize};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use serde::Deserialize;
use serde_json::Value as Json;

use super::confine::{self, Confinement, Reach};
use super::pattern::Form;
use super::program;
use crate::ProviderError;
use crate::error::{Table, settings};

/// What a component may run.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct Grant {
    /// Programs by the name that the component knows them by. Default: none.
    programs: BTreeMap<String, Table<ProgramGrant>>,
    /// Directories that may be working directories, by the name that the component knows them by. Default: none.
    roots: BTreeMap<String, Table<RootGrant>>,
    /// Programs at once. Default: 8.
    max_children: NonZeroUsize,
    /// Bytes of output and errors that one `run` holds at most, each. Default: 16 MiB.
    max_output: NonZeroUsize,
    /// Seconds that a program runs at most. Default: 600.
    max_lifetime: f64,
}

impl Default for Grant {
    fn default() -> Self {
        Grant {
            programs: BTreeMap::new(),
            roots: BTreeMap::new(),
            max_children: NonZeroUsize::new(8).expect("not zero"),
            max_output: NonZeroUsize::new(16 << 20).expect("not zero"),
            max_lifetime: 600.0,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ProgramGrant {
    /// The file, absolute.
    path: PathBuf,
    /// The digest that it must have, hexadecimal. Default: any.
    sha256: Option<String>,
    /// Arguments that come before all others. Default: none.
    #[serde(default)]
    fixed: Vec<String>,
    /// What may follow them: forms, see [`super::pattern`]. Default: nothing.
    #[serde(default = "nothing")]
    args: Vec<Vec<String>>,
    /// Variables that are set. Default: none.
    #[serde(default)]
    set: BTreeMap<String, String>,
    /// Names of variables that a call may set. Default: none.
    #[serde(default)]
    env: BTreeSet<String>,
    /// Files and directories, absolute, that it may read besides the system's own and the roots. Default: none.
    #[serde(default)]
    read: Vec<PathBuf>,
    /// The same to read and write. Default: none.
    #[serde(default)]
    write: Vec<PathBuf>,
    /// Whether it may start other programs among what it may read. Default: no.
    #[serde(default)]
    exec: bool,
    /// Whether it may use the network and other sockets. Default: no.
    #[serde(default)]
    net: bool,
    /// What if the kernel cannot hold it to that. Default: `prefer`.
    #[serde(default)]
    confine: Confine,
    #[serde(default)]
    limits: Table<LimitsGrant>,
}

/// The one form that takes no argument.
fn nothing() -> Vec<Vec<String>> {
    vec![vec![]]
}

#[derive(Deserialize, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Confine {
    /// Then it is not granted.
    Require,
    /// Then it runs with what there is, and the log says what is lacking.
    #[default]
    Prefer,
    /// It is not held at all.
    Off,
}

/// Limits of one process, as `setrlimit` has them.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct LimitsGrant {
    /// Seconds of processor time.
    cpu: Option<NonZeroU64>,
    /// Bytes of address space.
    memory: Option<NonZeroU64>,
    /// Bytes of a file that it writes.
    file_size: Option<u64>,
    /// Open files.
    open_files: Option<NonZeroU64>,
    /// Processes of the host's user, all that there are.
    processes: Option<NonZeroU64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RootGrant {
    /// The directory on the host, absolute.
    path: PathBuf,
    /// What programs may do there. Default: `ro`.
    #[serde(default)]
    mode: Mode,
}

#[derive(Deserialize, Default, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Mode {
    #[default]
    Ro,
    Rw,
}

/// What a grant allows, opened.
pub(crate) struct Policy {
    pub programs: BTreeMap<String, Program>,
    pub roots: BTreeMap<String, Dir>,
    pub max_children: usize,
    pub max_output: usize,
    pub max_lifetime: Duration,
    /// Programs that the kernel does not hold as their grants prefer, and what is lacking.
    pub lacking: Option<(Vec<String>, Vec<String>)>,
}

pub(crate) struct Program {
    pub file: OwnedFd,
    /// What it is told that it is called: its path.
    pub argv0: CString,
    pub fixed: Vec<CString>,
    pub forms: Vec<Form>,
    pub set: BTreeMap<String, String>,
    pub env: BTreeSet<String>,
    pub limits: Vec<(libc::c_int, u64)>,
    pub confined: bool,
    pub ruleset: Option<OwnedFd>,
    pub filters: Vec<Vec<libc::sock_filter>>,
}

/// Variables that say what code a program runs, whoever may run it.
const CODE: [&str; 7] = ["LD_", "DYLD_", "GLIBC_TUNABLES", "BASH_ENV", "ENV", "PATH", "IFS"];

pub(crate) fn policy(grant: &Json, kernel: Confinement) -> Result<Policy, ProviderError> {
    let grant: Grant = settings("grant", grant)?;
    if !(grant.max_lifetime > 0.0 && grant.max_lifetime <= 1e9) {
        let problem = "must be a number of seconds, above 0 and at most 1e9";
        return Err(ProviderError::new("grant.max-lifetime", problem));
    }
    let mut roots = BTreeMap::new();
    for (name, Table(RootGrant { path, mode })) in grant.roots {
        let key = format!("grant.roots.{name}.path");
        absolute(&key, &path)?;
        let dir = Dir::open_ambient_dir(&path, ambient_authority()).map_err(|e| {
            let problem = format!(
                "`{}` cannot be opened ({e}); name a directory that exists",
                path.display()
            );
            ProviderError::new(key, problem)
        })?;
        roots.insert(name, (dir, mode == Mode::Rw));
    }
    let mut programs = BTreeMap::new();
    let mut unheld = vec![];
    for (name, Table(program)) in grant.programs {
        let key = format!("grant.programs.{name}");
        if program.confine == Confine::Prefer && !kernel.lacking().is_empty() {
            unheld.push(name.clone());
        }
        programs.insert(name, opened(&key, program, &roots, kernel)?);
    }
    Ok(Policy {
        programs,
        roots: roots.into_iter().map(|(name, (dir, _))| (name, dir)).collect(),
        max_children: grant.max_children.get(),
        max_output: grant.max_output.get(),
        max_lifetime: Duration::from_secs_f64(grant.max_lifetime),
        lacking: (!unheld.is_empty()).then(|| (unheld, kernel.lacking())),
    })
}

fn opened(
    key: &str,
    program: ProgramGrant,
    roots: &BTreeMap<String, (Dir, bool)>,
    kernel: Confinement,
) -> Result<Program, ProviderError> {
    let refuse = |what: &str, problem: String| ProviderError::new(format!("{key}.{what}"), problem);
    absolute(&format!("{key}.path"), &program.path)?;
    for (kind, paths) in [("read", &program.read), ("write", &program.write)] {
        for (index, path) in paths.iter().enumerate() {
            absolute(&format!("{key}.{kind}[{index}]"), path)?;
        }
    }
    let hex = |text: &String| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    if program.sha256.as_ref().is_some_and(|text| !hex(text)) {
        return Err(refuse("sha256", "must be 64 hexadecimal digits".into()));
    }
    let mut forms = vec![];
    for (index, form) in program.args.iter().enumerate() {
        let form =
            Form::new(form).map_err(|(at, problem)| refuse(&format!("args[{index}][{at}]"), problem))?;
        forms.push(form);
    }
    for (what, name) in program
        .env
        .iter()
        .map(|n| ("env", n))
        .chain(program.set.keys().map(|n| ("set", n)))
    {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(refuse(
                what,
                format!("`{}` is no name of a variable", name.escape_debug()),
            ));
        }
    }
    let code = |name: &&String| {
        CODE.iter()
            .any(|c| *name == c || (c.ends_with('_') && name.starts_with(c)))
    };
    if let Some(name) = program.env.iter().find(code) {
        let problem = format!("`{name}` decides what code runs, which no call may; give it a value in `set`");
        return Err(refuse("env", problem));
    }
    let text = |what: &str, text: &str| {
        CString::new(text)
            .map_err(|_| refuse(what, "has a NUL character, which no program can be given".into()))
    };
    let fixed = program
        .fixed
        .iter()
        .map(|a| text("fixed", a))
        .collect::<Result<_, _>>()?;
    for value in program.set.values() {
        text("set", value)?;
    }
    let argv0 = CString::new(program.path.as_os_str().as_bytes())
        .map_err(|_| refuse("path", "has a NUL character, which no path has".into()))?;
    let file = program::open(&program.path, program.sha256.as_deref()).map_err(|problem| {
        let what = if problem.contains("has the digest") {
            "sha256"
        } else {
            "path"
        };
        refuse(what, problem)
    })?;
    let lacking = kernel.lacking();
    if program.confine == Confine::Require && !lacking.is_empty() {
        let problem = format!(
            "this kernel lacks {}; write \"prefer\" to run the program with less",
            lacking.join(" and ")
        );
        return Err(refuse("confine", problem));
    }
    let confined = program.confine != Confine::Off;
    let (mut ruleset, mut filters) = (None, vec![]);
    if confined && kernel.landlock > 0 {
        let shown = |dir: &Dir| dir.try_clone().map(|d| OwnedFd::from(d.into_std_file()));
        let roots = roots.values().map(|(dir, write)| Ok((shown(dir)?, *write)));
        let reach = Reach {
            program: program.sha256.is_none().then_some(&file),
            read: &program.read,
            write: &program.write,
            roots: roots
                .collect::<std::io::Result<_>>()
                .map_err(|e| refuse("confine", e.to_string()))?,
            exec: program.exec,
            net: program.net,
        };
        ruleset = confine::ruleset(reach).map_err(|(index, problem)| match index {
            Some(i) if i < program.read.len() => refuse(&format!("read[{i}]"), problem),
            Some(i) => refuse(&format!("write[{}]", i - program.read.len()), problem),
            None => refuse("confine", problem),
        })?;
    }
    if confined && kernel.seccomp {
        filters = confine::filters(program.net).map_err(|problem| refuse("confine", problem))?;
    }
    let Table(limits) = program.limits;
    let limits = [
        (libc::RLIMIT_CPU, limits.cpu.map(NonZeroU64::get)),
        (libc::RLIMIT_AS, limits.memory.map(NonZeroU64::get)),
        (libc::RLIMIT_FSIZE, limits.file_size),
        (libc::RLIMIT_NOFILE, limits.open_files.map(NonZeroU64::get)),
        (libc::RLIMIT_NPROC, limits.processes.map(NonZeroU64::get)),
        // What was in the program's memory is nothing to leave behind.
        (libc::RLIMIT_CORE, Some(0)),
    ];
    Ok(Program {
        file,
        argv0,
        fixed,
        forms,
        set: program.set,
        env: program.env,
        limits: limits
            .into_iter()
            .filter_map(|(n, most)| Some((n as _, most?)))
            .collect(),
        confined,
        ruleset,
        filters,
    })
}

fn absolute(key: &str, path: &Path) -> Result<(), ProviderError> {
    if path.is_absolute() {
        return Ok(());
    }
    let problem = format!("`{}` is relative; write the absolute path", path.display());
    Err(ProviderError::new(key, problem))
}
