//! Sends the traces of calls to a collector, over OTLP/HTTP in its binary form.
//!
//! Traces wait in a bounded queue for one task that sends them in batches. A collector that is away, or takes its time,
//! costs traces, which are counted, and nothing else: a call never waits for it. Nothing is sent twice.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use gp_serve::{Code, Trace, Traces};
use prost::Message;
use tokio::{sync::mpsc, task::JoinHandle, time::Instant};

/// Traces that may wait.
const WAITING_MAX: usize = 2_048;
/// Traces sent at a time.
const BATCH_MAX: usize = 256;
/// How long a trace waits for others to go with it.
const BATCH_AFTER: Duration = Duration::from_secs(1);
/// How long the collector may take for a batch.
const SEND_MAX: Duration = Duration::from_secs(5);
/// How long sending rests after it failed. What comes meanwhile and finds no room is dropped.
const REST: Duration = Duration::from_secs(2);
/// How long the end of the process waits for what waits.
const LAST_MAX: Duration = Duration::from_millis(500);

/// The way to the collector.
#[derive(Debug)]
pub(crate) struct Exporter {
    queue: mpsc::Sender<Trace>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    taken: AtomicU64,
    dropped: AtomicU64,
}

/// What sends. [`Sending::end`] gives it a moment for what waits.
pub(crate) struct Sending(JoinHandle<()>);

impl Sending {
    /// Call it when nobody takes traces any more.
    pub(crate) async fn end(self) {
        let Self(mut task) = self;
        if tokio::time::timeout(LAST_MAX, &mut task).await.is_err() {
            task.abort();
        }
    }
}

impl Exporter {
    /// Begins to send to a collector. `url` is its base; `/v1/traces` is added unless it ends in it.
    pub(crate) fn start(url: &str, service: Service) -> Result<(Arc<Self>, Sending)> {
        let base = url.trim_end_matches('/');
        let url = if base.ends_with("/v1/traces") { base.to_owned() } else { format!("{base}/v1/traces") };
        let client = reqwest::Client::builder().no_proxy().timeout(SEND_MAX).build().context("TLS cannot be set up")?;
        let (queue, taken) = mpsc::channel(WAITING_MAX);
        let counts = Arc::new(Counts::default());
        let task = tokio::spawn(send(client, url, service, taken, Arc::clone(&counts)));
        Ok((Arc::new(Self { queue, counts }), Sending(task)))
    }
}

impl Traces for Exporter {
    fn take(&self, trace: Trace) {
        self.counts.taken.fetch_add(1, Relaxed);
        if self.queue.try_send(trace).is_err() {
            self.counts.dropped.fetch_add(1, Relaxed);
        }
    }

    fn taken(&self) -> u64 {
        self.counts.taken.load(Relaxed)
    }

    fn dropped(&self) -> u64 {
        self.counts.dropped.load(Relaxed)
    }
}

/// Who sends.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    /// The version that runs.
    pub(crate) version: String,
    /// What tells this process from others.
    pub(crate) instance: String,
}

async fn send(
    client: reqwest::Client,
    url: String,
    service: Service,
    mut taken: mpsc::Receiver<Trace>,
    counts: Arc<Counts>,
) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    let mut well = true;
    while let Some(first) = taken.recv().await {
        batch.push(first);
        let until = Instant::now() + BATCH_AFTER;
        while batch.len() < BATCH_MAX
            && let Ok(Some(trace)) = tokio::time::timeout_at(until, taken.recv()).await
        {
            batch.push(trace);
        }
        let body = request(&service, &batch).encode_to_vec();
        let sent = client.post(&url).header("content-type", "application/x-protobuf").body(body).send().await;
        let why = match sent {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(format!("it answered {}", response.status())),
            Err(e) => Some(e.to_string()),
        };
        if let Some(why) = &why {
            counts.dropped.fetch_add(batch.len() as u64, Relaxed);
            if well {
                tracing::warn!(url, why, "traces are lost: the collector does not take them");
            }
        }
        well = why.is_none();
        batch.clear();
        if !well && !taken.is_closed() {
            tokio::time::sleep(REST).await;
        }
    }
}

/// The messages of OTLP, as far as they are sent.
mod wire {
    use prost::{Message, Oneof};

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Request {
        #[prost(message, repeated, tag = "1")]
        pub(super) resource_spans: Vec<ResourceSpans>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct ResourceSpans {
        #[prost(message, optional, tag = "1")]
        pub(super) resource: Option<Resource>,
        #[prost(message, repeated, tag = "2")]
        pub(super) scope_spans: Vec<ScopeSpans>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Resource {
        #[prost(message, repeated, tag = "1")]
        pub(super) attributes: Vec<KeyValue>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct ScopeSpans {
        #[prost(message, optional, tag = "1")]
        pub(super) scope: Option<Scope>,
        #[prost(message, repeated, tag = "2")]
        pub(super) spans: Vec<Span>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Scope {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(string, tag = "2")]
        pub(super) version: String,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Span {
        #[prost(bytes = "vec", tag = "1")]
        pub(super) trace_id: Vec<u8>,
        #[prost(bytes = "vec", tag = "2")]
        pub(super) span_id: Vec<u8>,
        #[prost(bytes = "vec", tag = "4")]
        pub(super) parent_span_id: Vec<u8>,
        #[prost(string, tag = "5")]
        pub(super) name: String,
        #[prost(int32, tag = "6")]
        pub(super) kind: i32,
        #[prost(fixed64, tag = "7")]
        pub(super) start_time_unix_nano: u64,
        #[prost(fixed64, tag = "8")]
        pub(super) end_time_unix_nano: u64,
        #[prost(message, repeated, tag = "9")]
        pub(super) attributes: Vec<KeyValue>,
        #[prost(message, optional, tag = "15")]
        pub(super) status: Option<Status>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Status {
        #[prost(string, tag = "2")]
        pub(super) message: String,
        #[prost(int32, tag = "3")]
        pub(super) code: i32,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct KeyValue {
        #[prost(string, tag = "1")]
        pub(super) key: String,
        #[prost(message, optional, tag = "2")]
        pub(super) value: Option<AnyValue>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct AnyValue {
        #[prost(oneof = "Value", tags = "1, 3")]
        pub(super) value: Option<Value>,
    }

    #[derive(Clone, PartialEq, Oneof)]
    pub(super) enum Value {
        #[prost(string, tag = "1")]
        Text(String),
        #[prost(int64, tag = "3")]
        Number(i64),
    }
}

const KIND_INTERNAL: i32 = 1;
const KIND_SERVER: i32 = 2;
const STATUS_ERROR: i32 = 2;

fn text(key: &str, value: impl Into<String>) -> wire::KeyValue {
    let value = wire::AnyValue { value: Some(wire::Value::Text(value.into())) };
    wire::KeyValue { key: key.to_owned(), value: Some(value) }
}

fn number(key: &str, value: impl TryInto<i64>) -> wire::KeyValue {
    let value = wire::AnyValue { value: Some(wire::Value::Number(value.try_into().unwrap_or(i64::MAX))) };
    wire::KeyValue { key: key.to_owned(), value: Some(value) }
}

fn request(service: &Service, traces: &[Trace]) -> wire::Request {
    let resource = wire::Resource {
        attributes: vec![
            text("service.name", "groundplane"),
            text("service.version", service.version.as_str()),
            text("service.instance.id", service.instance.as_str()),
        ],
    };
    let scope = wire::Scope { name: "groundplane".into(), version: service.version.clone() };
    let spans = traces.iter().flat_map(spans).collect();
    let scope_spans = vec![wire::ScopeSpans { scope: Some(scope), spans }];
    wire::Request { resource_spans: vec![wire::ResourceSpans { resource: Some(resource), scope_spans }] }
}

/// The call itself, then its stages.
fn spans(trace: &Trace) -> Vec<wire::Span> {
    let method = format!("{}/{}", gp_proto::SERVICE, trace.rpc);
    let mut attributes = vec![
        text("rpc.system.name", "grpc"),
        text("rpc.method", method.as_str()),
        text("rpc.response.status_code", trace.code.name()),
        text("groundplane.caller", trace.caller.as_str()),
        text("groundplane.kept", trace.kept),
        number("groundplane.keys.requested", trace.keys),
        number("groundplane.keys.unique", trace.unique),
        number("groundplane.keys.skip_cache", trace.skip_cache),
        number("groundplane.cost_units", trace.units),
        number("groundplane.queue_wait_us", waited_us(trace)),
        number("groundplane.request_bytes", trace.request_bytes),
        number("groundplane.response_bytes", trace.response_bytes),
    ];
    if trace.code != Code::Ok {
        attributes.push(text("error.type", trace.code.name()));
    }
    if let Some(shed) = trace.shed {
        attributes.push(text("groundplane.shed_reason", shed.name()));
    }
    if trace.stages.folded > 0 {
        attributes.push(number("groundplane.stages_folded", trace.stages.folded));
    }
    let begun_ns = u64::try_from(trace.began_us).unwrap_or(0).saturating_mul(1_000);
    let at = |us: u64| begun_ns.saturating_add(us.saturating_mul(1_000));
    let context = &trace.context;
    let status = matches!(
        trace.code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
    .then(|| wire::Status { message: trace.message.clone(), code: STATUS_ERROR });
    let call = wire::Span {
        trace_id: context.trace.into(),
        span_id: context.span.into(),
        parent_span_id: context.parent.map(Vec::from).unwrap_or_default(),
        name: method,
        kind: KIND_SERVER,
        start_time_unix_nano: begun_ns,
        end_time_unix_nano: at(trace.duration_us),
        attributes,
        status,
    };
    let stages = trace.stages.noted.iter().enumerate().map(|(n, stage)| wire::Span {
        trace_id: context.trace.into(),
        span_id: stage_id(context.span, n),
        parent_span_id: context.span.into(),
        name: stage.name.to_owned(),
        kind: KIND_INTERNAL,
        start_time_unix_nano: at(stage.from_us),
        end_time_unix_nano: at(stage.from_us + stage.duration_us),
        attributes: if stage.keys > 0 { vec![number("groundplane.page.keys", stage.keys)] } else { Vec::new() },
        status: None,
    });
    [call].into_iter().chain(stages).collect()
}

fn waited_us(trace: &Trace) -> u64 {
    trace.stages.noted.iter().filter(|stage| stage.name == "wait").map(|stage| stage.duration_us).sum()
}

/// The id of a stage: that of its call, and its number.
fn stage_id(call: [u8; 8], n: usize) -> Vec<u8> {
    let number = u64::from_be_bytes(call).wrapping_add(n as u64 + 1).max(1);
    number.to_be_bytes().into()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use gp_serve::{Shed, Stage, Stages, TraceContext};
    use http_body_util::{BodyExt, Empty};
    use hyper::{Request, Response, body::Bytes, service::service_fn};
    use hyper_util::rt::TokioIo;
    use tokio::net::TcpListener;

    use super::*;

    fn service() -> Service {
        Service { version: "9.9".into(), instance: "a:1".into() }
    }

    fn trace() -> Trace {
        let mut stages = Stages::default();
        stages.noted.push(Stage { name: "wait", from_us: 20, duration_us: 30, keys: 0 });
        stages.noted.push(Stage { name: "run", from_us: 50, duration_us: 400, keys: 256 });
        Trace {
            context: TraceContext { trace: [7; 16], span: [8; 8], parent: Some([9; 8]) },
            rpc: "GetPostRecords",
            caller: "batch-job".into(),
            began_us: 1_700_000_000_000_000,
            duration_us: 500,
            code: Code::ResourceExhausted,
            message: "too much".into(),
            shed: Some(Shed::QueueTime),
            keys: 20_000,
            unique: 19_000,
            skip_cache: 0,
            units: 20_000,
            request_bytes: 1_400_000,
            response_bytes: 0,
            kept: "shed",
            stages,
        }
    }

    /// A collector that takes what comes, and answers with a status.
    async fn collector(status: u16) -> (String, mpsc::Receiver<wire::Request>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (tell, told) = mpsc::channel(64);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let tell = tell.clone();
                tokio::spawn(async move {
                    let answer = service_fn(move |request: Request<hyper::body::Incoming>| {
                        let tell = tell.clone();
                        async move {
                            assert_eq!(request.uri().path(), "/v1/traces");
                            assert_eq!(request.headers()["content-type"], "application/x-protobuf");
                            let body = request.into_body().collect().await.unwrap().to_bytes();
                            let _ = tell.send(wire::Request::decode(body).unwrap()).await;
                            let response = Response::builder().status(status).body(Empty::<Bytes>::new()).unwrap();
                            Ok::<_, Infallible>(response)
                        }
                    });
                    let _ =
                        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
                });
            }
        });
        (url, told)
    }

    fn spans_of(request: &wire::Request) -> &[wire::Span] {
        &request.resource_spans[0].scope_spans[0].spans
    }

    #[tokio::test]
    async fn a_trace_arrives_with_its_stages() {
        crate::serve::install_tls();
        let (url, mut told) = collector(200).await;
        let (exporter, sending) = Exporter::start(&url, service()).unwrap();
        exporter.take(trace());
        let request = told.recv().await.unwrap();
        let spans = spans_of(&request);
        assert_eq!(spans.len(), 3);
        let call = &spans[0];
        assert_eq!((call.name.as_str(), call.kind), ("bsky.Service/GetPostRecords", KIND_SERVER));
        assert_eq!((&call.trace_id, &call.parent_span_id), (&vec![7; 16], &vec![9; 8]));
        assert_eq!(call.end_time_unix_nano - call.start_time_unix_nano, 500_000);
        for (key, value) in [
            ("rpc.response.status_code", text("", "RESOURCE_EXHAUSTED").value),
            ("error.type", text("", "RESOURCE_EXHAUSTED").value),
            ("groundplane.caller", text("", "batch-job").value),
            ("groundplane.shed_reason", text("", "queue_time").value),
            ("groundplane.keys.requested", number("", 20_000).value),
            ("groundplane.queue_wait_us", number("", 30).value),
        ] {
            let shown = call.attributes.iter().find(|it| it.key == key).unwrap_or_else(|| panic!("{key}"));
            assert_eq!(shown.value, value, "{key}");
        }
        assert!(spans[1..].iter().all(|it| it.parent_span_id == vec![8; 8] && it.span_id.len() == 8));
        assert_ne!(spans[1].span_id, spans[2].span_id);
        assert_eq!((exporter.taken(), exporter.dropped()), (1, 0));
        drop(exporter);
        sending.end().await;
    }

    /// A collector that accepts and says nothing, and one that is not there.
    #[tokio::test]
    async fn a_black_hole_takes_no_room_and_every_trace_is_accounted_for() {
        crate::serve::install_tls();
        let hole = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", hole.local_addr().unwrap());
        let (exporter, sending) = Exporter::start(&url, service()).unwrap();
        let all = 50_000;
        for _ in 0..all {
            exporter.take(trace());
        }
        let kept = exporter.taken() - exporter.dropped();
        assert_eq!(exporter.taken(), all);
        assert!(kept <= (WAITING_MAX + BATCH_MAX) as u64, "{kept} are held");
        drop(exporter);
        let begun = Instant::now();
        sending.end().await;
        assert!(begun.elapsed() < SEND_MAX, "the end does not wait for the collector");
    }

    #[tokio::test]
    async fn what_a_collector_refuses_is_counted_and_not_sent_again() {
        crate::serve::install_tls();
        let (url, mut told) = collector(503).await;
        let (exporter, sending) = Exporter::start(&format!("{url}/v1/traces"), service()).unwrap();
        for _ in 0..3 {
            exporter.take(trace());
        }
        let counts = Arc::clone(&exporter.counts);
        drop(exporter);
        let mut sent = 0;
        while let Some(request) = told.recv().await {
            sent += spans_of(&request).iter().filter(|it| it.kind == KIND_SERVER).count();
            if sent == 3 {
                break;
            }
        }
        sending.end().await;
        assert_eq!((sent, counts.dropped.load(Relaxed)), (3, 3));
    }

    /// Bytes that somebody else's code has written from the same values; see fixtures/otlp/README.md.
    #[test]
    fn the_bytes_are_those_that_another_writer_makes() {
        let bytes = request(&service(), &[trace()]).encode_to_vec();
        let read: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(read, include_str!("../../fixtures/otlp/traces.hex").trim());
    }
}
