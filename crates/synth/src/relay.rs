//! One subscriber of a stream: where it begins, what it is sent, how it ends.
//!
//! A subscriber has no buffer of its own. It is sent what the log retains after its position as fast as it reads; if
//! it reads so slowly that the log moves on, it is told so and dropped.

use futures::{SinkExt, StreamExt, stream::SplitStream};
use gp_atproto::frame::{InfoMessage, Message, StreamError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

use crate::{
    log::{Log, Page},
    switches::{Order, Switches},
};

/// Frames that are taken from the log at once.
const BATCH_FRAMES_MAX: usize = 256;
/// Bytes after which a batch is long enough.
const BATCH_BYTES: usize = 512 * 1024;

/// Serves one subscriber, from just after `cursor`, until it goes, is told to go, or cannot go on.
pub(crate) async fn serve<S>(socket: WebSocketStream<S>, log: &Log, cursor: i64, switches: &Switches)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sink, mut source) = socket.split();
    let mut head = log.watch();
    let mut orders = switches.orders();
    let mut frames_left = switches.frames_before_drop();

    let mut position = match cursor {
        cursor if cursor > log.head() => {
            let frame = error("FutureCursor", "the cursor is ahead of the stream");
            let _ = sink.send(frame).await;
            let _ = sink.send(close(CloseCode::Policy)).await;
            return;
        }
        cursor if log.is_outdated(cursor) => {
            let message = Some("the cursor is older than what is retained");
            let info = Message::Info(InfoMessage { name: "OutdatedCursor", message }).encode();
            if sink.send(tungstenite::Message::Binary(info.into())).await.is_err() {
                return;
            }
            log.oldest()
        }
        cursor => cursor.max(log.oldest()),
    };

    loop {
        head.borrow_and_update();
        let (batch_max, pause) = switches.pace(BATCH_FRAMES_MAX);
        let page = log.after(position, batch_max, BATCH_BYTES);
        let step = async {
            match page {
                Page::Frames(frames, last) => {
                    position = last;
                    for frame in frames {
                        match &mut frames_left {
                            Some(0) => return Step::End,
                            Some(left) => *left -= 1,
                            None => {}
                        }
                        if sink.feed(tungstenite::Message::Binary(frame)).await.is_err() {
                            return Step::End;
                        }
                    }
                    if sink.flush().await.is_err() {
                        return Step::End;
                    }
                    if !pause.is_zero() {
                        tokio::time::sleep(pause).await;
                    }
                    Step::On
                }
                Page::UpToDate => match head.changed().await {
                    Ok(()) => Step::On,
                    Err(_) => Step::End,
                },
                Page::Expired => {
                    let _ = sink.send(error("ConsumerTooSlow", "events were dropped before they could be sent")).await;
                    let _ = sink.send(close(CloseCode::Policy)).await;
                    Step::End
                }
            }
        };
        let step = tokio::select! {
            step = step => step,
            () = gone(&mut source) => Step::End,
            order = orders.next() => Step::Order(order),
        };
        match step {
            Step::On => {}
            Step::Order(Order::Close) => {
                let _ = sink.send(close(CloseCode::Normal)).await;
                return;
            }
            Step::End | Step::Order(Order::Drop) => return,
        }
    }
}

enum Step {
    On,
    End,
    Order(Order),
}

/// Reads, and answers pings, until the subscriber goes. What it says does not matter.
async fn gone<S>(source: &mut SplitStream<WebSocketStream<S>>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = source.next().await {
        if message.is_close() {
            return;
        }
    }
}

fn error(name: &str, message: &str) -> tungstenite::Message {
    tungstenite::Message::Binary(Message::Error(StreamError { error: name, message: Some(message) }).encode().into())
}

fn close(code: CloseCode) -> tungstenite::Message {
    tungstenite::Message::Close(Some(CloseFrame { code, reason: "".into() }))
}
