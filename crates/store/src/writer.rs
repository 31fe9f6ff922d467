//! The one writer: takes jobs in order, lets each read and change a view, and applies many of them in one batch.
//!
//! Counts are cells next to the rows they count, so a job reads before it writes. Because there is one writer, no
//! other change can come between; because a group of jobs is one batch, the cost of a write is shared.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot};

use crate::{Error, Result, Store, View};

/// Bounds of the writer.
#[derive(Debug, Clone)]
pub struct WriterConfig {
    /// Jobs that may wait. Beyond it, callers wait.
    pub jobs_waiting_max: usize,
    /// Jobs applied as one batch.
    pub jobs_per_group_max: usize,
    /// Changed rows after which a group is applied.
    pub rows_per_group_max: usize,
    /// Applied changes survive a power cut after at most this time.
    pub sync_every: Duration,
    /// While the disk is full, the writer looks again this often.
    pub full_retry_every: Duration,
}

impl Default for WriterConfig {
    fn default() -> Self {
        Self {
            jobs_waiting_max: 4096,
            jobs_per_group_max: 512,
            rows_per_group_max: 8192,
            sync_every: Duration::from_secs(1),
            full_retry_every: Duration::from_secs(1),
        }
    }
}

/// Called once the group of a job has been applied, or could not be.
pub type Done = Box<dyn FnOnce(Result<()>) + Send>;

type Work = Box<dyn FnOnce(&mut View<'_>) -> Done + Send>;

/// The way to the one writer. Cheap to clone.
#[derive(Clone)]
pub struct Writer {
    jobs: mpsc::Sender<Work>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    full: AtomicBool,
    failed: AtomicBool,
    pending: AtomicU64,
}

impl Writer {
    /// Starts the writer's thread. It ends, everything taken applied and synced, when all senders are gone.
    pub fn start(store: Store, config: WriterConfig) -> Result<(Self, JoinHandle<()>)> {
        let (jobs, inbox) = mpsc::channel(config.jobs_waiting_max);
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let thread = std::thread::Builder::new()
            .name("writer".into())
            .spawn(move || run(&store, inbox, &config, &shared))
            .map_err(|e| Error::Engine(format!("the writer's thread cannot be started: {e}")))?;
        Ok((Self { jobs, state }, thread))
    }

    /// Runs a job and waits until its changes are applied. A job that fails changes nothing.
    pub async fn run<T, E>(&self, job: impl FnOnce(&mut View<'_>) -> std::result::Result<T, E> + Send + 'static) -> std::result::Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let (tell, told) = oneshot::channel();
        self.submit(move |view| {
            let mark = view.mark();
            let answer = job(view);
            if answer.is_err() {
                view.roll_back(mark);
            }
            Box::new(move |applied| {
                // The caller may have gone; the changes stand all the same.
                let _ = tell.send(match applied {
                    Ok(()) => answer,
                    Err(e) => Err(e.into()),
                });
            })
        })
        .await?;
        told.await.map_err(|_| E::from(Error::Closed))?
    }

    /// Queues a job without waiting for it to be applied; waits only for a place in the queue.
    ///
    /// The job returns what to call after its group has been applied.
    pub async fn submit(&self, job: impl FnOnce(&mut View<'_>) -> Done + Send + 'static) -> Result<()> {
        self.state.pending.fetch_add(1, Ordering::AcqRel);
        let sent = self.jobs.send(Box::new(job)).await;
        if sent.is_err() {
            self.state.pending.fetch_sub(1, Ordering::AcqRel);
            return Err(Error::Closed);
        }
        Ok(())
    }

    /// Jobs waiting or being applied.
    pub fn pending(&self) -> u64 {
        self.state.pending.load(Ordering::Acquire)
    }

    /// Whether writing has stopped because the disk is full.
    pub fn disk_full(&self) -> bool {
        self.state.full.load(Ordering::Relaxed)
    }

    /// Whether the engine has failed and writing has stopped for good.
    pub fn failed(&self) -> bool {
        self.state.failed.load(Ordering::Relaxed)
    }
}

fn run(store: &Store, mut inbox: mpsc::Receiver<Work>, config: &WriterConfig, state: &State) {
    let mut synced = Instant::now();
    let mut unsynced = false;
    loop {
        let first = match inbox.try_recv() {
            Ok(work) => work,
            Err(mpsc::error::TryRecvError::Disconnected) => break,
            Err(mpsc::error::TryRecvError::Empty) => {
                // Nothing waits: a good moment to sync what was applied.
                if unsynced {
                    unsynced = store.local().sync().is_err();
                    synced = Instant::now();
                }
                match inbox.blocking_recv() {
                    Some(work) => work,
                    None => break,
                }
            }
        };
        let mut view = View::new(store.local());
        let mut done = vec![first(&mut view)];
        while done.len() < config.jobs_per_group_max && view.len() < config.rows_per_group_max {
            match inbox.try_recv() {
                Ok(work) => done.push(work(&mut view)),
                Err(_) => break,
            }
        }
        let batch = view.into_batch();
        let applied = loop {
            if state.failed.load(Ordering::Relaxed) {
                break Err(Error::Engine("writing stopped after an earlier failure: restart the process".into()));
            }
            match store.apply_now(&batch) {
                Err(Error::Full) if !inbox.is_closed() => {
                    // Nothing was applied and nothing is lost: the jobs wait here, and their senders behind them.
                    state.full.store(true, Ordering::Relaxed);
                    std::thread::sleep(config.full_retry_every);
                }
                Err(e) => {
                    tracing::error!(error = %e, "writing failed; no further changes are taken");
                    state.failed.store(true, Ordering::Relaxed);
                    break Err(e);
                }
                Ok(()) => {
                    state.full.store(false, Ordering::Relaxed);
                    break Ok(());
                }
            }
        };
        unsynced = true;
        if synced.elapsed() >= config.sync_every {
            unsynced = store.local().sync().is_err();
            synced = Instant::now();
        }
        let taken = done.len() as u64;
        for tell in done {
            tell(applied.clone());
        }
        state.pending.fetch_sub(taken, Ordering::AcqRel);
    }
    if let Err(e) = store.local().sync() {
        tracing::error!(error = %e, "the last changes could not be synced to the disk");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cache, Key, Table};

    static T: Table = Table { id: 1, name: "t", partition: &[], clustering: &[], value: &[], cache: Cache::Near };

    #[tokio::test]
    async fn jobs_see_the_ones_before_them_and_a_failed_one_changes_nothing() {
        let store = Store::mem(&[&T]);
        let (writer, thread) = Writer::start(store.clone(), WriterConfig::default()).unwrap();
        let key = Key::of(&T).atom(b"n").key();
        let mut waits = Vec::new();
        for n in 0..100u32 {
            let (writer, key) = (writer.clone(), key.clone());
            waits.push(tokio::spawn(async move {
                writer
                    .run(move |view| {
                        let old = view.get(&key)?.map_or(0, |v| u32::from_be_bytes(v[..4].try_into().expect("four bytes")));
                        view.put(key.clone(), (old + 1).to_be_bytes().to_vec());
                        if n % 10 == 0 { Err(Error::Closed) } else { Ok(()) }
                    })
                    .await
            }));
        }
        let mut good = 0u32;
        for wait in waits {
            good += u32::from(wait.await.unwrap().is_ok());
        }
        assert_eq!(good, 90);
        assert_eq!(store.get_one(&key).await.unwrap().as_deref(), Some(&90u32.to_be_bytes()[..]));
        assert_eq!(writer.pending(), 0);
        drop(writer);
        thread.join().unwrap();
    }
}
