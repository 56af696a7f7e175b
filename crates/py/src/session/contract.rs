//! Interfaces as WIT text says them, for peers that have no component to tell.

use std::path::PathBuf;
use std::sync::Arc;

use loop_engine::{FuncTy, Wit};
use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;

use crate::errors;
use crate::link::{Function, Interface};

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
}

impl Contract {
    /// As a handshake says it.
    pub fn offered(&self) -> Vec<loop_wire::Interface> {
        let offered = self.interfaces.iter().map(|i| loop_wire::Interface {
            name: i.name.to_string(),
            digest: i.digest().to_vec(),
            functions: i.funcs.iter().map(|f| f.name.to_string()).collect(),
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

#[pymethods]
impl Contract {
    /// Reads WIT from a file or folder and takes the interfaces called `names`, or all of its own packages' without.
    ///
    /// Raises LoadError where the WIT is not sound or lacks one of them.
    #[new]
    fn new(py: Python<'_>, path: PathBuf, names: Vec<String>) -> PyResult<Self> {
        let made = Wit::read(&path).and_then(|wit| {
            let names = if names.is_empty() { wit.interfaces() } else { names };
            names
                .iter()
                .map(|name| wit.interface(name))
                .collect::<Result<Vec<_>, _>>()
        });
        let interfaces = made.map_err(|e| errors::of_load(py, &e))?;
        let members = interfaces.iter().flat_map(|i| &i.funcs).map(|ty| {
            Arc::new(Member {
                streaming: loop_remote::streams(&ty.param_tuple) || loop_remote::streams(&ty.result_tuple),
                fallible: (ty.result.as_ref())
                    .is_some_and(|t| matches!(t.kind, loop_engine::Kind::Result { .. })),
                ty: ty.clone(),
            })
        });
        let members = members.collect();
        Ok(Contract { interfaces, members })
    }

    /// The interfaces, with functions in the order of their numbers.
    fn interfaces(&self, py: Python<'_>) -> PyResult<Vec<Interface>> {
        let made = self.interfaces.iter().map(|i| {
            Ok(Interface {
                name: i.name.to_string(),
                functions: i
                    .funcs
                    .iter()
                    .map(|f| Py::new(py, Function::of(f)))
                    .collect::<PyResult<_>>()?,
                resources: i.resources.iter().map(|r| r.name.to_string()).collect(),
            })
        });
        made.collect()
    }
}

impl Contract {
    /// Raises IndexError where there is no function of that number.
    pub fn member(&self, index: usize) -> PyResult<Arc<Member>> {
        let member = self.members.get(index).cloned();
        member.ok_or_else(|| PyIndexError::new_err(format!("there is no function number {index}")))
    }
}
