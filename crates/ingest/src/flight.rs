//! An event between the socket and its effects: what it occupies, and what is told when it is done.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    pending::{Guard, Pending},
    progress::{Ticket, Tracker},
};

/// Room for events in flight, in number and in bytes. A socket is read only while there is room.
#[derive(Clone)]
pub(crate) struct Room {
    events: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    events_max: usize,
    bytes_max: usize,
}

/// A place in the room.
pub(crate) struct Place {
    _event: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
}

impl Room {
    pub(crate) fn new(events_max: usize, bytes_max: usize) -> Self {
        let bytes_max = bytes_max.min(u32::MAX as usize).min(Semaphore::MAX_PERMITS);
        Self {
            events: Arc::new(Semaphore::new(events_max)),
            bytes: Arc::new(Semaphore::new(bytes_max)),
            events_max,
            bytes_max,
        }
    }

    /// Waits for room for an event of this size. One larger than all the room takes all of it.
    pub(crate) async fn place(&self, bytes: usize) -> Option<Place> {
        let bytes = bytes.min(self.bytes_max) as u32;
        let event = Arc::clone(&self.events).acquire_owned().await.ok()?;
        let bytes = Arc::clone(&self.bytes).acquire_many_owned(bytes).await.ok()?;
        Some(Place { _event: event, _bytes: bytes })
    }

    /// Events and bytes in flight.
    pub(crate) fn taken(&self) -> (usize, usize) {
        (self.events_max - self.events.available_permits(), self.bytes_max - self.bytes.available_permits())
    }
}

/// An event in flight. Dropped without [`Flight::done`] it leaves the position of its stream before it, so that it
/// comes again after a restart.
pub(crate) struct Flight {
    tracker: Arc<Tracker>,
    ticket: Option<Ticket>,
    _place: Place,
    _guard: Guard,
}

impl Flight {
    /// Begins an event. `seq` at or before what was read already is carried along, but nobody waits for it.
    pub(crate) fn begin(tracker: &Arc<Tracker>, seq: i64, time_us: i64, place: Place, pending: &Pending) -> Self {
        Self {
            tracker: Arc::clone(tracker),
            ticket: tracker.begin(seq, time_us),
            _place: place,
            _guard: pending.begin(),
        }
    }

    /// The event's effects are stored and visible, or it has none. What follows from it must have been begun before.
    pub(crate) fn done(self) {
        if let Some(ticket) = self.ticket {
            self.tracker.end(ticket);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_event_is_in_the_position_only_when_done() {
        let (tracker, room, pending) = (Tracker::new("x".into(), None), Room::new(2, 100), Pending::default());
        let begin = async |seq| Flight::begin(&tracker, seq, 0, room.place(1000).await.unwrap(), &pending);
        let first = begin(1).await;
        assert_eq!((room.taken(), pending.count()), ((1, 100), 1));
        first.done();
        assert_eq!((tracker.seq(), room.taken(), pending.count()), (1, (0, 0), 0));
        drop(begin(2).await);
        begin(3).await.done();
        assert_eq!((tracker.seq(), pending.count()), (1, 0));
    }
}
