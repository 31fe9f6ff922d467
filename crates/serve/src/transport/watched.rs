//! A connection that is given up when its peer says nothing at first, or takes nothing of what is sent to it.
//!
//! HTTP has no bound on either: before the first byte nobody knows which HTTP it will be, and a peer that stops
//! reading holds our answer for as long as it likes.

use std::{
    future::Future as _,
    io::{self, ErrorKind, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

#[derive(Debug)]
pub(crate) struct Watched<T> {
    io: T,
    /// Until the first byte has come.
    silent: Option<Pin<Box<Sleep>>>,
    /// While the peer takes nothing. Kept between stalls, so that it is allocated once.
    stalled: Option<Pin<Box<Sleep>>>,
    is_stalled: bool,
    write_stall_max: Duration,
}

impl<T> Watched<T> {
    pub(crate) fn new(io: T, first_byte_max: Duration, write_stall_max: Duration) -> Self {
        Self { io, silent: Some(Box::pin(sleep(first_byte_max))), stalled: None, is_stalled: false, write_stall_max }
    }

    /// Whether a write came to something, or has come to nothing for too long.
    fn watch_write<R>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if written.is_ready() {
            self.is_stalled = false;
            return written;
        }
        let until = Instant::now() + self.write_stall_max;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if !self.is_stalled {
            stalled.as_mut().reset(until);
            self.is_stalled = true;
        }
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(ErrorKind::TimedOut, "the peer takes nothing of what is sent to it")))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.io).poll_read(cx, buffer);
        let Some(silent) = &mut self.silent else { return read };
        if read.is_ready() {
            self.silent = None;
            return read;
        }
        ready!(silent.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(ErrorKind::TimedOut, "the peer says nothing")))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.watch_write(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bytes);
        self.watch_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.watch_write(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    const TEN_SECONDS: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_says_nothing_is_given_up_and_one_that_began_may_rest() {
        let (_peer, ours) = duplex(64);
        let mut silent = Watched::new(ours, TEN_SECONDS, TEN_SECONDS);
        let began = Instant::now();
        assert_eq!(silent.read_u8().await.unwrap_err().kind(), ErrorKind::TimedOut);
        assert_eq!(began.elapsed().as_secs(), 10);

        let (mut peer, ours) = duplex(64);
        let mut slow = Watched::new(ours, TEN_SECONDS, TEN_SECONDS);
        peer.write_u8(1).await.unwrap();
        assert_eq!(slow.read_u8().await.unwrap(), 1);
        let (read, ()) = tokio::join!(slow.read_u8(), async {
            sleep(10 * TEN_SECONDS).await;
            peer.write_u8(2).await.unwrap();
        });
        assert_eq!(read.unwrap(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up_and_one_that_takes_little_is_not() {
        let (mut peer, ours) = duplex(4);
        let mut slow = Watched::new(ours, TEN_SECONDS, TEN_SECONDS);
        let reader = async {
            let mut read = [0; 4];
            for _ in 0..10 {
                sleep(TEN_SECONDS / 2).await;
                peer.read_exact(&mut read).await.unwrap();
            }
            peer
        };
        let (written, peer) = tokio::join!(slow.write_all(&[7; 40]), reader);
        written.unwrap();
        let began = Instant::now();
        assert_eq!(slow.write_all(&[7; 5]).await.unwrap_err().kind(), ErrorKind::TimedOut);
        assert_eq!(began.elapsed().as_secs(), 10);
        drop(peer);
    }
}
