//! A provider as a program: what hosts ask of sidecars (`docs/sidecars.md`), and a command line for people.

use std::env;
use std::fs::File;
use std::io::Write;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::process::ExitCode;
use std::time::Duration;

use loop_wire::{Address, Failure};
use tokio::signal::unix::{SignalKind, signal};

use crate::provider::{Provider, Server};

/// Time that calls have to end in.
const GRACE: Duration = Duration::from_secs(10);
const USAGE: &str = "\
usage: PROGRAM [--on ADDRESS]

  --on ADDRESS   stdio:, unix:/path, tcp://host:port, or what else is an address
                 (default: $LOOP_PROVIDER_ADDRESS, else stdio:)

Whoever connects must show $LOOP_PROVIDER_TOKEN, where that is set. SIGHUP and the host's RELOAD
have it read its configuration anew; SIGTERM answers what was begun and exits with 0.
";

impl Provider {
    /// Serves until SIGTERM or SIGINT comes, or on `stdio:` until the host has gone; for `main` to return. One thread
    /// runs it.
    pub fn run(self) -> ExitCode {
        let mut asked = None;
        let mut args = env::args().skip(1);
        while let Some(arg) = args.next() {
            match (arg.as_str(), arg.strip_prefix("--on=")) {
                (_, Some(address)) => asked = Some(address.to_owned()),
                ("--on", _) if args.len() > 0 => asked = args.next(),
                ("-h" | "--help", _) => {
                    eprint!("{USAGE}");
                    return ExitCode::SUCCESS;
                }
                _ => {
                    eprint!("error: {arg} is not understood\n{USAGE}");
                    return ExitCode::from(2);
                }
            }
        }
        match self.until_told(asked) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                eprintln!("error: {failure}");
                ExitCode::FAILURE
            }
        }
    }

    fn until_told(mut self, asked: Option<String>) -> Result<(), Failure> {
        let said = |name| env::var(name).ok().filter(|value: &String| !value.is_empty());
        let address = asked.or_else(|| said("LOOP_PROVIDER_ADDRESS"));
        let address: Address = address.as_deref().unwrap_or("stdio:").parse()?;
        if let (None, Some(token)) = (&self.options.token, said("LOOP_PROVIDER_TOKEN")) {
            self = self.token(token);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| Failure::gone(format!("no runtime: {e}"), true))?;
        runtime.block_on(async {
            let mut server = self.serve(&address).await?;
            if let [address, ..] = server.addresses() {
                announce(address)?;
            }
            served(&mut server).await?;
            server.close(GRACE).await;
            Ok(())
        })
    }
}

/// Reloads when told to, and returns when told to end, or when there is nobody any more.
async fn served(server: &mut Server) -> Result<(), Failure> {
    let on = |kind| signal(kind).map_err(|e| Failure::gone(format!("signals cannot be caught: {e}"), true));
    let (mut term, mut int, mut hup) = (
        on(SignalKind::terminate())?,
        on(SignalKind::interrupt())?,
        on(SignalKind::hangup())?,
    );
    loop {
        tokio::select! {
            ended = server.finished() => return ended,
            _ = term.recv() => return Ok(()),
            _ = int.recv() => return Ok(()),
            _ = hup.recv() => if let Err(failure) = server.reload() {
                eprintln!("the reload failed, all is as before: {failure}");
            },
        }
    }
}

/// Tells the host that started this process where it really listens, if it wants to know.
fn announce(address: &Address) -> Result<(), Failure> {
    let Some(fd) = env::var("LOOP_PROVIDER_READY")
        .ok()
        .and_then(|fd| fd.parse::<RawFd>().ok())
    else {
        return Ok(());
    };
    // SAFETY: the host made the descriptor for this alone, and nothing else here knows its number.
    let mut ready = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    writeln!(ready, "{address}").map_err(|e| Failure::gone(format!("LOOP_PROVIDER_READY={fd}: {e}"), false))
}
