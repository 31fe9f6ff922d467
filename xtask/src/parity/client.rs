//! One call to a plane, in JSON on our side and gRPC on the wire.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use gp_proto::dynamic;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::{Client as Http, connect::HttpConnector};
use prost::Message as _;
use serde_json::{Value, json};

/// Longest wait for one answer. A plane that needs longer has failed.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// Most bytes of one answer.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// A call that a plane refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The gRPC status.
    pub(super) code: u32,
    pub(super) message: String,
}

/// What a plane said: the response as JSON, with bytes that hold JSON shown as that JSON, or a refusal.
pub(super) type Answer = Result<Value, Refusal>;

/// gRPC statuses that are told apart.
pub(super) mod code {
    pub(in super::super) const INVALID_ARGUMENT: u32 = 3;
    pub(in super::super) const NOT_FOUND: u32 = 5;
    pub(in super::super) const UNIMPLEMENTED: u32 = 12;
    pub(in super::super) const INTERNAL: u32 = 13;
    /// What the reference's server makes of an exception.
    pub(in super::super) const UNKNOWN: u32 = 2;
}

/// Whether the reference failed in some way it did not think of.
pub(super) fn is_failure(refusal: &Refusal) -> bool {
    matches!(refusal.code, code::INTERNAL | code::UNKNOWN)
}

/// A caller of one plane.
#[derive(Clone)]
pub(super) struct Client {
    http: Http<HttpConnector, Full<Bytes>>,
    base: String,
    token: Option<&'static str>,
}

impl Client {
    /// A caller of the plane at `host:port`. Only the reference and bsync need `http2` off.
    pub(super) fn new(host: &str, http2: bool) -> Self {
        // Nagle's algorithm would hold back every small call until the peer acknowledges the one before.
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let http = Http::builder(hyper_util::rt::TokioExecutor::new())
            .http2_only(http2)
            .http2_initial_stream_window_size(16 << 20)
            .http2_initial_connection_window_size(64 << 20)
            .build(connector);
        Self { http, base: format!("http://{host}"), token: None }
    }

    /// Sends this token with every call.
    pub(super) fn with_token(self, token: &'static str) -> Self {
        Self { token: Some(token), ..self }
    }

    /// Makes a call. An error means that there was no answer, or one that is no gRPC.
    pub(super) async fn call(&self, method: &str, request: &Value) -> Result<Answer> {
        let message = dynamic::request_from_json(method, &request.to_string())?;
        let mut frame = Vec::with_capacity(message.len() + 5);
        frame.push(0);
        frame.extend_from_slice(&u32::try_from(message.len())?.to_be_bytes());
        frame.extend_from_slice(&message);
        let mut post = hyper::Request::post(format!("{}{}", self.base, dynamic::path(method)?))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if let Some(token) = self.token {
            post = post.header("authorization", format!("Bearer {token}"));
        }
        let answered = tokio::time::timeout(ANSWER_MAX, self.exchange(post.body(Full::new(frame.into()))?));
        let (status, text, body) =
            answered.await.with_context(|| format!("{method}: no answer within {} s", ANSWER_MAX.as_secs()))??;
        if status != 0 {
            return Ok(Err(Refusal { code: status, message: text }));
        }
        let Some(message) = body.get(5..) else { bail!("{method}: an answer without a message") };
        let mut value = dynamic::response_to_json(method, message, true)?;
        if method == "GetActors" {
            note_order_of_verifiers(&mut value, message)?;
        }
        Ok(Ok(value))
    }

    async fn exchange(&self, request: hyper::Request<Full<Bytes>>) -> Result<(u32, String, Vec<u8>)> {
        let response = self.http.request(request).await?;
        let mut headers = response.headers().clone();
        let mut body = response.into_body();
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            match frame?.into_data() {
                Ok(data) => bytes.extend_from_slice(&data),
                Err(frame) => headers.extend(frame.into_trailers().unwrap_or_default()),
            }
            if bytes.len() > ANSWER_BYTES_MAX {
                bail!("an answer of more than {ANSWER_BYTES_MAX} bytes");
            }
        }
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let status = text("grpc-status");
        let status = status.parse().with_context(|| format!("an answer whose grpc-status is {status:?}"))?;
        Ok((status, text("grpc-message"), bytes))
    }
}

/// JSON loses the order in which verifiers stand on the wire, and clients see it.
fn note_order_of_verifiers(value: &mut Value, message: &[u8]) -> Result<()> {
    let typed = gp_proto::GetActorsResponse::decode(message)?;
    let Some(actors) = value.get_mut("actors").and_then(Value::as_array_mut) else { return Ok(()) };
    for (shown, actor) in actors.iter_mut().zip(&typed.actors) {
        if actor.verified_by.len() > 1 {
            shown["verifiedByOrder"] = json!(actor.verified_by.iter().map(|it| &it.key).collect::<Vec<_>>());
        }
    }
    Ok(())
}
