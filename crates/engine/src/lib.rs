//! loop-kit's engine: WebAssembly components hosted by run-time types.
//!
//! Nothing here knows Python or any capability. A component is compiled and planned by [`Link`], its imports are
//! linked to host functions in some [`Domain`] of values, and the resulting [`Program`] is called.

mod actor;
mod cache;
mod compose;
mod convert;
mod domain;
mod elem;
mod engine;
mod error;
mod import;
mod inspect;
mod instance;
mod joint;
mod lift;
mod limits;
mod link;
mod lower;
mod planner;
mod plans;
mod preview1;
mod preview1_exit;
mod program;
mod reader;
mod resource;
mod scope;
mod serve;
mod shim;
mod stack;
mod start;
mod stream;
mod timed;
mod types;
mod value;
mod wasi;
mod wave;
mod world_types;

pub use actor::{CallContext, Notify, Polled};
pub use convert::{convert, each_number};
pub use domain::{Domain, Handle, HostObject};
pub use engine::Engine;
pub use error::{Ended, Fault, Mismatch, Within};
pub use import::{Import, Later, Outcome};
pub use inspect::{Inspection, Item, inspect};
pub use instance::Home;
pub use limits::{Instances, Limits};
pub use link::{Interface, Link};
pub use program::{Caller, Export, Program, StoreKind};
pub use reader::Reader;
pub use resource::GuestHandle;
pub use scope::{caller, current_home, with_poller};
pub use serve::{OnError, ServeOptions, Server, serve};
pub use start::{Call, Started};
pub use stream::{Block, Chunk, Feed, Settle, Source};
pub use types::{Case, Field, FuncTy, Kind, NamedType, Num, Resource, Ty, TyRef};
pub use value::{Neutral, Value};
pub use wasi::{Input, Net, Output, Preopen, Rule, WasiConfig, exit_code};
pub use wasmtime::{Error, Result};
pub use wave::is_value;
