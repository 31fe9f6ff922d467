//! The admin port: health, figures, a page to look at, and what an operator may do.
//!
//! Every answer that is not a success is JSON, `{"error": "what is wrong and what to do"}`. What is done is behind
//! [`Operator`]; here is who may ask, and whether the question makes sense.

mod check;
mod operator;

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, LazyLock},
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{
        DefaultBodyLimit, Path, Query, Request, State,
        rejection::{BytesRejection, PathRejection, QueryRejection},
    },
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header},
    middleware::{self, Next},
    response::{Html, IntoResponse, Response},
    routing::{get, post, put},
};
use futures::FutureExt as _;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};

pub use self::operator::{
    Label, Lines, NoOperator, Operation, Operator, OperatorError, SuggestedEntity, SuggestedList,
};
use crate::{
    caller::{bearer, same},
    server::Shared,
};

/// The page, whole: styles and script are in it, nothing is fetched from elsewhere.
static PAGE: LazyLock<String> = LazyLock::new(|| {
    include_str!("page/page.html")
        .replace("/* style */", include_str!("page/page.css"))
        .replace("/* script */", include_str!("page/page.js"))
});
const PAGE_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
const JSON_LINES: HeaderValue = HeaderValue::from_static("application/x-ndjson");

/// What requests to the admin port share.
pub(crate) struct Admin {
    shared: Arc<Shared>,
    operator: Arc<dyn Operator>,
    /// Whether only this machine can reach the port.
    loopback: bool,
}

impl Admin {
    pub(crate) fn new(shared: Arc<Shared>, operator: Arc<dyn Operator>, loopback: bool) -> Self {
        Self { shared, operator, loopback }
    }
}

type App = State<Arc<Admin>>;
type Answer = Result<Json<Value>, Refusal>;
type Did = Result<Path<String>, PathRejection>;
type Sent = Result<Bytes, BytesRejection>;

/// An answer that is not a success.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    error: String,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, error: error.into() }
    }

    pub(crate) fn invalid(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({ "error": self.error }))).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<OperatorError> for Refusal {
    fn from(error: OperatorError) -> Self {
        let (status, error) = match error {
            OperatorError::Invalid(error) => (StatusCode::BAD_REQUEST, error),
            OperatorError::Absent(error) => (StatusCode::NOT_FOUND, error),
            OperatorError::Conflict(error) => (StatusCode::CONFLICT, error),
            OperatorError::NotOffered(error) => (StatusCode::NOT_IMPLEMENTED, error),
            OperatorError::Upstream(error) => (StatusCode::BAD_GATEWAY, error),
            OperatorError::Unavailable(error) => (StatusCode::SERVICE_UNAVAILABLE, error),
            OperatorError::Failed(error) => (StatusCode::INTERNAL_SERVER_ERROR, error),
        };
        Self { status, error }
    }
}

/// The service behind the admin port.
pub(crate) fn service(admin: Admin) -> TowerToHyperService<Router> {
    let body_bytes_max = admin.shared.config.admin_body_bytes_max;
    let admin = Arc::new(admin);
    let operations = Router::new()
        .route("/admin/ingest/pause", post(async |State(it): App| operate(it.operator.ingest_pause()).await))
        .route("/admin/ingest/resume", post(async |State(it): App| operate(it.operator.ingest_resume()).await))
        .route("/admin/ingest/replay", post(async |State(it): App| operate(it.operator.ingest_replay()).await))
        .route("/admin/backfill/retry", post(async |State(it): App| operate(it.operator.backfill_retry()).await))
        .route("/admin/backfill/again", post(async |State(it): App| operate(it.operator.backfill_again()).await))
        .route("/admin/backfill/failures", get(backfill_failures))
        .route("/admin/repos/{did}/resync", post(repo_resync))
        .route("/admin/actors/{did}/refresh", post(actor_refresh))
        .route("/admin/actors/{did}/delete", post(actor_delete))
        .route("/admin/actors/{did}/trusted-verifier", put(trusted_verifier))
        .route("/admin/labels", post(labels))
        .route(
            "/admin/suggested/follows",
            put(suggested_follows)
                .delete(async |State(it): App| operate(it.operator.suggested_forget(SuggestedList::Follows)).await),
        )
        .route(
            "/admin/suggested/feeds",
            put(suggested_feeds)
                .delete(async |State(it): App| operate(it.operator.suggested_forget(SuggestedList::Feeds)).await),
        )
        .route(
            "/admin/suggested/entities",
            put(suggested_entities)
                .delete(async |State(it): App| operate(it.operator.suggested_forget(SuggestedList::Entities)).await),
        )
        .route("/admin/records/tags", put(record_tags))
        .route("/admin/export/{did}", get(export))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&admin), only_operators));
    let router = Router::new()
        .route("/", get(page))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .route("/top", get(top))
        .route("/recent", get(recent))
        .merge(operations)
        .fallback(async |uri: Uri| {
            Refusal::new(StatusCode::NOT_FOUND, format!("there is nothing at {}: see docs for what is", uri.path()))
        })
        .method_not_allowed_fallback(async || {
            Refusal::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "this path takes another method: the `allow` header says which",
            )
        })
        .layer(DefaultBodyLimit::max(body_bytes_max))
        .with_state(admin);
    TowerToHyperService::new(router)
}

/// Lets those pass who may change something.
///
/// With a token, that is who shows it. Without one, it is who is on this machine and is no web page: a page of anywhere
/// that an operator looks at could otherwise post to this port.
async fn only_operators(State(admin): App, request: Request, next: Next) -> Result<Response, Refusal> {
    let headers = request.headers();
    match &admin.shared.config.admin_token {
        Some(token) => {
            let shown = headers.get(header::AUTHORIZATION).and_then(|shown| bearer(shown.as_bytes()));
            if !shown.is_some_and(|shown| same(shown, token.as_bytes())) {
                return Err(Refusal::new(StatusCode::UNAUTHORIZED, "send `authorization: Bearer <admin token>`"));
            }
        }
        None if !admin.loopback => {
            return Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "this port can be reached from elsewhere and no admin token is set: set --admin-token, or listen on a loopback address",
            ));
        }
        None => {
            if is_from_a_page_of_elsewhere(headers, request.uri()) {
                return Err(Refusal::new(
                    StatusCode::FORBIDDEN,
                    "a web page of another origin may not do this: use a tool, or set --admin-token",
                ));
            }
        }
    }
    Ok(next.run(request).await)
}

/// Whether a browser sent this for a page of another origin, or under a name that was made to point to this machine.
fn is_from_a_page_of_elsewhere(headers: &HeaderMap, uri: &Uri) -> bool {
    static SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let host = uri.authority().map_or_else(|| text(&header::HOST).unwrap_or_default(), |authority| authority.as_str());
    let name = host
        .rsplit_once(':')
        .map_or(host, |(name, port)| if port.bytes().all(|it| it.is_ascii_digit()) { name } else { host });
    let is_address = name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
    let of_elsewhere = match text(&header::ORIGIN) {
        None => false,
        Some(origin) => origin.split_once("://").is_none_or(|(_, origin)| origin != host),
    };
    of_elsewhere
        || !(is_address || name == "localhost")
        || text(&SEC_FETCH_SITE).is_some_and(|site| site == "cross-site")
}

/// Runs an operation. A panic in it ends this request and no other.
async fn operate_for<T>(operation: Operation<'_, T>) -> Result<T, Refusal> {
    match AssertUnwindSafe(operation).catch_unwind().await {
        Ok(done) => Ok(done?),
        Err(_) => Err(Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the operation failed in an unexpected way: the log says more",
        )),
    }
}

async fn operate(operation: Operation<'_>) -> Answer {
    operate_for(operation).await.map(Json)
}

async fn page() -> Response {
    let headers = [
        (header::CONTENT_SECURITY_POLICY, PAGE_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (headers, Html(PAGE.as_str())).into_response()
}

async fn readyz(State(admin): App) -> Result<&'static str, Refusal> {
    let not_ready = |why: String| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, why);
    if !admin.shared.lifecycle.is_serving() {
        return Err(not_ready("this process is stopping: send calls to another one".into()));
    }
    match admin.operator.not_ready() {
        Some(why) => Err(not_ready(why)),
        None => Ok("ready\n"),
    }
}

async fn metrics(State(admin): App) -> Result<Response, Refusal> {
    let broken =
        || Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "a part cannot show its figures: the log says which");
    let page = admin.shared.metrics.render_aside().await.ok_or_else(broken)?;
    Ok(([(header::CONTENT_TYPE, OPEN_METRICS)], page).into_response())
}

async fn status(State(admin): App) -> Answer {
    let mut status = match operate_for(admin.operator.status()).await? {
        Value::Object(status) => status,
        other => serde_json::Map::from_iter([("operator".to_owned(), other)]),
    };
    let shared = &admin.shared;
    let admission = shared.admission.figures();
    status.entry("version").or_insert_with(|| shared.config.version.clone().into());
    status.insert(
        "serve".into(),
        json!({
            "state": shared.lifecycle.name(),
            "connections": shared.connections.open(),
            "accept_errors": shared.connections.errors(),
            "calls_in_flight": shared.metrics.calls.inflight_total(),
            "units_in_flight": admission.in_flight,
            "units_in_flight_max": admission.limit,
            "waiting": admission.waiting,
            "bytes_in_flight": shared.budget.held(),
            "bytes_in_flight_max": shared.budget.max(),
            "calls_not_offered": shared.rpcs.iter().filter(|rpc| !rpc.built).map(|rpc| rpc.name).collect::<Vec<_>>(),
        }),
    );
    Ok(Json(Value::Object(status)))
}

async fn top(State(admin): App) -> Json<Value> {
    Json(admin.shared.top.show(&admin.shared.metrics.calls))
}

/// What `/recent` may be asked.
#[derive(serde::Deserialize)]
struct After {
    /// Only samples after this time, in milliseconds since 1970.
    #[serde(default)]
    after: i64,
}

async fn recent(State(admin): App, after: Result<Query<After>, QueryRejection>) -> Answer {
    let Query(After { after }) =
        after.map_err(|e| Refusal::invalid(format!("after is not a time in milliseconds: {}", e.body_text())))?;
    let mut shown = admin.shared.history.show(&admin.shared, after);
    shown["state"] = admin.shared.lifecycle.name().into();
    shown["not_ready"] = admin.operator.not_ready().into();
    Ok(Json(shown))
}

async fn repo_resync(State(admin): App, did: Did) -> Answer {
    operate(admin.operator.repo_resync(&check::did_in_path(did)?)).await
}

async fn actor_refresh(State(admin): App, did: Did) -> Answer {
    operate(admin.operator.actor_refresh(&check::did_in_path(did)?)).await
}

async fn actor_delete(State(admin): App, did: Did) -> Answer {
    operate(admin.operator.actor_delete(&check::did_in_path(did)?)).await
}

async fn trusted_verifier(State(admin): App, did: Did, body: Sent) -> Answer {
    let did = check::did_in_path(did)?;
    let trusted = check::trusted(&body?)?;
    operate(admin.operator.actor_trusted_verifier(&did, trusted)).await
}

async fn labels(State(admin): App, body: Sent) -> Answer {
    operate(admin.operator.labels(check::labels(&body?)?)).await
}

async fn suggested_follows(State(admin): App, body: Sent) -> Answer {
    operate(admin.operator.suggested_follows(check::dids(&body?)?)).await
}

async fn suggested_feeds(State(admin): App, body: Sent) -> Answer {
    operate(admin.operator.suggested_feeds(check::record_uris(&body?)?)).await
}

async fn suggested_entities(State(admin): App, body: Sent) -> Answer {
    operate(admin.operator.suggested_entities(check::entities(&body?)?)).await
}

async fn record_tags(State(admin): App, body: Sent) -> Answer {
    let (uri, tags) = check::tags(&body?)?;
    operate(admin.operator.record_tags(&uri, tags)).await
}

async fn export(State(admin): App, did: Did) -> Result<Response, Refusal> {
    Ok(json_lines(operate_for(admin.operator.export(&check::did_in_path(did)?)).await?))
}

async fn backfill_failures(State(admin): App) -> Result<Response, Refusal> {
    Ok(json_lines(operate_for(admin.operator.backfill_failures()).await?))
}

fn json_lines(lines: Lines) -> Response {
    ([(header::CONTENT_TYPE, JSON_LINES)], Body::from_stream(lines)).into_response()
}

impl From<BytesRejection> for Refusal {
    fn from(rejection: BytesRejection) -> Self {
        Self::new(rejection.status(), format!("the body was not taken: {}", rejection.body_text()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_elsewhere_are_told_from_tools_and_from_our_own_page() {
        let elsewhere = |headers: &[(&'static str, &'static str)]| {
            let headers =
                headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
            is_from_a_page_of_elsewhere(&HeaderMap::from_iter(headers), &Uri::from_static("/admin/labels"))
        };
        for host in ["127.0.0.1:2586", "localhost:2586", "localhost", "[::1]:2586", "127.0.0.1"] {
            assert!(!elsewhere(&[("host", host)]), "{host}");
        }
        assert!(!elsewhere(&[
            ("host", "127.0.0.1:2586"),
            ("origin", "http://127.0.0.1:2586"),
            ("sec-fetch-site", "same-origin")
        ]));
        assert!(elsewhere(&[("host", "127.0.0.1:2586"), ("origin", "https://evil.example")]));
        assert!(elsewhere(&[("host", "127.0.0.1:2586"), ("origin", "null")]));
        assert!(elsewhere(&[("host", "127.0.0.1:2586"), ("origin", "http://127.0.0.1:3000")]));
        assert!(elsewhere(&[("host", "127.0.0.1:2586"), ("sec-fetch-site", "cross-site")]));
        assert!(elsewhere(&[("host", "rebound.example:2586")]));
        assert!(elsewhere(&[]));
    }
}
