//! A server that has nothing of what every call does: no admission, no budget, no deadline, no metrics, no traces. The
//! same library speaks HTTP/2 and the same function of the index answers. It is here to be compared with.

use std::{convert::Infallible, net::SocketAddr, path::PathBuf, sync::Arc};

use anyhow::{Context, Result};
use bytes::Bytes;
use gp_index::{Cx, posts, tables};
use gp_proto as proto;
use gp_store::Store;
use http::Request;
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use prost::Message as _;
use tokio::net::TcpListener;

use crate::{
    scripted,
    twin::{Body, builder, ended, say_ready},
    wire,
};

/// How much of a call the bare server does itself.
#[derive(Debug, Clone)]
pub enum Depth {
    /// All of it, from the folder.
    Read(PathBuf),
    /// The request is decoded, and the answer in this file (a message, not framed) is encoded again for each call.
    Encode(PathBuf),
    /// The answer in this file is sent as it is: what is left is HTTP/2 and sockets.
    Constant(PathBuf),
}

/// Where answers come from.
enum Source {
    Index(Box<Cx>),
    Message(proto::GetPostRecordsResponse),
    Bytes(Bytes),
}

impl Source {
    fn open(depth: &Depth) -> Result<Self> {
        let message = |file: &PathBuf| std::fs::read(file).with_context(|| format!("{}", file.display()));
        Ok(match depth {
            Depth::Read(data_dir) => {
                let config = gp_store::Config { disk_reserve_bytes: 0, ..Default::default() };
                Self::Index(Box::new(scripted::cx(Store::lsm(data_dir, tables::ALL, &config)?)?))
            }
            Depth::Encode(file) => Self::Message(proto::GetPostRecordsResponse::decode(&message(file)?[..])?),
            Depth::Constant(file) => Self::Bytes(wire::frame(&message(file)?)),
        })
    }
}

/// Serves until the process is killed.
///
/// # Errors
///
/// A port is taken, or the folder or file cannot be opened.
pub async fn serve(listen: SocketAddr, admin: SocketAddr, depth: &Depth) -> Result<()> {
    let listener = TcpListener::bind(listen).await.context("--listen")?;
    let source = Arc::new(Source::open(depth)?);
    tokio::spawn(say_ready(TcpListener::bind(admin).await.context("--admin-listen")?));
    let builder = Arc::new(builder());
    loop {
        let (stream, _) = listener.accept().await?;
        let _ = stream.set_nodelay(true);
        let (source, builder) = (Arc::clone(&source), Arc::clone(&builder));
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let source = Arc::clone(&source);
                async move { Ok::<_, Infallible>(answer(&source, request).await) }
            });
            drop(builder.serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

async fn answer(source: &Source, request: Request<Incoming>) -> http::Response<Body> {
    let Ok(body) = request.into_body().collect().await else { return ended("13", None) };
    let message = body.to_bytes();
    let asked = || message.get(5..).and_then(|message| proto::GetPostRecordsRequest::decode(message).ok());
    let response = match source {
        Source::Bytes(frame) => return ended("0", Some(frame.clone())),
        Source::Message(response) => asked().map(|_| Ok(wire::framed(response))),
        Source::Index(cx) => match asked() {
            Some(asked) => Some(posts::get_post_records(cx, asked).await.map(|response| wire::framed(&response))),
            None => None,
        },
    };
    match response {
        Some(Ok(frame)) => ended("0", Some(frame)),
        Some(Err(_)) => ended("13", None),
        None => ended("3", None),
    }
}
