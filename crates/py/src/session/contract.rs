//! Interfaces as WIT text says them, for peers that have no component to tell.

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Arc;

use loop_engine::{FuncTy, Kind, Resource, Ty, Wit};
use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use crate::errors;
use crate::kept::Kept;
use crate::link::Interface;
use crate::program::Program;
use crate::wave;

/// What one function of a contract is, with what is asked of it at each call.
pub struct Member {
    pub ty: Arc<FuncTy>,
    /// Parameters or result hold streams or futures.
    pub streaming: bool,
    /// The result is a WIT `result`: its error is raised.
    pub fallible: bool,
}

/// Interfaces that are offered or wanted, with their functions in one row.
#[pyclass(frozen, module = "loop_kit._core")]
pub struct Contract {
    interfaces: Vec<loop_engine::Interface>,
    pub members: Vec<Arc<Member>>,
    /// The classes of its resources.
    kept: Arc<Kept>,
}

impl Contract {
    fn made(interfaces: Vec<loop_engine::Interface>) -> Self {
        let members = interfaces.iter().flat_map(|i| &i.funcs).map(|ty| {
            Arc::new(Member {
                streaming: loop_remote::streams(&ty.param_tuple) || loop_remote::streams(&ty.result_tuple),
                fallible: (ty.result.as_ref()).is_some_and(|t| matches!(t.kind, Kind::Result { .. })),
                ty: ty.clone(),
            })
        });
        let members = members.collect();
        Contract {
            interfaces,
            members,
            kept: Arc::default(),
        }
    }

    /// As a handshake says it.
    pub fn offered(&self) -> Vec<loop_wire::Interface> {
        let offered = self.interfaces.iter().map(|i| loop_wire::Interface {
            name: i.name.to_string(),
            functions: i.funcs.iter().map(|f| f.name.to_string()).collect(),
            types: i.funcs.iter().map(|f| f.digest().to_vec()).collect(),
            resources: i.resources.iter().map(|r| r.name.to_string()).collect(),
        });
        offered.collect()
    }

    /// The number of a resource, through all interfaces.
    pub fn resource(&self, interface: &str, name: &str) -> Option<u32> {
        let mut all = self
            .interfaces
            .iter()
            .flat_map(|i| i.resources.iter().map(move |r| (i, r)));
        all.position(|(i, r)| *i.name == *interface && *r.name == *name)
            .map(|n| n as u32)
    }
}

/// A function that passes a resource which none of the interfaces defines.
fn foreign(interfaces: &[loop_engine::Interface]) -> Option<(Arc<FuncTy>, Arc<Resource>)> {
    let defined: Vec<_> = interfaces.iter().flat_map(|i| &i.resources).collect();
    let found = RefCell::new(None);
    let passes = |t: &Ty| match &t.kind {
        Kind::Own(r) | Kind::Borrow(r) if !defined.iter().any(|d| Arc::ptr_eq(d, r)) => {
            found.replace(Some(r.clone()));
            true
        }
        _ => false,
    };
    let mut funcs = interfaces.iter().flat_map(|i| &i.funcs);
    let ty = funcs.find(|f| f.param_tuple.any(&passes) || f.result_tuple.any(&passes))?;
    Some((ty.clone(), found.take()?))
}

#[pymethods]
impl Contract {
    /// Reads WIT from a file or folder and takes the interfaces called `names`, or all of its own packages' without.
    /// What it lacks may be in `more`.
    ///
    /// Raises LoadError where the WIT is not sound or lacks one of them.
    #[new]
    #[pyo3(signature = (path, names, more = None))]
    fn new(py: Python<'_>, path: PathBuf, names: Vec<String>, more: Option<PathBuf>) -> PyResult<Self> {
        let made = Wit::read(&path).and_then(|wit| {
            let more = more.map(|path| Wit::read(&path)).transpose()?;
            let names = if names.is_empty() { wit.interfaces() } else { names };
            let found = names.iter().map(|name| {
                let found = wit.interface(name);
                match &more {
                    Some(more) => found.or_else(|e| more.interface(name).map_err(|_| e)),
                    None => found,
                }
            });
            found.collect::<Result<Vec<_>, _>>()
        });
        Ok(Self::made(made.map_err(|e| errors::of_load(py, &e))?))
    }

    /// The interfaces called `names` of those that a component exports; without, all but those of WASI.
    ///
    /// Raises LoadError where it lacks one, or a function passes resources that none of them defines.
    #[staticmethod]
    fn of(py: Python<'_>, program: &Program, names: Vec<String>) -> PyResult<Self> {
        let mut interfaces: Vec<loop_engine::Interface> = vec![];
        let chosen = |name: &str| match names.is_empty() {
            true => !name.is_empty() && !name.starts_with("wasi:"),
            false => names.iter().any(|wanted| loop_wire::serves(name, wanted)),
        };
        let own = program
            .shell
            .inner
            .resources()
            .iter()
            .filter(|r| r.host.is_none());
        for export in &program.shell.inner.exports {
            let ty = &export.ty;
            if !chosen(&ty.interface) {
                continue;
            }
            match interfaces.iter_mut().find(|i| i.name == ty.interface) {
                Some(interface) => interface.funcs.push(ty.clone()),
                None => interfaces.push(loop_engine::Interface {
                    name: ty.interface.clone(),
                    funcs: vec![ty.clone()],
                    resources: own
                        .clone()
                        .filter(|r| r.interface == ty.interface)
                        .cloned()
                        .collect(),
                }),
            }
        }
        if let Some((ty, resource)) = foreign(&interfaces) {
            let text = format!(
                "{}: passes a {} of {}, which is not served: only what the served interfaces define can be passed",
                ty.path(),
                resource.name,
                resource.interface
            );
            return Err(errors::raise(py, "LoadError", (text,)));
        }
        let lacks = |wanted: &&String| !interfaces.iter().any(|i| loop_wire::serves(&i.name, wanted));
        let missing = names.iter().find(lacks).map(String::as_str);
        if let Some(missing) = missing.or(interfaces.is_empty().then_some("interface to serve")) {
            return Err(errors::raise(
                py,
                "LoadError",
                (format!("the component exports no {missing}"),),
            ));
        }
        Ok(Self::made(interfaces))
    }

    /// The arguments of a call of function `index`, written as WAVE, as Python values.
    ///
    /// Raises ValueError with the parser's words, IndexError where there is no such function.
    fn parse_args(&self, py: Python<'_>, index: usize, text: &str) -> PyResult<Vec<Py<PyAny>>> {
        wave::parse(py, &self.member(index)?.ty, text)
    }

    /// What a call of function `index` returned (or, with `error`, raised as `Err`) as WAVE.
    ///
    /// Raises ValueError where it holds a handle, a stream or a future, IndexError where there is no such function.
    #[pyo3(signature = (index, value, error = false))]
    fn format_result(&self, py: Python<'_>, index: usize, value: Py<PyAny>, error: bool) -> PyResult<String> {
        let member = self.member(index)?;
        wave::format(py, &member.ty, value, member.fallible && !error)
    }

    /// Has `class_` wrap the handles of a resource from now on, for whoever uses this contract.
    fn set_resource_class(&self, interface: &str, name: &str, class_: Py<PyAny>) {
        let mut all = self.interfaces.iter().flat_map(|i| &i.resources);
        if let Some(r) = all.find(|r| &*r.interface == interface && &*r.name == name) {
            let _ = r.ext.set(Box::new(self.kept.keep(class_)));
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.kept.traverse(&visit)
    }

    fn __clear__(&self) {
        self.kept.clear();
    }

    /// The interfaces, with functions in the order of their numbers.
    fn interfaces(&self, py: Python<'_>) -> PyResult<Vec<Interface>> {
        self.interfaces.iter().map(|i| Interface::of(py, i)).collect()
    }
}

impl Contract {
    /// Raises IndexError where there is no function of that number.
    pub fn member(&self, index: usize) -> PyResult<Arc<Member>> {
        let member = self.members.get(index).cloned();
        member.ok_or_else(|| PyIndexError::new_err(format!("there is no function number {index}")))
    }
}
