//! What a grant lets run, and touch.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use serde_json::{Value as Json, json};
use tempfile::TempDir;

use super::{Command, Status, copy, held};
use crate::tests::Bench;

#[test]
fn a_program_is_the_file_that_the_grant_found() {
    let folder = TempDir::new().unwrap();
    let (program, link) = (folder.path().join("program"), folder.path().join("link"));
    copy("/bin/echo", &program);
    symlink(&program, &link).unwrap();
    let bench = Bench::processes(json!({"programs": {"p": {"path": link}}}));
    let says = |bench: &Bench| bench.run("p", Command::default(), b"").unwrap().stdout;
    assert_eq!(says(&bench), "\n");
    let other = copy("/usr/bin/id", &folder.path().join("other"));
    fs::remove_file(&link).unwrap();
    symlink(&other, &link).unwrap();
    fs::rename(&other, &program).unwrap();
    assert_eq!(says(&bench), "\n");
}

#[test]
fn a_digest_is_that_of_what_runs() {
    let folder = TempDir::new().unwrap();
    let program = copy("/bin/echo", &folder.path().join("program"));
    let digest = |path: &Path| {
        use sha2::Digest;
        let digest = sha2::Sha256::digest(fs::read(path).unwrap());
        digest.iter().map(|b| format!("{b:02x}")).collect::<String>()
    };
    let grant = |sha256: String| json!({"programs": {"p": {"path": program, "sha256": sha256}}});
    let bench = Bench::processes(grant(digest(&program)));
    // written in place: the file itself is another program now
    fs::write(
        &program,
        fs::read(fs::canonicalize("/usr/bin/id").unwrap()).unwrap(),
    )
    .unwrap();
    assert_eq!(bench.run("p", Command::default(), b"").unwrap().stdout, "\n");
    let error = Bench::try_new("process", grant("0".repeat(64))).err().unwrap();
    assert_eq!(error.key, "grant.programs.p.sha256");
    assert!(error.problem.contains(&digest(&program)), "{error}");
}

#[test]
fn files_are_those_of_the_grant() {
    if !held() {
        return; // tests/capabilities says which kernels the suite needs
    }
    let folder = TempDir::new().unwrap();
    for name in ["secret", "ro", "rw"] {
        fs::create_dir(folder.path().join(name)).unwrap();
        fs::write(folder.path().join(name).join("file"), name).unwrap();
    }
    let at = |name: &str| folder.path().join(name);
    let roots = json!({"ro": {"path": at("ro")}, "rw": {"path": at("rw"), "mode": "rw"}});
    let bench = Bench::sh(json!({"roots": roots}));
    let read = |name: &str| bench.script(&format!("read x < {}/file; echo $x", at(name).display()));
    assert_eq!(read("ro").stdout, "ro\n");
    assert_eq!(read("rw").stdout, "rw\n");
    assert!(read("secret").stderr.contains("ermission denied"));
    let write = |name: &str| {
        bench
            .script(&format!("echo new > {}/other", at(name).display()))
            .status
    };
    assert_eq!(write("rw"), Status::Exited(0));
    assert_ne!(write("ro"), Status::Exited(0));
    assert_ne!(write("secret"), Status::Exited(0));
    assert!(at("rw").join("other").exists() && !at("ro").join("other").exists());
    assert!(
        bench
            .script("read x < /proc/1/environ")
            .stderr
            .contains("ermission denied")
    );
    assert_ne!(bench.script("kill -0 1").status, Status::Exited(0));
    let bench = Bench::sh(json!({"programs": {"sh": {"confine": "off"}}}));
    let output = bench.script(&format!("read x < {}/file; echo $x", at("secret").display()));
    assert_eq!(output.stdout, "secret\n");
}

#[test]
fn what_a_grant_may_not_name() {
    let folder = TempDir::new().unwrap();
    let script = folder.path().join("script");
    fs::write(&script, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let data = folder.path().join("data");
    fs::write(&data, "data").unwrap();
    let sh = |more: Json| {
        let mut program = json!({"path": "/bin/sh"});
        for (key, value) in more.as_object().unwrap() {
            program[key] = value.clone();
        }
        program
    };
    for (program, key, problem) in [
        (json!({"path": "sh"}), ".path", "relative"),
        (json!({"path": "/no/such"}), ".path", "cannot be opened"),
        (json!({"path": script}), ".path", "is a script"),
        (json!({"path": data}), ".path", "is no program"),
        (json!({"path": "/dev/null"}), ".path", "is no program"),
        (sh(json!({"sha256": "12"})), ".sha256", "64 hexadecimal"),
        (sh(json!({"args": [["{x}"]]})), ".args[0][0]", "no placeholder"),
        (sh(json!({"args": [[], ["a", "{"]]})), ".args[1][1]", "alone"),
        (sh(json!({"args": [["..."]]})), ".args[0][0]", "there is none"),
        (
            sh(json!({"env": ["LD_PRELOAD"]})),
            ".env",
            "decides what code runs",
        ),
        (sh(json!({"env": ["PATH"]})), ".env", "decides what code runs"),
        (sh(json!({"env": ["A=B"]})), ".env", "no name"),
        (sh(json!({"set": {"A": "\u{0}"}})), ".set", "NUL"),
        (sh(json!({"read": ["x"]})), ".read[0]", "relative"),
        (sh(json!({"write": ["/no/such"]})), ".write[0]", "o such file"),
        (sh(json!({"confine": "on"})), ".confine", "expected one of"),
        (sh(json!({"limits": {"cpu": 0}})), ".limits.cpu", "nonzero"),
    ] {
        let error = Bench::try_new("process", json!({"programs": {"p": program}}))
            .err()
            .unwrap();
        assert_eq!(error.key, format!("grant.programs.p{key}"), "{error}");
        assert!(error.problem.contains(problem), "{error}");
    }
    let error = Bench::try_new("process", json!({"max-lifetime": 0}))
        .err()
        .unwrap();
    assert_eq!(error.key, "grant.max-lifetime");
    let error = Bench::try_new("process", json!({"roots": {"r": {"path": "."}}}))
        .err()
        .unwrap();
    assert_eq!(error.key, "grant.roots.r.path");
}

#[test]
fn forms_take_what_they_say() {
    use crate::process::pattern::Form;
    let takes = |form: &[&str], args: &[&str]| {
        let form = Form::new(&form.iter().map(|p| p.to_string()).collect::<Vec<_>>()).unwrap();
        form.takes(&args.iter().map(|a| a.to_string()).collect::<Vec<_>>())
    };
    for (form, yes, no) in [
        (&["-c"][..], &["-c"][..], &["-C", "-cc", "", "c"][..]),
        (
            &["{text}"],
            &["", "a b", "a/../..", "x-", "{"],
            &["-", "-x", "--"],
        ),
        (&["a{text}"], &["a", "a-", "a--x"], &["", "b"]),
        (
            &["{word}"],
            &["a", "_a.b-c", "1"],
            &["", ".", "..", ".a", "-a", "a b", "é", "a/b"],
        ),
        (&["{number}"], &["0", "12"], &["", "-1", "1.5", "1a", "٣"]),
        (
            &["{path}"],
            &["a", "a/b", ".", "./a", "a//b/", "..a", "a..", "..."],
            &["", "/", "..", "a/..", "../a", "a/../b", "-a"],
        ),
        (
            &["--in={path}"],
            &["--in=a", "--in=a/b"],
            &["--in=", "--in=/a", "--in=..", "--in=a/.."],
        ),
        (&["{path}."], &["a."], &["..", "a/.."]),
        (&[".{path}"], &[".a"], &["..", "../a"]),
        (
            &["{path}.{word}"],
            &["a.b", "a/b.c", "a.b.c"],
            &["..", "../a.b", "a"],
        ),
        (&["{word}:{number}"], &["a:1"], &["a:", ":1", "a:b:1"]),
        (&["{{x}}{number}"], &["{x}1"], &["x1"]),
    ] {
        yes.iter()
            .for_each(|a| assert!(takes(form, &[a]), "{form:?} {a}"));
        no.iter()
            .for_each(|a| assert!(!takes(form, &[a]), "{form:?} {a}"));
    }
    let repeated = ["-f", "{word}", "...", "--", "{number}", "..."];
    assert!(takes(&repeated, &["-f", "a", "b", "--", "1", "2", "3"]));
    assert!(!takes(&repeated, &["-f", "--", "1"]) && !takes(&repeated, &["-f", "a", "--"]));
    assert!(!takes(&["a"], &[]) && takes(&[], &[]) && !takes(&[], &[""]));
    // as long as an argument gets, in no time that grows with its square
    assert!(!takes(
        &["{text}x{text}y{word}z"],
        &[&"xyz".repeat(40_000)[..119_999]]
    ));
    let problem =
        |form: &[&str]| Form::new(&form.iter().map(|p| p.to_string()).collect::<Vec<_>>()).unwrap_err();
    assert_eq!(problem(&["a", "...", "..."]).0, 2);
    assert!(problem(&["{word}{path}"]).1.contains("must come first"));
    assert!(problem(&["a}"]).1.contains("alone"));
}
