//! WASI's interfaces in a linker: those that a component imports, and no more, since each load pays for each.

use std::collections::BTreeSet;

use wasmtime::Result;
use wasmtime::component::{HasData, Linker, ResourceTable};
use wasmtime_wasi::cli::{WasiCli, WasiCliView as _};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView as _};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView as _};
use wasmtime_wasi::random::{WasiRandom, WasiRandomView as _};
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsView as _};
use wasmtime_wasi::{p2::bindings as p2, p3::bindings as p3};
use wasmtime_wasi_http::{WasiHttp, WasiHttpView as _};
use wasmtime_wasi_http::{p2::bindings as http2, p3::bindings as http3};

use crate::instance::State;
use crate::program::StoreKind;

/// wasi:io touches the table only, so that it does not make the rest of WASI's state.
struct Table;

impl HasData for Table {
    type Data<'a> = &'a mut ResourceTable;
}

/// Links the interfaces of `imports` that WASI 0.2 and 0.3 have; what else is among them stays missing.
///
/// Errors when an interface is linked already.
pub(crate) fn link<'n>(
    linker: &mut Linker<State>,
    kind: StoreKind,
    imports: impl Iterator<Item = &'n str>,
) -> Result<()> {
    let split = |name: &'n str| {
        let (interface, version) = name.strip_prefix("wasi:")?.split_once('@')?;
        let minor = version.strip_prefix("0.")?.split('.').next()?;
        Some((minor, interface))
    };
    // one import an interface: the linker finds the same 0.2 for every patch version asked for
    for (minor, interface) in imports.filter_map(split).collect::<BTreeSet<_>>() {
        match (minor, kind) {
            ("2", kind) => link2(linker, kind, interface)?,
            ("3", StoreKind::Async) => link3(linker, interface)?,
            _ => {}
        }
    }
    Ok(())
}

fn link2(l: &mut Linker<State>, kind: StoreKind, interface: &str) -> Result<()> {
    use p2::{cli, clocks, filesystem, random, sockets, sync};
    match (interface, kind) {
        ("cli/environment", _) => cli::environment::add_to_linker::<_, WasiCli>(l, State::cli),
        ("cli/exit", _) => cli::exit::add_to_linker::<_, WasiCli>(l, State::cli),
        ("cli/stdin", _) => cli::stdin::add_to_linker::<_, WasiCli>(l, State::cli),
        ("cli/stdout", _) => cli::stdout::add_to_linker::<_, WasiCli>(l, State::cli),
        ("cli/stderr", _) => cli::stderr::add_to_linker::<_, WasiCli>(l, State::cli),
        ("cli/terminal-input", _) => cli::terminal_input::add_to_linker::<_, WasiCli>(l, State::cli),
        ("cli/terminal-output", _) => cli::terminal_output::add_to_linker::<_, WasiCli>(l, State::cli),
        ("cli/terminal-stdin", _) => cli::terminal_stdin::add_to_linker::<_, WasiCli>(l, State::cli),
        ("cli/terminal-stdout", _) => cli::terminal_stdout::add_to_linker::<_, WasiCli>(l, State::cli),
        ("cli/terminal-stderr", _) => cli::terminal_stderr::add_to_linker::<_, WasiCli>(l, State::cli),
        ("clocks/wall-clock", _) => clocks::wall_clock::add_to_linker::<_, WasiClocks>(l, State::clocks),
        ("clocks/monotonic-clock", _) => {
            clocks::monotonic_clock::add_to_linker::<_, WasiClocks>(l, State::clocks)
        }
        ("random/random", _) => random::random::add_to_linker::<_, WasiRandom>(l, State::random),
        ("random/insecure", _) => random::insecure::add_to_linker::<_, WasiRandom>(l, State::random),
        ("random/insecure-seed", _) => {
            random::insecure_seed::add_to_linker::<_, WasiRandom>(l, State::random)
        }
        ("filesystem/preopens", _) => {
            filesystem::preopens::add_to_linker::<_, WasiFilesystem>(l, State::filesystem)
        }
        ("filesystem/types", StoreKind::Sync) => {
            sync::filesystem::types::add_to_linker::<_, WasiFilesystem>(l, State::filesystem)
        }
        ("filesystem/types", StoreKind::Async) => {
            filesystem::types::add_to_linker::<_, WasiFilesystem>(l, State::filesystem)
        }
        ("sockets/network", _) => {
            let options = p2::LinkOptions::default();
            sockets::network::add_to_linker::<_, WasiSockets>(l, &(&options).into(), State::sockets)
        }
        ("sockets/instance-network", _) => {
            sockets::instance_network::add_to_linker::<_, WasiSockets>(l, State::sockets)
        }
        ("sockets/ip-name-lookup", _) => {
            sockets::ip_name_lookup::add_to_linker::<_, WasiSockets>(l, State::sockets)
        }
        ("sockets/tcp-create-socket", _) => {
            sockets::tcp_create_socket::add_to_linker::<_, WasiSockets>(l, State::sockets)
        }
        ("sockets/udp-create-socket", StoreKind::Sync) => {
            sync::sockets::udp_create_socket::add_to_linker::<_, WasiSockets>(l, State::sockets)
        }
        ("sockets/udp-create-socket", StoreKind::Async) => {
            sockets::udp_create_socket::add_to_linker::<_, WasiSockets>(l, State::sockets)
        }
        ("sockets/tcp", StoreKind::Sync) => {
            sync::sockets::tcp::add_to_linker::<_, WasiSockets>(l, State::sockets)
        }
        ("sockets/tcp", StoreKind::Async) => sockets::tcp::add_to_linker::<_, WasiSockets>(l, State::sockets),
        ("sockets/udp", StoreKind::Sync) => {
            sync::sockets::udp::add_to_linker::<_, WasiSockets>(l, State::sockets)
        }
        ("sockets/udp", StoreKind::Async) => sockets::udp::add_to_linker::<_, WasiSockets>(l, State::sockets),
        _ => link2_io(l, kind, interface),
    }
}

fn link2_io(l: &mut Linker<State>, kind: StoreKind, interface: &str) -> Result<()> {
    use p2::{io, sync};
    let table: fn(&mut State) -> &mut ResourceTable = |s| &mut s.wasi().table;
    let options = http2::LinkOptions::default();
    match (interface, kind) {
        ("io/error", _) => io::error::add_to_linker::<_, Table>(l, table),
        ("io/poll", StoreKind::Sync) => sync::io::poll::add_to_linker::<_, Table>(l, table),
        ("io/poll", StoreKind::Async) => io::poll::add_to_linker::<_, Table>(l, table),
        ("io/streams", StoreKind::Sync) => sync::io::streams::add_to_linker::<_, Table>(l, table),
        ("io/streams", StoreKind::Async) => io::streams::add_to_linker::<_, Table>(l, table),
        ("http/types", StoreKind::Sync) => {
            http2::sync::http::types::add_to_linker::<_, WasiHttp>(l, &(&options).into(), State::http)
        }
        ("http/types", StoreKind::Async) => {
            http2::http::types::add_to_linker::<_, WasiHttp>(l, &(&options).into(), State::http)
        }
        ("http/outgoing-handler", StoreKind::Sync) => {
            http2::sync::http::outgoing_handler::add_to_linker::<_, WasiHttp>(l, State::http)
        }
        ("http/outgoing-handler", StoreKind::Async) => {
            http2::http::outgoing_handler::add_to_linker::<_, WasiHttp>(l, State::http)
        }
        _ => Ok(()),
    }
}

fn link3(l: &mut Linker<State>, interface: &str) -> Result<()> {
    use p3::{cli, clocks, filesystem, random, sockets};
    match interface {
        "cli/environment" => cli::environment::add_to_linker::<_, WasiCli>(l, State::cli),
        "cli/exit" => cli::exit::add_to_linker::<_, WasiCli>(l, State::cli),
        "cli/stdin" => cli::stdin::add_to_linker::<_, WasiCli>(l, State::cli),
        "cli/stdout" => cli::stdout::add_to_linker::<_, WasiCli>(l, State::cli),
        "cli/stderr" => cli::stderr::add_to_linker::<_, WasiCli>(l, State::cli),
        "cli/terminal-input" => cli::terminal_input::add_to_linker::<_, WasiCli>(l, State::cli),
        "cli/terminal-output" => cli::terminal_output::add_to_linker::<_, WasiCli>(l, State::cli),
        "cli/terminal-stdin" => cli::terminal_stdin::add_to_linker::<_, WasiCli>(l, State::cli),
        "cli/terminal-stdout" => cli::terminal_stdout::add_to_linker::<_, WasiCli>(l, State::cli),
        "cli/terminal-stderr" => cli::terminal_stderr::add_to_linker::<_, WasiCli>(l, State::cli),
        "clocks/types" => clocks::types::add_to_linker::<_, WasiClocks>(l, State::clocks),
        "clocks/monotonic-clock" => clocks::monotonic_clock::add_to_linker::<_, WasiClocks>(l, State::clocks),
        "clocks/system-clock" => clocks::system_clock::add_to_linker::<_, WasiClocks>(l, State::clocks),
        "random/random" => random::random::add_to_linker::<_, WasiRandom>(l, State::random),
        "random/insecure" => random::insecure::add_to_linker::<_, WasiRandom>(l, State::random),
        "random/insecure-seed" => random::insecure_seed::add_to_linker::<_, WasiRandom>(l, State::random),
        "filesystem/types" => filesystem::types::add_to_linker::<_, WasiFilesystem>(l, State::filesystem),
        "filesystem/preopens" => {
            filesystem::preopens::add_to_linker::<_, WasiFilesystem>(l, State::filesystem)
        }
        "sockets/types" => sockets::types::add_to_linker::<_, WasiSockets>(l, State::sockets),
        "sockets/ip-name-lookup" => {
            sockets::ip_name_lookup::add_to_linker::<_, WasiSockets>(l, State::sockets)
        }
        "http/types" => http3::http::types::add_to_linker::<_, WasiHttp>(l, State::http),
        "http/client" => http3::http::client::add_to_linker::<_, WasiHttp>(l, State::http),
        _ => Ok(()),
    }
}
