//! `streaming`: files as streams.

use wit_bindgen::{FutureReader, StreamReader, StreamResult, spawn_local};

use crate::Memory;
use crate::exports::loop_::fsx::files::{DirBorrow, ErrorCode};
use crate::exports::loop_::fsx::streaming::{Guest, Placement};
use crate::path::Spot;
use crate::state::{self, Permit, with};
use crate::store::{Id, MAX_SIZE, Result, Root, Store};
use crate::writing::{self, Open};
use crate::{wit_future, wit_stream};

/// Bytes that are moved at once.
const CHUNK: usize = 256 << 10;

/// A file that stays for as long as a stream reads or writes it.
struct Held {
    volume: usize,
    id: Id,
}

impl Held {
    fn new(store: &mut Store, volume: usize, id: Id) -> Result<Self> {
        store.hold(volume, id)?;
        Ok(Held { volume, id })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        with(|state| state.store.release(self.volume, self.id));
    }
}

impl Guest for Memory {
    async fn read_stream(
        dir: DirBorrow<'_>,
        path: String,
        offset: u64,
    ) -> Result<(StreamReader<u8>, FutureReader<Result<()>>)> {
        let root = state::root(&dir);
        let permit = Permit::take()?;
        let held = with(|state| {
            let id = state.store.file(&root, &path)?;
            Held::new(&mut state.store, root.volume, id)
        })?;
        let (mut bytes, stream) = wit_stream::new();
        let (end, ended) = wit_future::new(|| Ok(()));
        spawn_local(async move {
            let mut at = offset;
            loop {
                let chunk = with(|state| chunk(&state.store, held.id, at));
                at += chunk.len() as u64;
                if chunk.is_empty() || !bytes.write_all(chunk).await.is_empty() {
                    break;
                }
            }
            drop((held, permit, bytes));
            let _ = end.write(Ok(())).await; // or nobody wants to know
        });
        Ok((stream, ended))
    }

    async fn write_stream(
        dir: DirBorrow<'_>,
        path: String,
        placement: Placement,
        mut data: StreamReader<u8>,
    ) -> Result<u64> {
        let root = state::root(&dir);
        let _permit = Permit::take()?;
        let mut sink = with(|state| Sink::new(&mut state.store, &root, &path, placement))?;
        loop {
            let (result, chunk) = data.read(Vec::with_capacity(CHUNK)).await;
            if !chunk.is_empty() {
                with(|state| sink.write(&mut state.store, &chunk))?;
            }
            if result == StreamResult::Dropped {
                break;
            }
        }
        with(|state| sink.finish(&mut state.store))
    }
}

fn chunk(store: &Store, id: Id, offset: u64) -> Vec<u8> {
    let data = store.bytes(id).unwrap_or_default();
    let rest = usize::try_from(offset)
        .ok()
        .and_then(|at| data.get(at..))
        .unwrap_or_default();
    rest[..rest.len().min(CHUNK)].to_vec()
}

/// A file that a stream is written to.
struct Sink {
    written: u64,
    into: Into,
}

enum Into {
    Place {
        file: Open,
        /// Where the next bytes go; none: the end of the file.
        at: Option<u64>,
        _held: Held,
    },
    Atomic(Unnamed),
}

/// A file that gets its name in the end; gone if it gets none.
struct Unnamed {
    volume: usize,
    id: Option<Id>,
    spot: Spot,
}

impl Drop for Unnamed {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            with(|state| state.store.forget(self.volume, id));
        }
    }
}

impl Sink {
    fn new(store: &mut Store, root: &Root, path: &str, placement: Placement) -> Result<Self> {
        let volume = root.to_change()?;
        if let Placement::Atomic(_) = placement {
            let spot = writing::target(store, root, path)?;
            let id = Some(store.unnamed(volume)?);
            let into = Into::Atomic(Unnamed { volume, id, spot });
            return Ok(Sink { written: 0, into });
        }
        let file = writing::open(store, root, path, true)?;
        let at = match placement {
            Placement::At(offset) if offset > MAX_SIZE => return Err(ErrorCode::FileTooLarge),
            Placement::At(offset) => Some(offset),
            Placement::Append => None,
            _ => {
                store.set(file.id, vec![])?;
                file.tell(store);
                Some(0)
            }
        };
        let held = Held::new(store, volume, file.id)?;
        let into = Into::Place {
            file,
            at,
            _held: held,
        };
        Ok(Sink { written: 0, into })
    }

    fn write(&mut self, store: &mut Store, data: &[u8]) -> Result<()> {
        match &mut self.into {
            Into::Place { file, at, .. } => {
                let offset = at.unwrap_or_else(|| store.node(file.id).size());
                store.put(file.id, offset, data)?;
                if let Some(at) = at {
                    *at += data.len() as u64;
                }
                file.tell(store);
            }
            Into::Atomic(Unnamed { id, .. }) => {
                let id = id.expect("it has no name yet");
                store.put(id, self.written, data)?;
            }
        }
        self.written += data.len() as u64;
        Ok(())
    }

    /// The bytes that were written.
    fn finish(&mut self, store: &mut Store) -> Result<u64> {
        if let Into::Atomic(unnamed) = &mut self.into {
            let spot = &unnamed.spot;
            // much may have happened while the stream was read
            if store
                .entries(spot.dir)?
                .get(&spot.name)
                .is_some_and(|id| store.is_directory(*id))
            {
                return Err(ErrorCode::IsDirectory);
            }
            if let Some(id) = unnamed.id.take() {
                store.name(unnamed.volume, spot.dir, &spot.name, id);
            }
        }
        Ok(self.written)
    }
}
