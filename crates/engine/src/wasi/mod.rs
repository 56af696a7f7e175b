//! WASI by wasmtime-wasi: what a component is granted, and nothing else.

mod command;
mod link;
mod net;
mod stdio;

use std::path::PathBuf;
use std::sync::Arc;

use wasmtime::component::ResourceTable;
use wasmtime::{Result, error::Context as _};
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::instance::State;

pub use command::exit_code;
pub(crate) use link::link;
pub use net::{Net, Rule};
pub use stdio::{Input, Output};

/// What a component may reach through WASI. The default is nothing but clocks and random numbers.
#[derive(Clone, Debug, Default)]
pub struct WasiConfig {
    /// Arguments of a command; the first is the program's name.
    pub args: Vec<String>,
    /// The whole environment: nothing is inherited.
    pub env: Vec<(String, String)>,
    pub dirs: Vec<Preopen>,
    /// Addresses for TCP and UDP, to connect to and to listen on. Names can be looked up once a rule has one.
    pub net: Net,
    /// Servers that `wasi:http` requests may be sent to.
    pub http: Net,
    pub stdin: Input,
    pub stdout: Output,
    pub stderr: Output,
}

/// A folder of the host that a component sees.
#[derive(Clone, Debug)]
pub struct Preopen {
    pub host: PathBuf,
    pub guest: String,
    pub writable: bool,
}

impl WasiConfig {
    /// Errors when a folder to open is not there.
    fn context(&self) -> Result<WasiCtx> {
        let mut b = WasiCtxBuilder::new();
        b.args(&self.args).envs(&self.env);
        for d in &self.dirs {
            let perms = if d.writable {
                FsPerms::ReadWrite
            } else {
                FsPerms::ReadOnly
            };
            b.preopened_dir(&d.host, &d.guest, perms)
                .with_context(|| format!("the folder {} cannot be opened", d.host.display()))?;
        }
        // denied is wasmtime's default for TCP and UDP addresses, not for the protocols
        b.allow_tcp(!self.net.is_empty())
            .allow_udp(!self.net.is_empty())
            .allow_ip_name_lookup(self.net.has_names());
        if !self.net.is_empty() {
            let net = self.net.clone();
            b.socket_addr_check(move |addr, how| Box::pin(net.clone().allows(addr, how)));
        }
        self.stdin.apply(&mut b);
        self.stdout.apply(&mut b, false);
        self.stderr.apply(&mut b, true);
        Ok(b.build())
    }

    /// The WASI state of a new instance. Folders are opened here, the rest is made at first use: most requests to a
    /// server touch none of it.
    ///
    /// Errors when a folder to open is not there.
    pub(crate) fn make(self: &Arc<Self>) -> Result<Wasi> {
        let ctx = if self.dirs.is_empty() {
            None
        } else {
            Some(self.context()?)
        };
        Ok(Wasi {
            config: self.clone(),
            ctx,
            table: ResourceTable::new(),
            http: WasiHttpCtx::new(),
            hooks: net::Hooks(self.clone()),
        })
    }
}

/// One instance's WASI state.
pub(crate) struct Wasi {
    config: Arc<WasiConfig>,
    ctx: Option<WasiCtx>,
    pub table: ResourceTable,
    http: WasiHttpCtx,
    hooks: net::Hooks,
}

impl State {
    pub(crate) fn wasi(&mut self) -> &mut Wasi {
        match &mut self.wasi {
            Some(w) => w,
            None => unreachable!("WASI is linked only where its state is made"),
        }
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let w = self.wasi();
        // only folders can fail, and they were opened already
        let ctx = w
            .ctx
            .get_or_insert_with(|| w.config.context().unwrap_or_default());
        WasiCtxView {
            ctx,
            table: &mut w.table,
        }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let w = self.wasi();
        WasiHttpCtxView {
            hooks: &mut w.hooks,
            table: &mut w.table,
            ctx: &mut w.http,
        }
    }
}
