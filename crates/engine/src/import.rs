//! What an import is linked to.

use std::pin::Pin;
use std::sync::Arc;

use wasmtime::Result;

use crate::domain::Domain;

/// A result that is waited for.
pub type Later<D> = Pin<Box<dyn Future<Output = Result<Option<<D as Domain>::Value>>> + Send>>;

/// What a host function gives back.
pub enum Outcome<D: Domain> {
    Ready(Result<Option<D::Value>>),
    /// The answer comes later; only good where [`Import::waits`] is set.
    Later(Later<D>),
}

/// A host function in one domain.
pub struct Import<D: Domain> {
    /// Takes the arguments in order. It runs with no lock held; on a fibre in an asynchronous Store.
    pub call: Arc<dyn Fn(Vec<D::Value>) -> Outcome<D> + Send + Sync>,
    /// Whether it may answer later, which asks for an asynchronous Store.
    pub waits: bool,
}

impl<D: Domain> Import<D> {
    /// A host function that answers at once.
    pub fn now(f: impl Fn(Vec<D::Value>) -> Result<Option<D::Value>> + Send + Sync + 'static) -> Self {
        Import {
            call: Arc::new(move |args| Outcome::Ready(f(args))),
            waits: false,
        }
    }

    /// A host function that may take its time.
    pub fn later<F>(f: impl Fn(Vec<D::Value>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Option<D::Value>>> + Send + 'static,
    {
        Import {
            call: Arc::new(move |args| Outcome::Later(Box::pin(f(args)))),
            waits: true,
        }
    }
}

impl<D: Domain> Clone for Import<D> {
    fn clone(&self) -> Self {
        Import {
            call: self.call.clone(),
            waits: self.waits,
        }
    }
}
