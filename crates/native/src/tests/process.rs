mod grants;

use std::fs;
use std::future::poll_fn;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use loop_engine::{Chunk, Feed, Value};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use super::{Bench, s};
use crate::process::Confinement;

const SECOND: u64 = 1_000_000_000;

/// What a test asks for; the rest is empty.
#[derive(Default)]
struct Command<'a> {
    args: &'a [&'a str],
    env: &'a [(&'a str, &'a str)],
    cwd: Option<(&'a str, &'a str)>,
    timeout: Option<u64>,
}

impl Command<'_> {
    fn value(&self, program: &str) -> Value {
        let pair = |(a, b): &(&str, &str)| Value::Fields(vec![s(a), s(b)]);
        let option = |v: Option<Value>| v.map_or_else(Value::none, Value::some);
        Value::Fields(vec![
            s(program),
            Value::List(self.args.iter().map(|a| s(a)).collect()),
            Value::List(self.env.iter().map(pair).collect()),
            option(self.cwd.as_ref().map(pair)),
            option(self.timeout.map(Value::u64)),
        ])
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Status {
    Exited(u64),
    Signaled(u64),
    TimedOut,
}

fn status(v: &Value) -> Status {
    match v {
        Value::Case(0, Some(code)) => Status::Exited(code.as_u64().unwrap()),
        Value::Case(1, Some(signal)) => Status::Signaled(signal.as_u64().unwrap()),
        Value::Case(2, None) => Status::TimedOut,
        other => panic!("{other:?}"),
    }
}

struct Output {
    status: Status,
    stdout: String,
    stderr: String,
}

impl Bench {
    fn processes(grant: Json) -> Self {
        Bench::new("process", grant)
    }

    /// A grant of `sh` with any script, held as tightly as this kernel can.
    fn sh(mut more: Json) -> Self {
        let program =
            json!({"path": "/bin/sh", "args": [["-c", "{text}", "{text}", "..."], ["-c", "{text}"], []]});
        for (key, value) in program.as_object().unwrap() {
            more["programs"]["sh"][key] = value.clone();
        }
        Bench::processes(more)
    }

    fn code(&self, v: &Value) -> String {
        let code = self.wit.error_code(v);
        match v {
            Value::Case(_, Some(words)) if code == "not-permitted" => {
                format!("{code}: {}", words.as_str().unwrap())
            }
            _ => code,
        }
    }

    fn run(&self, program: &str, command: Command, stdin: &[u8]) -> Result<Output, String> {
        let answer = self.get(
            "commands#run",
            vec![command.value(program), Value::bytes(stdin.into())],
        );
        match answer {
            Value::Case(0, Some(v)) => {
                let [ended, stdout, stderr] = v.items().unwrap() else {
                    panic!()
                };
                let text = |v: &Value| String::from_utf8_lossy(v.as_bytes().unwrap()).into_owned();
                Ok(Output {
                    status: status(ended),
                    stdout: text(stdout),
                    stderr: text(stderr),
                })
            }
            Value::Case(1, Some(v)) => Err(self.code(&v)),
            other => panic!("{other:?}"),
        }
    }

    fn script(&self, script: &str) -> Output {
        self.run(
            "sh",
            Command {
                args: &["-c", script],
                ..Command::default()
            },
            b"",
        )
        .unwrap()
    }

    fn spawn(&self, args: &[&str], terminal: Option<(u16, u16)>) -> Result<Value, String> {
        let command = Command {
            args,
            ..Command::default()
        };
        let number = |n| Value::Num(loop_engine::Num::U16, n);
        let terminal = terminal.map_or_else(Value::none, |(columns, rows)| {
            Value::some(Value::Fields(vec![number(columns.into()), number(rows.into())]))
        });
        match self.get("children#spawn", vec![command.value("sh"), terminal]) {
            Value::Case(0, Some(child)) => Ok(*child),
            Value::Case(1, Some(v)) => Err(self.code(&v)),
            other => panic!("{other:?}"),
        }
    }

    fn method(&self, child: &Value, name: &str, mut rest: Vec<Value>) -> Result<Option<Value>, String> {
        let Value::Host(child) = child else { panic!() };
        rest.insert(0, Value::Host(child.clone()));
        match self.get(&format!("children#[method]child.{name}"), rest) {
            Value::Case(0, v) => Ok(v.map(|v| *v)),
            Value::Case(1, Some(v)) => Err(self.code(&v)),
            other => panic!("{other:?}"),
        }
    }

    fn wait(&self, child: &Value) -> Status {
        status(&self.method(child, "wait", vec![]).unwrap().unwrap())
    }

    /// Reads a stream to its end, or to where it has `until`.
    fn read(&self, stream: &mut Box<dyn loop_engine::Source<loop_engine::Neutral>>, until: &str) -> String {
        let mut bytes = vec![];
        self.runtime.block_on(async {
            while let Some(chunk) = poll_fn(|cx| stream.poll_next(cx)).await.unwrap() {
                let Chunk::Raw(block) = chunk else { panic!() };
                bytes.extend_from_slice((*block).as_ref());
                if !until.is_empty() && String::from_utf8_lossy(&bytes).contains(until) {
                    break;
                }
            }
        });
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn stream(&self, child: &Value, name: &str) -> Box<dyn loop_engine::Source<loop_engine::Neutral>> {
        let Some(Value::Stream(end)) = self.method(child, name, vec![]).unwrap() else {
            panic!()
        };
        let Some(Feed::Source(source)) = end.into_inner().unwrap() else {
            panic!()
        };
        source
    }
}

/// Waits until a process is gone, or a zombie that somebody else has to reap.
fn gone(pid: &str) {
    for _ in 0..1000 {
        match fs::read_to_string(format!("/proc/{pid}/stat")) {
            Err(_) => return,
            Ok(stat) if stat.rsplit(')').next().unwrap().trim_start().starts_with('Z') => return,
            Ok(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
    panic!("{pid} is still there");
}

fn held() -> bool {
    Confinement::here().lacking().is_empty()
}

fn copy(of: &str, to: &Path) -> PathBuf {
    fs::copy(fs::canonicalize(of).unwrap(), to).unwrap();
    fs::set_permissions(to, fs::Permissions::from_mode(0o755)).unwrap();
    to.into()
}

#[test]
fn a_program_runs_and_answers() {
    let bench = Bench::sh(json!({}));
    assert!(
        matches!(bench.get("commands#programs", vec![]), Value::List(v) if v[0].as_str().unwrap() == "sh")
    );
    let script = Command {
        args: &["-c", "cat; echo err >&2; exit 7"],
        ..Command::default()
    };
    let output = bench.run("sh", script, b"in").err();
    // `cat` is another program, which `sh` may not start.
    if held() {
        assert_eq!(output, None);
        let output = bench.script("cat");
        assert!(output.stderr.contains("Permission denied"), "{}", output.stderr);
        assert_eq!(output.status, Status::Exited(126));
    }
    let bench = Bench::sh(json!({"programs": {"sh": {"exec": true, "set": {"PATH": "/usr/bin:/bin"}}}}));
    let script = Command {
        args: &["-c", "cat; echo err >&2; exit 7"],
        ..Command::default()
    };
    let output = bench.run("sh", script, b"in").unwrap();
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("in", "err\n"));
    assert_eq!(output.status, Status::Exited(7));
    assert_eq!(bench.script("kill -9 $$").status, Status::Signaled(9));
    assert_eq!(
        bench.run("other", Command::default(), b"").err().unwrap(),
        "not-permitted: no key `grant.programs.other`"
    );
}

#[test]
fn input_and_output_are_longer_than_pipes() {
    let grant = json!({"programs": {"cat": {"path": "/bin/cat"}}, "max-output": 1 << 20});
    let bench = Bench::processes(grant);
    let mut input = vec![b'x'; 1 << 20];
    let output = bench.run("cat", Command::default(), &input).unwrap();
    assert_eq!(output.stdout.len(), input.len());
    input.push(b'x');
    assert_eq!(
        bench.run("cat", Command::default(), &input).err().unwrap(),
        "message-size"
    );
    // what it is given, it need not read
    let bench = Bench::sh(json!({}));
    let output = bench
        .run(
            "sh",
            Command {
                args: &["-c", "exit 3"],
                ..Command::default()
            },
            &input,
        )
        .unwrap();
    assert_eq!(output.status, Status::Exited(3));
}

#[test]
fn arguments_are_those_of_a_form() {
    let grant = json!({"programs": {"echo": {"path": "/bin/echo", "fixed": ["fixed"], "args": [["-n", "{number}"]]}}});
    let bench = Bench::processes(grant);
    let echo = |args: &[&str]| {
        bench
            .run(
                "echo",
                Command {
                    args,
                    ..Command::default()
                },
                b"",
            )
            .map(|o| o.stdout)
    };
    assert_eq!(echo(&["-n", "12"]).unwrap(), "fixed -n 12\n");
    for args in [&[][..], &["-n"], &["-n", "x"], &["-n", "1", "2"], &["--help"]] {
        let refused = echo(args).unwrap_err();
        assert!(
            refused.starts_with("not-permitted: no form of `grant.programs.echo.args`"),
            "{refused}"
        );
    }
    assert_eq!(echo(&["-n", "1\0"]).unwrap_err(), "invalid");
    let bare = Bench::processes(json!({"programs": {"echo": {"path": "/bin/echo"}}}));
    assert!(bare.run("echo", Command::default(), b"").is_ok());
    assert!(
        bare.run(
            "echo",
            Command {
                args: &["x"],
                ..Command::default()
            },
            b""
        )
        .is_err()
    );
}

#[test]
fn the_environment_is_what_the_grant_and_the_call_say() {
    let bench = Bench::processes(
        json!({"programs": {"env": {"path": "/usr/bin/env", "set": {"A": "1", "B": "2"}, "env": ["B", "C"]}}}),
    );
    let env = |env: &[(&str, &str)]| {
        bench
            .run(
                "env",
                Command {
                    env,
                    ..Command::default()
                },
                b"",
            )
            .map(|o| o.stdout)
    };
    assert_eq!(env(&[]).unwrap(), "A=1\nB=2\n");
    assert_eq!(env(&[("B", "3"), ("C", "4")]).unwrap(), "A=1\nB=3\nC=4\n");
    assert_eq!(
        env(&[("D", "1")]).unwrap_err(),
        "not-permitted: `grant.programs.env.env` does not have `D`"
    );
    assert_eq!(env(&[("B", "\0")]).unwrap_err(), "invalid");
    assert_eq!(
        env(&[("A=B", "x")]).unwrap_err(),
        "not-permitted: `grant.programs.env.env` does not have `A=B`"
    );
}

#[test]
fn a_folder_is_below_its_root() {
    let folder = TempDir::new().unwrap();
    let root = folder.path().join("root");
    fs::create_dir_all(root.join("in")).unwrap();
    fs::create_dir(folder.path().join("out")).unwrap();
    symlink("../out", root.join("link")).unwrap();
    fs::write(root.join("file"), "").unwrap();
    let bench = Bench::sh(json!({"roots": {"r": {"path": root}}}));
    let pwd = |root: &str, path: &str| {
        let cwd = Some((root, path));
        bench
            .run(
                "sh",
                Command {
                    args: &["-c", "pwd"],
                    cwd,
                    ..Command::default()
                },
                b"",
            )
            .map(|o| o.stdout)
    };
    let real = fs::canonicalize(&root).unwrap();
    assert_eq!(pwd("r", "in").unwrap(), format!("{}/in\n", real.display()));
    assert_eq!(pwd("r", "in/..").unwrap(), format!("{}\n", real.display()));
    for path in ["link", "..", "/", "in/../../out"] {
        assert_eq!(
            pwd("r", path).unwrap_err(),
            "not-permitted: the path leads out of its root",
            "{path}"
        );
    }
    assert_eq!(pwd("r", "none").unwrap_err(), "no-entry");
    assert_eq!(pwd("r", "file").unwrap_err(), "not-directory");
    assert_eq!(pwd("r", "").unwrap_err(), "invalid");
    assert_eq!(
        pwd("x", ".").unwrap_err(),
        "not-permitted: no key `grant.roots.x`"
    );
    assert_eq!(bench.script("pwd").stdout, "/\n");
}

#[test]
fn a_program_has_three_descriptors_and_no_more() {
    // One that was opened without close-on-exec, as other libraries do.
    let leaked = unsafe { libc::open(c"/etc/passwd".as_ptr(), libc::O_RDONLY) };
    let bench = Bench::processes(
        json!({"programs": {"ls": {"path": "/bin/ls", "args": [["{text}"]], "read": ["/proc"]}}}),
    );
    let output = bench
        .run(
            "ls",
            Command {
                args: &["/proc/self/fd"],
                ..Command::default()
            },
            b"",
        )
        .unwrap();
    unsafe { libc::close(leaked) };
    // 3 is what `ls` itself opened to look
    assert_eq!(output.stdout, "0\n1\n2\n3\n", "{}", output.stderr);
}

#[test]
fn nothing_of_a_group_outlives_its_leader() {
    let bench = Bench::sh(json!({"programs": {"sh": {"exec": true, "set": {"PATH": "/usr/bin:/bin"}}}}));
    let output = bench.script("sleep 1000 & echo $!; exit 0");
    assert_eq!(output.status, Status::Exited(0));
    gone(output.stdout.trim());
    if held() {
        // no way out of the group
        let output = bench.script("setsid sleep 1000 & echo $!; wait $!; echo $?");
        assert!(output.stderr.contains("not permitted"), "{}", output.stderr);
    }
}

#[test]
fn time_is_over() {
    let bench = Bench::sh(json!({"programs": {"sh": {"exec": true}}, "max-lifetime": 0.05}));
    assert_eq!(bench.script("while :; do :; done").status, Status::TimedOut);
    let bench = Bench::sh(json!({}));
    let command = Command {
        args: &["-c", "while :; do :; done"],
        timeout: Some(SECOND / 20),
        ..Command::default()
    };
    assert_eq!(bench.run("sh", command, b"").unwrap().status, Status::TimedOut);
}

#[test]
fn limits_hold() {
    let bench =
        Bench::sh(json!({"programs": {"sh": {"limits": {"cpu": 1, "open-files": 20, "file-size": 0}}}}));
    assert_eq!(
        bench.script("ulimit -n; ulimit -c; ulimit -t").stdout,
        "20\n0\n1\n"
    );
    assert!(matches!(
        bench.script("while :; do :; done").status,
        Status::Signaled(9 | 24)
    ));
}

#[test]
fn children_are_counted() {
    let bench = Bench::sh(json!({"max-children": 1}));
    let child = bench.spawn(&["-c", "read line"], None).unwrap();
    assert_eq!(bench.spawn(&[], None).err().unwrap(), "quota");
    assert_eq!(bench.run("sh", Command::default(), b"").err().unwrap(), "quota");
    bench
        .method(&child, "signal", vec![Value::Case(4, None)])
        .unwrap();
    assert_eq!(bench.wait(&child), Status::Signaled(9));
    assert_eq!(bench.wait(&child), Status::Signaled(9));
    bench
        .method(&child, "signal", vec![Value::Case(4, None)])
        .unwrap();
    // the place is given back a moment after the end is told
    bench.runtime.block_on(async {
        while bench.spawn_later().await.is_err() {
            tokio::task::yield_now().await;
        }
    });
}

impl Bench {
    async fn spawn_later(&self) -> Result<(), ()> {
        let args = vec![Command::default().value("sh"), Value::none()];
        let loop_engine::Outcome::Later(later) = (self.provider.functions["children#spawn"].call)(args)
        else {
            panic!()
        };
        match later.await.unwrap() {
            Some(Value::Case(0, _)) => Ok(()),
            _ => Err(()),
        }
    }
}

#[test]
fn a_child_streams_both_ways() {
    let bench = Bench::sh(json!({}));
    let child = bench
        .spawn(
            &["-c", "while read line; do echo got $line; done; echo end >&2"],
            None,
        )
        .unwrap();
    let mut source = Some(b"a\nb\n".to_vec());
    let data = crate::value::stream(Given(move || source.take()));
    let mut stdout = bench.stream(&child, "stdout");
    assert_eq!(bench.method(&child, "stdout", vec![]).unwrap_err(), "busy");
    assert!(bench.method(&child, "stdin", vec![data]).unwrap().is_none());
    assert_eq!(bench.read(&mut stdout, ""), "got a\ngot b\n");
    let mut stderr = bench.stream(&child, "stderr");
    assert_eq!(bench.read(&mut stderr, ""), "end\n");
    assert_eq!(bench.wait(&child), Status::Exited(0));
    let again = crate::value::stream(Given(|| None));
    assert_eq!(bench.method(&child, "stdin", vec![again]).unwrap_err(), "busy");
    assert_eq!(
        bench
            .method(&child, "resize", vec![Value::Fields(vec![u16(1), u16(1)])])
            .unwrap_err(),
        "unsupported"
    );
}

struct Given<F>(F);

impl<F: FnMut() -> Option<Vec<u8>> + Send + 'static> loop_engine::Source<loop_engine::Neutral> for Given<F> {
    fn poll_next(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<loop_engine::Result<Option<Chunk<loop_engine::Neutral>>>> {
        std::task::Poll::Ready(Ok((self.0)().map(|v| Chunk::Raw(Box::new(v) as _))))
    }
}

fn u16(n: u64) -> Value {
    Value::Num(loop_engine::Num::U16, n)
}

#[test]
fn a_dropped_child_is_killed() {
    let bench = Bench::sh(json!({"programs": {"sh": {"exec": true, "set": {"PATH": "/usr/bin:/bin"}}}}));
    let child = bench
        .spawn(&["-c", "sleep 1000 & echo $! $$; wait"], None)
        .unwrap();
    let mut stdout = bench.stream(&child, "stdout");
    let said = bench.read(&mut stdout, "\n");
    drop(child);
    assert_eq!(bench.read(&mut stdout, ""), "");
    said.split_whitespace().for_each(gone);
    // one that a runtime leaves behind, too
    let child = bench.spawn(&["-c", "echo $$; read line"], None).unwrap();
    let mut stdout = bench.stream(&child, "stdout");
    let said = bench.read(&mut stdout, "\n");
    drop((bench, stdout));
    gone(said.trim());
}

#[test]
fn a_terminal_is_one() {
    let bench = Bench::sh(json!({"programs": {"sh": {"exec": true, "set": {"PATH": "/usr/bin:/bin"}}}}));
    let script = "test -t 0 && test -t 1 && test -t 2 && stty size; trap 'stty size; exit 4' WINCH; echo ready; \
                  while :; do read line; done";
    let child = bench.spawn(&["-c", script], Some((80, 24))).unwrap();
    assert_eq!(bench.method(&child, "stderr", vec![]).unwrap_err(), "unsupported");
    let mut stdout = bench.stream(&child, "stdout");
    assert!(bench.read(&mut stdout, "ready\r\n").starts_with("24 80\r\n"));
    let size = Value::Fields(vec![u16(100), u16(30)]);
    bench.method(&child, "resize", vec![size]).unwrap();
    let input = crate::value::stream(Given({
        let mut given = Some(b"\n".to_vec());
        move || given.take()
    }));
    bench.method(&child, "stdin", vec![input]).unwrap();
    assert!(bench.read(&mut stdout, "").contains("30 100\r\n"));
    assert_eq!(bench.wait(&child), Status::Exited(4));
}
