//! What is kept, under the grant.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;

use crate::grant::{Config, Grant, Rule, settings};
use crate::{Error, invalid, quota};

/// An object: its bytes as they came. Who reads it keeps it, whatever becomes of its name.
#[derive(Default)]
pub struct Object {
    pub pieces: Vec<Vec<u8>>,
    pub size: usize,
    /// What it counts in `HELD`: its bytes and its name.
    held: usize,
}

impl Drop for Object {
    fn drop(&mut self) {
        HELD.set(HELD.get() - self.held);
    }
}

#[derive(Default)]
struct Container {
    objects: BTreeMap<String, Rc<Object>>,
    /// Bytes of all of them.
    size: usize,
}

impl Container {
    fn remove(&mut self, name: &str) {
        if let Some(object) = self.objects.remove(name) {
            self.size -= object.size;
        }
    }
}

struct State {
    config: Config,
    grant: Grant,
    containers: BTreeMap<String, Container>,
    streams: usize,
}

thread_local! {
    /// Bytes of all objects that are there, written or still read, and of their names. Apart from the state: objects
    /// are dropped while that is at work.
    static HELD: Cell<usize> = const { Cell::new(0) };
    static STATE: RefCell<State> = RefCell::new({
        let (config, grant) = settings();
        State { config, grant, containers: BTreeMap::new(), streams: 0 }
    });
}

fn with<R>(f: impl FnOnce(&mut State) -> R) -> R {
    STATE.with_borrow_mut(f)
}

impl State {
    fn container(&mut self, name: &str, rule: &Rule) -> Result<&mut Container, Error> {
        if rule.there {
            return Ok(self.containers.entry(name.into()).or_default());
        }
        self.containers.get_mut(name).ok_or(Error::NoSuchContainer)
    }
}

pub fn create(name: &str) -> Result<(), Error> {
    with(|state| {
        state.grant.to_create(name)?;
        if state.containers.contains_key(name) {
            return Err(Error::ContainerExists);
        }
        let most = state.grant.max_containers;
        let created = |name: &&String| state.grant.to_create(name).is_ok();
        if state.containers.keys().filter(created).count() >= most {
            return Err(quota(format!(
                "`grant.max-containers` lets there be {most} that may be created"
            )));
        }
        state.containers.insert(name.into(), Container::default());
        Ok(())
    })
}

/// Whether the grant lets it be used and it is there.
pub fn find(name: &str) -> Result<(), Error> {
    with(|state| {
        let rule = state.grant.rule(name)?;
        state.container(name, &rule).map(drop)
    })
}

pub fn delete_container(name: &str) -> Result<(), Error> {
    with(|state| {
        let rule = state.grant.to_create(name)?;
        state.container(name, &rule)?;
        state.containers.remove(name);
        Ok(())
    })
}

pub fn object(container: &str, name: &str) -> Result<Rc<Object>, Error> {
    with(|state| {
        let rule = state.grant.rule(container)?;
        state.grant.name(name)?;
        let kept = state.container(container, &rule)?;
        kept.objects.get(name).cloned().ok_or(Error::NoSuchObject)
    })
}

pub fn delete(container: &str, names: Vec<String>) -> Result<(), Error> {
    with(|state| {
        let rule = state.grant.to_write(container)?;
        state.grant.many(&names)?;
        let kept = state.container(container, &rule)?;
        names.iter().for_each(|name| kept.remove(name));
        Ok(())
    })
}

pub fn clear(container: &str) -> Result<(), Error> {
    with(|state| {
        let rule = state.grant.to_write(container)?;
        *state.container(container, &rule)? = Container::default();
        Ok(())
    })
}

/// Names after one; `most`: how many, None: all.
pub fn names(container: &str, after: Option<&str>, all: bool) -> Result<Vec<String>, Error> {
    with(|state| {
        let rule = state.grant.rule(container)?;
        after.map_or(Ok(()), |after| state.grant.name(after))?;
        let most = if all { usize::MAX } else { state.grant.max_list };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let kept = state.container(container, &rule)?;
        let names = kept.objects.range::<str, _>((from, Bound::Unbounded));
        Ok(names.take(most).map(|(name, _)| name.clone()).collect())
    })
}

pub fn max_whole() -> usize {
    with(|state| state.grant.max_whole)
}

/// One stream of those that may be open, until it is dropped.
pub struct Open(());

impl Open {
    pub fn new() -> Result<Open, Error> {
        with(|state| {
            let most = state.grant.max_streams;
            if state.streams >= most {
                return Err(quota(format!(
                    "{most} streams are open; `grant.max-streams` lets there be {most}"
                )));
            }
            state.streams += 1;
            Ok(Open(()))
        })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        with(|state| state.streams -= 1);
    }
}

/// An object that is being written.
pub struct Writing {
    container: String,
    name: String,
    rule: Rule,
    object: Object,
}

impl Writing {
    pub fn new(container: &str, name: &str) -> Result<Writing, Error> {
        with(|state| {
            let rule = state.grant.to_write(container)?;
            state.grant.name(name)?;
            state.container(container, &rule)?;
            let mut writing = Writing {
                container: container.into(),
                name: name.into(),
                rule,
                object: Object::default(),
            };
            writing.hold(state, name.len())?;
            Ok(writing)
        })
    }

    pub fn write(&mut self, piece: Vec<u8>) -> Result<(), Error> {
        if piece.is_empty() {
            return Ok(());
        }
        with(|state| {
            let (size, most) = (self.object.size + piece.len(), state.grant.max_object);
            if size > most {
                return Err(quota(format!(
                    "an object of more than {most} bytes, which `grant.max-object` lets it have"
                )));
            }
            self.check(state, size)?;
            self.hold(state, piece.len())?;
            self.object.size = size;
            self.object.pieces.push(piece);
            Ok(())
        })
    }

    /// Gives it its name.
    pub fn finish(mut self) -> Result<usize, Error> {
        with(|state| {
            let size = self.object.size;
            self.check(state, size)?;
            let object = Rc::new(std::mem::take(&mut self.object));
            let kept = state.container(&self.container, &self.rule)?;
            kept.remove(&self.name);
            kept.size += size;
            kept.objects.insert(std::mem::take(&mut self.name), object);
            Ok(size)
        })
    }

    /// Counts so many bytes more, if there is room.
    fn hold(&mut self, state: &State, more: usize) -> Result<(), Error> {
        let (held, most) = (HELD.get() + more, state.config.max_memory);
        if held > most {
            return Err(quota(format!(
                "all objects and their names would have more than the {most} bytes of `config.max-memory`"
            )));
        }
        HELD.set(held);
        self.object.held += more;
        Ok(())
    }

    /// Whether the container may hold this and what else there is.
    fn check(&self, state: &mut State, size: usize) -> Result<(), Error> {
        let rule = &self.rule;
        let kept = state.container(&self.container, rule)?;
        let old = kept.objects.get(&self.name);
        let size = kept.size + size - old.map_or(0, |old| old.size);
        let objects = kept.objects.len() + usize::from(old.is_none());
        for (key, what, would, may) in [
            ("max-size", "bytes", size, rule.max_size),
            ("max-objects", "objects", objects, rule.max_objects),
        ] {
            if would > may {
                return Err(quota(format!(
                    "the container would have {would} {what}; `{key}` of its grant lets it have {may}"
                )));
            }
        }
        Ok(())
    }
}

/// What of an object, in pieces, lies between the first and the last byte that are wanted.
pub fn part(object: &Object, start: u64, end: u64) -> Result<Vec<(usize, std::ops::Range<usize>)>, Error> {
    if start > end {
        return Err(invalid(format!(
            "the bytes from {start} to {end}: the first is after the last"
        )));
    }
    let size = object.size as u64;
    let (from, to) = (start.min(size) as usize, end.saturating_add(1).min(size) as usize);
    let mut at = 0;
    let mut found = Vec::new();
    for (number, piece) in object.pieces.iter().enumerate() {
        let (first, last) = (from.max(at), to.min(at + piece.len()));
        if first < last {
            found.push((number, first - at..last - at));
        }
        at += piece.len();
    }
    Ok(found)
}
