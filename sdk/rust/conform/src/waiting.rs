//! Calls that wait until a key is released.

use std::sync::{Mutex, PoisonError};

use tokio::sync::oneshot;

#[derive(Default)]
pub struct Waiting(Mutex<Vec<(String, oneshot::Sender<()>)>>);

impl Waiting {
    fn all(&self) -> std::sync::MutexGuard<'_, Vec<(String, oneshot::Sender<()>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub async fn wait(&self, key: String) {
        let (release, released) = oneshot::channel();
        self.all().push((key, release));
        // it is only dropped with all of this
        let _ = released.await;
    }

    pub fn release(&self, key: &str) {
        let released = self.all().extract_if(.., |(of, _)| of == key).collect::<Vec<_>>();
        for (_, release) in released {
            // the call may have been cancelled
            let _ = release.send(());
        }
    }

    /// How many wait.
    pub fn count(&self) -> usize {
        self.all()
            .iter()
            .filter(|(_, release)| !release.is_closed())
            .count()
    }
}
