//! Records the programs that are run, and runs those that its config lets pass: or none, in a dry run.

wit_bindgen::generate!({
    path: [
        "../../python/loop_kit/wit",
        "../../python/loop_kit/capabilities/core/wit",
        "../../python/loop_kit/capabilities/process/wit",
        "wit",
    ],
    world: "loop:recorder/recorder",
    generate_all,
});

use std::collections::BTreeSet;

use exports::loop_::process::commands::{Command, ErrorCode, Guest, Output, Status};
use loop_::core::log::{self, Level};
use loop_::process::commands as below;
use loop_::provider::settings;
use serde::Deserialize;

/// What records are logged as.
const TARGET: &str = "loop.process";
/// Characters of all arguments that a record has.
const SHOWN: usize = 1000;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Config {
    programs: Option<BTreeSet<String>>,
    dry: bool,
}

impl Config {
    fn read() -> Config {
        if settings::grant() != "{}" {
            settings::refuse(
                "grant",
                "a recorder grants what the provider below it is granted; leave it out",
            );
        }
        serde_json::from_str(&settings::config()).unwrap_or_else(|e| {
            settings::refuse("config", &e.to_string());
            Config::default()
        })
    }

    fn passes(&self, program: &str) -> bool {
        self.programs.as_ref().is_none_or(|names| names.contains(program))
    }
}

struct Recorder;

impl Guest for Recorder {
    fn programs() -> Vec<String> {
        let config = Config::read();
        let mut all = below::programs();
        all.retain(|name| config.passes(name));
        all
    }

    fn run(command: Command, stdin: Vec<u8>) -> Result<Output, ErrorCode> {
        let config = Config::read();
        let mut fields = vec![
            ("program".to_string(), command.program.clone()),
            ("args".to_string(), shown(&command.args)),
        ];
        if !config.passes(&command.program) {
            log::log(Level::Warn, TARGET, "not passed on", &fields);
            let key = format!("no `{}` in `config.programs` of the recorder", command.program);
            return Err(ErrorCode::NotPermitted(key));
        }
        if config.dry {
            log::log(Level::Info, TARGET, "would run", &fields);
            return Ok(Output {
                status: Status::Exited(0),
                stdout: vec![],
                stderr: vec![],
            });
        }
        let answer = below::run(&passed(command), &stdin);
        fields.push(("answer".to_string(), told(&answer)));
        log::log(Level::Info, TARGET, "ran", &fields);
        match answer {
            Ok(output) => Ok(Output {
                status: match output.status {
                    below::Status::Exited(code) => Status::Exited(code),
                    below::Status::Signaled(signal) => Status::Signaled(signal),
                    below::Status::TimedOut => Status::TimedOut,
                },
                stdout: output.stdout,
                stderr: output.stderr,
            }),
            Err(code) => Err(refused(code)),
        }
    }
}

fn shown(args: &[String]) -> String {
    let all = format!("{args:?}");
    match all.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &all[..at]),
        None => all,
    }
}

fn told(answer: &Result<below::Output, below::ErrorCode>) -> String {
    match answer {
        Ok(output) => {
            let (out, err) = (output.stdout.len(), output.stderr.len());
            format!("{:?}, {out} bytes of output, {err} of errors", output.status)
        }
        Err(code) => format!("{code:?}"),
    }
}

/// What is imported and what is exported are two types to Rust.
fn passed(command: Command) -> below::Command {
    below::Command {
        program: command.program,
        args: command.args,
        env: command.env,
        cwd: command.cwd.map(|cwd| below::Directory {
            root: cwd.root,
            path: cwd.path,
        }),
        timeout: command.timeout,
    }
}

fn refused(code: below::ErrorCode) -> ErrorCode {
    match code {
        below::ErrorCode::Access => ErrorCode::Access,
        below::ErrorCode::Busy => ErrorCode::Busy,
        below::ErrorCode::Invalid => ErrorCode::Invalid,
        below::ErrorCode::MessageSize => ErrorCode::MessageSize,
        below::ErrorCode::NoEntry => ErrorCode::NoEntry,
        below::ErrorCode::NotDirectory => ErrorCode::NotDirectory,
        below::ErrorCode::NotPermitted(key) => ErrorCode::NotPermitted(key),
        below::ErrorCode::Pipe => ErrorCode::Pipe,
        below::ErrorCode::Quota => ErrorCode::Quota,
        below::ErrorCode::Unsupported => ErrorCode::Unsupported,
        below::ErrorCode::Other(words) => ErrorCode::Other(words),
    }
}

export!(Recorder);
