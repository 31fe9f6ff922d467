//! Where the calls of an HTTP/2 connection run.
//!
//! Each call could be a task of its own, which any thread may take. To wake a thread for it costs more than most calls
//! do: what memory answers and what is refused is done in less time. So the first call that comes with each turn of a
//! connection is begun on the spot, and becomes a task only if it has to wait for something. Those that come together
//! with it are tasks at once, so that other threads can help.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
};

use hyper::rt::Executor;

/// Runs the calls of one connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inline {
    /// Whether this turn of the connection has begun a call on the spot.
    begun: Arc<AtomicBool>,
}

impl Inline {
    /// A turn of the connection.
    pub(crate) fn turn<F: Future>(&self, connection: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.begun.store(false, Relaxed);
        connection.poll(cx)
    }
}

impl<F> Executor<F> for Inline
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, call: F) {
        let mut call = Box::pin(call);
        // Nobody needs to be woken: a call that waits is asked again as soon as it is a task.
        let is_first = !self.begun.swap(true, Relaxed);
        if !is_first || call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            tokio::spawn(call);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn};

    use tokio::sync::oneshot;

    use super::*;

    /// What happens during a turn of a connection.
    async fn turn(inline: &Inline, happens: impl Fn()) {
        poll_fn(|cx| {
            let connection = std::pin::pin!(poll_fn(|_| Poll::Ready(happens())));
            inline.turn(connection, cx)
        })
        .await;
    }

    #[tokio::test]
    async fn the_first_call_of_a_turn_is_done_before_the_next_comes() {
        let inline = Inline::default();
        let (done, others) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        for _ in 0..2 {
            done.store(false, Relaxed);
            turn(&inline, || {
                let set = |flag: &Arc<AtomicBool>| {
                    let flag = Arc::clone(flag);
                    async move { flag.store(true, Relaxed) }
                };
                inline.execute(set(&done));
                assert!(done.load(Relaxed));
                others.store(false, Relaxed);
                inline.execute(set(&others));
                assert!(!others.load(Relaxed), "it is for another thread");
            })
            .await;
            tokio::task::yield_now().await;
            assert!(others.load(Relaxed));
        }
    }

    #[tokio::test]
    async fn a_call_that_waits_goes_on_as_a_task() {
        let inline = Inline::default();
        let (tell, told) = oneshot::channel::<()>();
        let (end, ended) = oneshot::channel();
        inline.execute(async move {
            let _ = told.await;
            tokio::task::yield_now().await;
            let _ = end.send(());
        });
        inline.execute(pending());
        tokio::task::yield_now().await;
        tell.send(()).unwrap();
        ended.await.unwrap();
    }
}
