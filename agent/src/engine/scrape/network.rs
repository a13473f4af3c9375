//! A process and some work in; the work done inside that process's network namespace, by a thread that then ends.

use crate::engine::scrape::Error;
use crate::ident::Pid;
use crate::sys;
use std::thread;
use tokio::runtime::Builder;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// A runtime for one thread: its sockets are made by that thread, so they are in its namespace.
pub(super) fn runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// Does `work` in a thread of its own that has entered the namespace: no other thread ever has.
pub(super) async fn inside<T, F>(pid: Pid, work: impl FnOnce() -> F + Send + 'static) -> Result<T, Error>
where
    T: Send + 'static,
    F: Future<Output = T>,
{
    let (done, result) = oneshot::channel();
    let body = move || {
        let entered = sys::enter_network(pid.0).and_then(|()| runtime());
        let worked = match entered {
            Ok(runtime) => Ok(runtime.block_on(work())),
            Err(error) => Err(Error::Network(error.to_string())),
        };
        // Who waited may have gone.
        drop(done.send(worked));
    };
    thread::Builder::new()
        .name("scrape".to_owned())
        .spawn(body)
        .map_err(|error| Error::Client(format!("no thread: {error}")))?;
    result.await.unwrap_or_else(|_gone| Err(Error::Client("the thread ended early".to_owned())))
}
