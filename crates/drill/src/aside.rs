//! Callers that are to cost nothing but what they ask for.
//!
//! All callers of a drill are on the plane's own processors. To receive three answers of ten megabytes each second is
//! work that small callers in the same process would feel, and that elsewhere another machine does. So such a caller
//! has a thread of its own, which the system lets run when nobody else wants to.

use std::{process::Command, thread};

use anyhow::{Context, Result, anyhow, ensure};
use tokio::runtime::{Builder, Runtime};

use crate::load::{Hosts, Load, Offer};

/// A thread that comes after all others.
pub struct Aside(Option<Runtime>);

impl Aside {
    /// Starts it.
    ///
    /// # Errors
    ///
    /// There can be no other thread, or there is no `renice` (bsdutils) to tell the system about it.
    pub fn start() -> Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().thread_name("aside").build()?;
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        runtime.spawn(async move {
            // The thread that asks is the one that is meant: there is one worker.
            let _ = tell.send(come_last());
        });
        told.recv().context("a thread for large callers")??;
        Ok(Self(Some(runtime)))
    }

    /// Begins a load on it.
    pub fn begin(&self, hosts: &Hosts, offer: Offer) -> Load {
        let _inside = self.0.as_ref().map(Runtime::enter);
        Load::begin(hosts, offer)
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        // It may be dropped by a task of another runtime, which must not wait.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Gives the thread that asks the lowest priority.
fn come_last() -> Result<()> {
    let link = std::fs::read_link("/proc/thread-self").context("/proc/thread-self")?;
    let number = link.file_name().context("the number of a thread")?.to_owned();
    let renice = move || Command::new("renice").args(["-n", "19", "-p"]).arg(number).output();
    let output = thread::spawn(renice).join().map_err(|_| anyhow!("a thread ended"))?;
    let output = output.context("`renice` cannot be run: it comes with bsdutils")?;
    ensure!(output.status.success(), "renice: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
