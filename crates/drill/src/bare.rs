//! A server that has nothing of what every call does: no admission, no budget, no deadline, no metrics, no traces. The
//! same library speaks HTTP/2 and the same function of the index answers. It is here to be compared with.

use std::{convert::Infallible, net::SocketAddr, path::PathBuf, sync::Arc};

use anyhow::{Context, Result};
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

/// Serves until the process is killed.
///
/// # Errors
///
/// A port is taken, or the folder cannot be opened.
pub async fn serve(listen: SocketAddr, admin: SocketAddr, data_dir: PathBuf) -> Result<()> {
    let listener = TcpListener::bind(listen).await.context("--listen")?;
    tokio::spawn(say_ready(TcpListener::bind(admin).await.context("--admin-listen")?));
    let store = Store::lsm(&data_dir, tables::ALL, &gp_store::Config { disk_reserve_bytes: 0, ..Default::default() })?;
    let cx = Arc::new(scripted::cx(store)?);
    let builder = Arc::new(builder());
    loop {
        let (stream, _) = listener.accept().await?;
        let _ = stream.set_nodelay(true);
        let (cx, builder) = (Arc::clone(&cx), Arc::clone(&builder));
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let cx = Arc::clone(&cx);
                async move { Ok::<_, Infallible>(answer(&cx, request).await) }
            });
            drop(builder.serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

async fn answer(cx: &Cx, request: Request<Incoming>) -> http::Response<Body> {
    let Ok(body) = request.into_body().collect().await else { return ended("13", None) };
    let message = body.to_bytes();
    let Some(Ok(asked)) = message.get(5..).map(proto::GetPostRecordsRequest::decode) else { return ended("3", None) };
    match posts::get_post_records(cx, asked).await {
        Ok(response) => ended("0", Some(wire::framed(&response))),
        Err(_) => ended("13", None),
    }
}
