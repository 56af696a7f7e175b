//! All that the component keeps.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::exports::loop_::fsx::files::{DirBorrow, ErrorCode};
use crate::grant::{self, Links, Mode};
use crate::seed;
use crate::store::{Id, Result, Root, Store};

pub struct State {
    pub store: Store,
    pub roots: BTreeMap<String, Rc<Root>>,
    temp: Option<Temp>,
    pub max_read: usize,
    pub max_entries: usize,
    max_streams: usize,
    streams: usize,
}

/// Where temporary directories come from.
struct Temp {
    volume: usize,
    max: usize,
    now: usize,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::new(State::granted());
}

pub fn with<R>(f: impl FnOnce(&mut State) -> R) -> R {
    STATE.with_borrow_mut(f)
}

/// What the resource `dir` stands for.
pub struct Handle {
    pub root: Rc<Root>,
    is_temporary: bool,
}

impl Handle {
    pub fn new(root: Rc<Root>) -> Self {
        let is_temporary = false;
        Handle { root, is_temporary }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.is_temporary {
            with(|state| state.remove_temp(self.root.top));
        }
    }
}

/// The root that a handle is of.
pub fn root(dir: &DirBorrow<'_>) -> Rc<Root> {
    dir.get::<Handle>().root.clone()
}

/// One of the streams that there may be at once.
pub struct Permit(());

impl Permit {
    pub fn take() -> Result<Self> {
        with(|state| {
            if state.streams == state.max_streams {
                return Err(ErrorCode::Quota);
            }
            state.streams += 1;
            Ok(Permit(()))
        })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        with(|state| state.streams -= 1);
    }
}

impl State {
    fn granted() -> State {
        let grant = grant::read();
        let mut store = Store::default();
        store.watches.bound(&grant);
        let mut roots = BTreeMap::new();
        for (name, granted) in &grant.roots {
            let root = Root {
                top: store.top(),
                volume: store.volume(granted.most()),
                links: granted.links,
                writable: granted.mode == Mode::Rw,
            };
            roots.insert(name.clone(), Rc::new(root));
        }
        let temp = grant.temp.map(|granted| Temp {
            volume: store.volume(granted.most()),
            max: granted.max_dirs(),
            now: 0,
        });
        seed::sow(&mut store, roots.iter().map(|(name, root)| (name, &**root)));
        State {
            store,
            roots,
            temp,
            max_read: grant.max_read.get(),
            max_entries: grant.max_entries.get(),
            max_streams: grant.max_streams.get(),
            streams: 0,
        }
    }

    pub fn temp_dir(&mut self) -> Result<Handle> {
        let temp = self.temp.as_mut().ok_or(ErrorCode::NotPermitted)?;
        if temp.now == temp.max {
            return Err(ErrorCode::Quota);
        }
        let top = self.store.new_top(temp.volume)?;
        temp.now += 1;
        let root = Root {
            top,
            volume: temp.volume,
            links: Links::Create,
            writable: true,
        };
        Ok(Handle {
            root: Rc::new(root),
            is_temporary: true,
        })
    }

    fn remove_temp(&mut self, top: Id) {
        let temp = self.temp.as_mut().expect("it came from there");
        temp.now -= 1;
        self.store.clear(temp.volume, top);
        self.store.remove_top(temp.volume, top);
    }
}
