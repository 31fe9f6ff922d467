//! gRPC on HTTP/2 and on HTTP/1.1: unary calls only, which is all the contract has.
//!
//! A call is a POST whose body is one message behind a prefix of five bytes, and its answer is the same, followed by
//! trailers that say how it ended. A call that was not answered has the trailers as headers and no body.

use std::{convert::Infallible, fmt::Write as _, future::poll_fn, pin::Pin, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{ALLOW, CONTENT_TYPE, TRAILER},
};
use http_body::Body;
use hyper::{body::Incoming, service::Service, service::service_fn};

use super::body::{AnswerBody, PREFIX_BYTES};
use crate::{
    Code, Shed, Status,
    budget::Budget,
    call::{self, Answered, Inbound, Received},
    server::Shared,
};

static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
static GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
static GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
static GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
static GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
static GRPC_RETRY_PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// Over HTTP/1.1 only those trailers are sent that the headers announce. Without it a success has no status, and is
/// a failure to its caller.
const ANNOUNCED: HeaderValue = HeaderValue::from_static("grpc-status, grpc-message");

/// Bytes of a message that are reserved before they have come, whatever its prefix claims.
const RESERVE_BYTES_MAX: usize = 1 << 20;
/// Bytes that are read of a request nobody wants, and how long that may take.
const READ_AWAY_BYTES_MAX: usize = 256 << 10;
const READ_AWAY_MAX: Duration = Duration::from_millis(500);
/// Bytes of a status message, encoded.
const MESSAGE_BYTES_MAX: usize = 1_024;

/// The service behind a port that speaks gRPC.
pub(crate) fn service(
    shared: Arc<Shared>,
) -> impl Service<Request<Incoming>, Response = Response<AnswerBody>, Error = Infallible, Future: Send + 'static>
+ Clone
+ Send
+ 'static {
    service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok(answer(&shared, request).await) }
    })
}

async fn answer(shared: &Arc<Shared>, request: Request<Incoming>) -> Response<AnswerBody> {
    let (head, mut body) = request.into_parts();
    let is_http1 = head.version < Version::HTTP_2;
    let response = match content_type(&head.headers) {
        None => refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE),
        Some(_) if head.method != Method::POST => {
            let mut response = refuse(StatusCode::METHOD_NOT_ALLOWED);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
            response
        }
        Some(content_type) => {
            let outcome = match shared.rpcs.at_path(head.uri.path()) {
                None => call::unknown(shared, &head.headers),
                Some(rpc) => {
                    let inbound = Inbound { rpc, headers: &head.headers, timeout: timeout(&head.headers) };
                    call::call(shared, inbound, |bytes_max| {
                        receive(&mut body, &head.headers, bytes_max, &shared.budget)
                    })
                    .await
                }
            };
            match outcome {
                Ok(answered) => success(shared, answered, content_type, is_http1),
                Err(status) => failure(&status, content_type),
            }
        }
    };
    if is_http1 && !body.is_end_stream() {
        read_away(&mut body).await;
    }
    response
}

/// Reads what is left of a request that was answered before its end.
///
/// A peer on HTTP/1.1 that is still sending would see a broken connection instead of the answer. HTTP/2 can tell it to
/// stop.
async fn read_away(body: &mut Incoming) {
    let all = async {
        let mut read = 0;
        while let Ok(Some(bytes)) = data(body).await {
            read += bytes.len();
            if read > READ_AWAY_BYTES_MAX {
                break;
            }
        }
    };
    // Whatever comes of it, the answer is the same.
    let _ = tokio::time::timeout(READ_AWAY_MAX, all).await;
}

/// The content type of the answer to a request, which is the request's; `None` if the request is not gRPC with
/// protobuf messages.
fn content_type(headers: &HeaderMap) -> Option<HeaderValue> {
    let asked = headers.get(CONTENT_TYPE)?.as_bytes();
    let asked = asked.split(|byte| *byte == b';').next()?.trim_ascii();
    match asked {
        b"application/grpc" => Some(HeaderValue::from_static("application/grpc")),
        b"application/grpc+proto" => Some(HeaderValue::from_static("application/grpc+proto")),
        _ => None,
    }
}

/// What is not gRPC gets an answer of HTTP.
fn refuse(code: StatusCode) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::empty());
    *response.status_mut() = code;
    response
}

fn success(shared: &Shared, answered: Answered, content_type: HeaderValue, announce: bool) -> Response<AnswerBody> {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(GRPC_STATUS.clone(), HeaderValue::from_static("0"));
    let read_within = Duration::from_millis(shared.config.answer_drain_ms_max);
    let mut response = Response::new(AnswerBody::message(answered, trailers, read_within, &shared.metrics.calls));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    if announce {
        headers.insert(TRAILER, ANNOUNCED);
    }
    response
}

fn failure(status: &Status, content_type: HeaderValue) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::empty());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(GRPC_STATUS.clone(), HeaderValue::from(status.code as u16));
    if let Ok(message) = HeaderValue::try_from(percent_encoded(&status.message)) {
        headers.insert(GRPC_MESSAGE.clone(), message);
    }
    if let Some(pushback_ms) = status.pushback_ms {
        headers.insert(GRPC_RETRY_PUSHBACK.clone(), HeaderValue::from(pushback_ms));
    }
    if status.code == Code::Unimplemented {
        headers.insert(GRPC_ACCEPT_ENCODING.clone(), HeaderValue::from_static("identity"));
    }
    response
}

/// A status message as a header may hold it: printable ASCII, everything else in percent.
fn percent_encoded(message: &str) -> String {
    let mut encoded = String::with_capacity(message.len().min(MESSAGE_BYTES_MAX));
    for byte in message.bytes() {
        if encoded.len() + 3 > MESSAGE_BYTES_MAX {
            break;
        }
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            // Writing to a string does not fail.
            _ => drop(write!(encoded, "%{byte:02X}")),
        }
    }
    encoded
}

/// How long the caller gives us: up to eight digits and a unit.
fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Status> {
    let Some(header) = headers.get(&GRPC_TIMEOUT) else { return Ok(None) };
    let wrong =
        || Status::new(Code::InvalidArgument, "grpc-timeout is not up to eight digits and one of H, M, S, m, u, n");
    let (unit, digits) = header.as_bytes().split_last().ok_or_else(wrong)?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(wrong());
    }
    let count = digits.iter().fold(0u64, |count, digit| count * 10 + u64::from(digit - b'0'));
    Ok(Some(match unit {
        b'H' => Duration::from_secs(count * 3_600),
        b'M' => Duration::from_secs(count * 60),
        b'S' => Duration::from_secs(count),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        b'n' => Duration::from_nanos(count),
        _ => return Err(wrong()),
    }))
}

/// Receives the one message of a unary call.
async fn receive(
    body: &mut Incoming,
    headers: &HeaderMap,
    bytes_max: usize,
    budget: &Arc<Budget>,
) -> Result<Received, Status> {
    // The prefix, and what came with it. Nearly always that is the whole message, which then is not copied.
    let mut first = Bytes::new();
    while first.len() < PREFIX_BYTES {
        let Some(more) = data(body).await? else {
            return Err(if first.is_empty() {
                Status::new(Code::Unimplemented, "a unary call has one message, and none came")
            } else {
                Status::new(Code::Internal, "the request ends within the prefix of its message")
            });
        };
        first = if first.is_empty() { more } else { [first, more].concat().into() };
    }
    let bytes = message_bytes(&first, headers)?;
    if bytes > bytes_max {
        return Err(Status::shed(
            Shed::Oversize,
            format!("a message of {bytes} bytes, at most {bytes_max} allowed: send several"),
        ));
    }
    let held = budget.hold(bytes)?;
    let end = PREFIX_BYTES + bytes;
    let message = if first.len() >= end {
        let beyond = first.len() - end;
        if beyond > 0 {
            return Err(second_message());
        }
        first.split_off(PREFIX_BYTES)
    } else {
        let mut whole = BytesMut::with_capacity(end.min(RESERVE_BYTES_MAX));
        whole.extend_from_slice(&first);
        while whole.len() < end {
            let Some(more) = data(body).await? else {
                return Err(Status::new(Code::Internal, "the request ends within its message"));
            };
            if more.len() > end - whole.len() {
                return Err(second_message());
            }
            whole.extend_from_slice(&more);
        }
        whole.freeze().split_off(PREFIX_BYTES)
    };
    match data(body).await? {
        None => Ok(Received { message, held }),
        Some(_) => Err(second_message()),
    }
}

/// The length in a prefix, once it is known that the message is not compressed.
fn message_bytes(first: &[u8], headers: &HeaderMap) -> Result<usize, Status> {
    let [flag, length @ ..] = first.first_chunk::<PREFIX_BYTES>().copied().unwrap_or_default();
    match flag {
        0 => Ok(u32::from_be_bytes(length) as usize),
        1 => Err(match headers.get(&GRPC_ENCODING).map(HeaderValue::as_bytes) {
            None | Some(b"identity") => {
                Status::new(Code::Internal, "the message is marked as compressed, and grpc-encoding does not say how")
            }
            Some(_) => Status::new(Code::Unimplemented, "compressed requests are not served: send them uncompressed"),
        }),
        _ => Err(Status::new(Code::Internal, "the prefix of the message is not one of gRPC")),
    }
}

fn second_message() -> Status {
    Status::new(Code::Unimplemented, "a unary call has one message, and more came")
}

/// The next bytes of a body; `None` at its end.
async fn data(body: &mut Incoming) -> Result<Option<Bytes>, Status> {
    loop {
        match poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
            None => return Ok(None),
            // The caller has gone, or what it sends is no HTTP; nobody is there to read this.
            Some(Err(_)) => return Err(Status::new(Code::Cancelled, "the request was broken off")),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => return Ok(Some(bytes)),
                // Trailers of a request say nothing to us.
                Err(_) => {}
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(name: &HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name.clone(), HeaderValue::from_static(value))])
    }

    #[test]
    fn a_timeout_has_up_to_eight_digits_and_a_unit() {
        let of = |value| timeout(&header(&GRPC_TIMEOUT, value));
        for (value, ms) in
            [("1H", 3_600_000), ("2M", 120_000), ("3S", 3_000), ("100m", 100), ("5000u", 5), ("99999999n", 99)]
        {
            assert_eq!(of(value).unwrap().unwrap().as_millis(), ms, "{value}");
        }
        for wrong in ["", "1", "S", "-1S", "1.5S", "123456789m", "1s", "1 S"] {
            assert_eq!(of(wrong).unwrap_err().code, Code::InvalidArgument, "{wrong:?}");
        }
        assert_eq!(timeout(&HeaderMap::new()).unwrap(), None);
    }

    #[test]
    fn messages_are_printable_ascii_on_the_wire() {
        assert_eq!(percent_encoded("100% of \u{fc} is\nok"), "100%25 of %C3%BC is%0Aok");
        let long = percent_encoded(&"\u{fc}".repeat(5_000));
        assert!(
            long.len() <= MESSAGE_BYTES_MAX && long.ends_with(['C', 'B', '3']) && HeaderValue::try_from(long).is_ok()
        );
    }

    #[test]
    fn only_uncompressed_messages_are_taken() {
        let code =
            |flag, headers: &HeaderMap| message_bytes(&[flag, 0, 0, 1, 2], headers).map_err(|status| status.code);
        assert_eq!(code(0, &HeaderMap::new()), Ok(258));
        assert_eq!(code(0, &header(&GRPC_ENCODING, "gzip")), Ok(258));
        assert_eq!(code(1, &header(&GRPC_ENCODING, "gzip")), Err(Code::Unimplemented));
        assert_eq!(code(1, &header(&GRPC_ENCODING, "identity")), Err(Code::Internal));
        assert_eq!(code(1, &HeaderMap::new()), Err(Code::Internal));
        assert_eq!(code(7, &HeaderMap::new()), Err(Code::Internal));
    }

    #[test]
    fn the_answer_has_the_content_type_of_the_request() {
        let of = |value| content_type(&header(&CONTENT_TYPE, value)).map(|it| it.to_str().unwrap().to_owned());
        assert_eq!(of("application/grpc").as_deref(), Some("application/grpc"));
        assert_eq!(of("application/grpc+proto; charset=utf-8").as_deref(), Some("application/grpc+proto"));
        for other in ["application/grpc-web", "application/grpc+json", "application/proto", "text/html", ""] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
