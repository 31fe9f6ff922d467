//! The way of a read through memcached: one load a key in the process, one in the fleet.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use bytes::Bytes;

use super::{
    Joined, Ticket,
    far::{Far, FarLease},
    load::Load,
    protocol::{Next, Reading},
};
use crate::{Cache, Error, Key, Result, Store, turns};

/// Keys that one load asks for at once.
const KEYS_PER_LOAD: usize = 2048;

/// Rows brought into their form before other tasks of the thread get their turn.
const ROWS_PER_TURN: usize = 256;

/// One key of a load.
struct Wanted {
    place: usize,
    key: Key,
    ticket: Ticket,
    reading: Reading,
    /// Its row is being changed in this process: memcached has nothing to say.
    past_far: bool,
}

impl Store {
    /// Values of keys that memory could not answer, in their order: from loads under way, from memcached, from the engine.
    pub(crate) async fn get_shared(&self, far: &Arc<Far>, keys: &[Key]) -> Result<Vec<Option<Bytes>>> {
        let mut values = Vec::with_capacity(keys.len());
        for part in keys.chunks(KEYS_PER_LOAD) {
            let load = Arc::new(Load::new(part.len()));
            let own = Arc::clone(&load);
            let mut wanted = Vec::with_capacity(part.len());
            let mut waits = Vec::with_capacity(part.len());
            for (place, key) in part.iter().enumerate() {
                let (ticket, past_far) = match self.near().join(key, &load, place) {
                    Joined::Leads(ticket) => (ticket, false),
                    Joined::Alone => (Ticket::NONE, true),
                    Joined::Follows(other, there) => {
                        waits.push((other, there));
                        continue;
                    }
                };
                waits.push((Arc::clone(&load), place));
                wanted.push(Wanted { place, key: key.clone(), ticket, reading: Reading::default(), past_far });
            }
            far.counters.leaders.fetch_add(wanted.len() as u64, Relaxed);
            far.counters.followers.fetch_add((part.len() - wanted.len()) as u64, Relaxed);
            if !wanted.is_empty() {
                // A task of its own: readers that follow must not depend on this one staying.
                let (store, far) = (self.clone(), Arc::clone(far));
                let lead = async move { Leading::new(store, far, load, &wanted).run(wanted).await };
                tokio::spawn(turns::for_caller(lead));
            }
            let mut bytes = 0;
            for ((joined, place), key) in waits.into_iter().zip(part) {
                let value = match joined.wait(place).await {
                    // Who leads may have had no room left that this reader has.
                    Err(Error::Busy) if !Arc::ptr_eq(&joined, &own) => self.get_alone(key).await?,
                    answer => answer?.inspect(|value| bytes += value.len()),
                };
                values.push(value);
            }
            turns::pay(bytes)?;
        }
        Ok(values)
    }
}

/// A load under way. However it ends, nobody waits for it for ever.
struct Leading {
    store: Store,
    far: Arc<Far>,
    load: Arc<Load>,
    keys: Vec<Key>,
}

impl Drop for Leading {
    fn drop(&mut self) {
        self.keys.iter().for_each(|key| self.store.near().leave(key, &self.load));
        self.load.fail(Error::Closed);
    }
}

impl Leading {
    fn new(store: Store, far: Arc<Far>, load: Arc<Load>, wanted: &[Wanted]) -> Self {
        Self { store, far, load, keys: wanted.iter().map(|it| it.key.clone()).collect() }
    }

    async fn run(&self, mut wanted: Vec<Wanted>) {
        let mut refresh: Vec<(Key, FarLease)> = Vec::new();
        let (past, asked): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|it| it.past_far);
        wanted = asked;
        if let Err(e) = self.ask_store(past.into_iter().map(|it| (it, None)).collect()).await {
            self.load.fail(e);
            return;
        }
        while !wanted.is_empty() {
            let keys: Vec<Key> = wanted.iter().map(|it| it.key.clone()).collect();
            let said = self.far.ask(&keys).await;
            let (mut answers, mut asks, mut waits) = (Vec::new(), Vec::new(), Vec::new());
            let mut pause = std::time::Duration::ZERO;
            for (n, (mut it, said)) in wanted.into_iter().zip(said).enumerate() {
                if n % ROWS_PER_TURN == ROWS_PER_TURN - 1 {
                    tokio::task::yield_now().await;
                }
                let had_to_wait = matches!(said, super::protocol::Said::Taken);
                match it.reading.said(said) {
                    Next::Answer(row, lease) => {
                        refresh.extend(lease.map(|lease| (it.key.clone(), lease)));
                        answers.push((it.place, self.keep(&it, row)));
                    }
                    Next::Load(lease) => {
                        if had_to_wait {
                            self.far.counters.lease_waits_ended.fetch_add(1, Relaxed);
                        }
                        asks.push((it, lease));
                    }
                    Next::Wait(span) => {
                        pause = pause.max(span);
                        waits.push(it);
                    }
                }
            }
            self.load.answer(answers);
            // Before waiting for others: they may be waiting for what we are to fill.
            if let Err(e) = self.ask_store(asks).await {
                self.load.fail(e);
                return;
            }
            if !waits.is_empty() {
                tokio::time::sleep(pause).await;
            }
            wanted = waits;
        }
        self.refresh(refresh).await;
    }

    /// Brings a row into the form in which it leaves, and keeps it if the ticket holds.
    fn keep(&self, it: &Wanted, row: Option<Bytes>) -> Option<Bytes> {
        let value = match self.store.cache_of(&it.key) {
            Cache::NearAs(make) => row.map(|row| make(&it.key, &row)),
            Cache::Near | Cache::Never => row,
        };
        self.store.near().fill(&it.key, it.ticket, value.as_ref());
        self.store.audit().filled(&it.key);
        value
    }

    /// Asks the engine, answers, and fills.
    async fn ask_store(&self, asks: Vec<(Wanted, Option<FarLease>)>) -> Result<()> {
        let keys: Vec<Key> = asks.iter().map(|(it, _)| it.key.clone()).collect();
        let mut rest = asks.into_iter();
        let mut begun = 0;
        while begun < keys.len() {
            let slice = &keys[begun..keys.len().min(begun + Store::KEYS_PER_VISIT)];
            begun += slice.len();
            let rows = match self.store.read_fresh(slice.to_vec()).await {
                Ok(rows) => rows,
                Err(e) => {
                    self.far.release(rest.as_slice().iter().filter_map(|(it, lease)| Some((&it.key, (*lease)?))));
                    return Err(e);
                }
            };
            let part: Vec<(Wanted, Option<FarLease>)> = rest.by_ref().take(slice.len()).collect();
            let fills = part.iter().zip(&rows);
            self.far.fill(fills.filter_map(|((it, lease), row)| Some((&it.key, (*lease)?, row.as_ref()))));
            self.load.answer(part.iter().zip(rows).map(|((it, _), row)| (it.place, self.keep(it, row))));
        }
        Ok(())
    }

    /// Loads rows again whose time is nearly up. Nobody waits for it.
    async fn refresh(&self, rows: Vec<(Key, FarLease)>) {
        for part in rows.chunks(Store::KEYS_PER_VISIT) {
            match self.store.read_fresh(part.iter().map(|(key, _)| key.clone()).collect()).await {
                Ok(rows) => {
                    self.far.counters.refreshes.fetch_add(part.len() as u64, Relaxed);
                    self.far.fill(part.iter().zip(&rows).map(|((key, lease), row)| (key, *lease, row.as_ref())));
                }
                // They stand a while longer, and then somebody else has the right.
                Err(e) => tracing::debug!(error = %e, "rows could not be loaded again before their time in memcached"),
            }
        }
    }
}
