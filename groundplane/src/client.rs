//! A small client: one call, the answer as JSON.

use anyhow::{Context, Result, bail};
use gp_proto::dynamic;

use crate::{settings::GetSettings, telemetry};

/// Makes one call and prints its answer.
pub(crate) fn run(settings: GetSettings) -> Result<()> {
    let Some(method) = settings.method else {
        for (name, request, _) in gp_proto::METHODS {
            telemetry::say(&format!("{name:<52} {request}"));
        }
        return Ok(());
    };
    let request = dynamic::request_from_json(&method, &settings.request)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    let answer = runtime.block_on(call(&settings.url, &method, request, settings.token.as_deref()))?;
    let json = dynamic::response_to_json(&method, &answer, !settings.raw)?;
    telemetry::say(&serde_json::to_string_pretty(&json)?);
    Ok(())
}

/// One unary gRPC call over cleartext HTTP/2.
pub(crate) async fn call(url: &str, method: &str, request: Vec<u8>, token: Option<&str>) -> Result<Vec<u8>> {
    use http_body_util::{BodyExt, Full};
    use hyper::body::Bytes;

    let path = dynamic::path(method)?;
    let uri: hyper::Uri = format!("{}{path}", url.trim_end_matches('/')).parse().context("the URL of the plane")?;
    let mut frame = Vec::with_capacity(request.len() + 5);
    frame.push(0);
    frame.extend_from_slice(&u32::try_from(request.len()).context("the request is too large")?.to_be_bytes());
    frame.extend_from_slice(&request);
    let mut builder = hyper::Request::post(uri)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("x-atlantis-caller", "cli");
    if let Some(token) = token {
        builder = builder.header("authorization", format!("Bearer {token}"));
    }
    let mut connector = hyper_util::client::legacy::connect::HttpConnector::new();
    // Nagle's algorithm would hold back the request for 40 ms.
    connector.set_nodelay(true);
    let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
        .http2_only(true)
        .build::<_, Full<Bytes>>(connector);
    let response = client.request(builder.body(Full::new(Bytes::from(frame)))?).await.with_context(|| {
        format!("no answer from {url}: is the plane running there? Use --url to name another address")
    })?;
    let headers = response.headers().clone();
    let collected = response.into_body().collect().await.context("the answer broke off")?;
    let trailers = collected.trailers().cloned().unwrap_or_default();
    let header = |name: &str| {
        trailers.get(name).or_else(|| headers.get(name)).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned()
    };
    let body = collected.to_bytes();
    match header("grpc-status").as_str() {
        "0" => {}
        status => bail!("{method}: {} ({})", percent_decoded(&header("grpc-message")), status_name(status)),
    }
    let (head, message) = body.split_at_checked(5).context("the answer is not a gRPC message")?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if head[0] != 0 || message.len() < length {
        bail!("the answer is not one whole uncompressed gRPC message");
    }
    Ok(message[..length].to_vec())
}

fn percent_decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b == b'%' {
            let hex: Vec<u8> = bytes.by_ref().take(2).collect();
            match std::str::from_utf8(&hex).ok().and_then(|h| u8::from_str_radix(h, 16).ok()) {
                Some(byte) => out.push(byte),
                None => out.push(b'%'),
            }
        } else {
            out.push(b);
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn status_name(code: &str) -> &str {
    match code {
        "1" => "CANCELLED",
        "2" => "UNKNOWN",
        "3" => "INVALID_ARGUMENT",
        "4" => "DEADLINE_EXCEEDED",
        "5" => "NOT_FOUND",
        "7" => "PERMISSION_DENIED",
        "8" => "RESOURCE_EXHAUSTED",
        "10" => "ABORTED",
        "12" => "UNIMPLEMENTED",
        "13" => "INTERNAL",
        "14" => "UNAVAILABLE",
        "16" => "UNAUTHENTICATED",
        "" => "no status",
        other => other,
    }
}
