//! Calls as they are on the wire.

use std::sync::Arc;

use crate::rig::{Reply, Rig, framed, whole};
use bytes::Bytes;
use gp_proto::{
    GetNotificationSeenRequest, GetNotificationSeenResponse, GetPostRecordsRequest, GetPostRecordsResponse,
    PingRequest, PingResponse, Record, Timestamp, UpdateNotificationSeenRequest, UpdateNotificationSeenResponse,
};
use gp_serve::{Code, Config, NoOperator, Rpcs};
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, Kind, Value};

/// Answers with a record for each URI, which holds the URI.
fn echo() -> Rpcs {
    Rpcs::contract().instead("Ping", |_, _| Box::pin(async { Ok(Bytes::new()) })).instead(
        "GetPostRecords",
        |_, asked| {
            Box::pin(async move {
                let request = GetPostRecordsRequest::decode(asked.message()).expect("it was decoded before");
                let records =
                    request.uris.into_iter().map(|uri| Record { record: uri.into(), ..Default::default() }).collect();
                Ok(GetPostRecordsResponse { records, ..Default::default() }.encode_to_vec().into())
            })
        },
    )
}

fn posts(count: usize) -> GetPostRecordsRequest {
    GetPostRecordsRequest {
        uris: (0..count).map(|n| format!("at://did:plc:abc/app.bsky.feed.post/{n:013}")).collect(),
        ..Default::default()
    }
}

fn uris(response: GetPostRecordsResponse) -> Vec<String> {
    response.records.into_iter().map(|record| String::from_utf8(record.record.to_vec()).unwrap()).collect()
}

#[tokio::test]
async fn a_success_has_its_message_and_its_status_in_the_trailers_on_both_protocols() {
    let rig = Rig::start(echo()).await;
    for mut client in rig.both().await {
        let request = posts(3);
        for content_type in ["application/grpc", "application/grpc+proto"] {
            let reply = client.raw("GetPostRecords", &[("content-type", content_type)], framed(&request)).await;
            assert_eq!(uris(reply.message()), request.uris);
            assert_eq!(reply.headers["content-type"], content_type);
            let trailers = reply.trailers.as_ref().expect("the status of a success is in trailers, or nobody finds it");
            assert_eq!(trailers["grpc-status"], "0");
            assert!(!reply.headers.contains_key("grpc-status"));
            // Over HTTP/1.1 trailers are sent only if the headers announce them.
            assert_eq!(reply.headers.contains_key("trailer"), client.version == http::Version::HTTP_11);
        }
        // The connection is good for more, and an empty message is a message.
        let reply = client.call("Ping", &PingRequest {}).await;
        assert_eq!(reply.message::<PingResponse>(), PingResponse {});
        assert_eq!(reply.body.len(), 5);
    }
}

#[tokio::test]
async fn an_error_is_in_the_headers_and_its_message_is_encoded() {
    let rpcs = Rpcs::contract()
        .instead("GetIdentityByDid", |_, _| Box::pin(async { Err(gp_index::Error::Absent("identity")) }))
        .instead("SearchPosts", |_, _| {
            Box::pin(async { Err(gp_index::Error::invalid("term", "100% \u{fc}ber\nleer")) })
        })
        .instead("GetTimeline", |_, _| Box::pin(async { Err(gp_index::Error::Overloaded("scans")) }));
    let rig = Rig::start(rpcs).await;
    for mut client in rig.both().await {
        let reply = client.call("GetIdentityByDid", &PingRequest {}).await;
        assert_eq!((reply.code(), reply.status("grpc-message")), (Code::NotFound as u32, Some("identity not found")));
        assert!(reply.body.is_empty() && reply.trailers.is_none());

        let reply = client.call("SearchPosts", &PingRequest {}).await;
        assert_eq!(
            (reply.code(), reply.status("grpc-message")),
            (Code::InvalidArgument as u32, Some("term: 100%25 %C3%BCber%0Aleer"))
        );

        let reply = client.call("GetTimeline", &PingRequest {}).await;
        assert_eq!(
            (reply.code(), reply.status("grpc-retry-pushback-ms")),
            (Code::ResourceExhausted as u32, Some("1000"))
        );
    }
}

#[tokio::test]
async fn what_is_not_offered_is_unimplemented() {
    let rig =
        Rig::start(Rpcs::contract().instead("Ping", |_, _| Box::pin(async { Err(gp_index::Error::Unimplemented) })))
            .await;
    for mut client in rig.both().await {
        for method in ["NoSuchMethod", "ping", "Ping", "Ping/", ""] {
            let reply = client.call(method, &PingRequest {}).await;
            assert_eq!(reply.code(), Code::Unimplemented as u32, "{method}");
        }
    }
    assert_eq!(
        rig.metric(r#"groundplane_rpc_requests_total{rpc="other",caller="unknown",code="UNIMPLEMENTED"}"#).await,
        Some(8.0)
    );
}

/// An empty request is legal for every call, and finds nothing in an empty store.
#[tokio::test]
async fn every_call_that_is_offered_answers_over_an_empty_store() {
    let rig = Rig::start(Rpcs::contract()).await;
    let mut client = rig.h2().await;
    let mut offered = 0;
    for rpc in Rpcs::contract().iter() {
        let code = client.call(rpc.name, &PingRequest {}).await.code();
        if is_search(rpc.name) {
            assert_eq!(code, Code::Unimplemented as u32, "{}", rpc.name);
            continue;
        }
        offered += 1;
        let fine = [0, Code::InvalidArgument as u32, Code::NotFound as u32];
        assert!(fine.contains(&code), "{} answers {code}", rpc.name);
    }
    assert!(offered >= 108, "{offered}");
}

/// The rig keeps no index of words; searches are asked for in the tests of their own crate.
fn is_search(name: &str) -> bool {
    name.starts_with("Search")
}

/// A token that no call gave is the caller's mistake, and the answer says where. Suggestions of accounts pass over what is no number, and those of entities have one page.
#[tokio::test]
async fn a_token_that_no_call_gave_is_refused_and_named() {
    const WITHOUT_TOKENS: [&str; 2] = ["GetFollowSuggestions", "GetSuggestedEntities"];
    let pool = DescriptorPool::decode(gp_proto::DESCRIPTOR).unwrap();
    let rig = Rig::start(Rpcs::contract()).await;
    let mut client = rig.h2().await;
    let mut refused = 0;
    for method in pool.get_service_by_name(gp_proto::SERVICE).unwrap().methods() {
        let (name, input) = (method.name(), method.input());
        let paged = input.get_field_by_name("cursor").is_some();
        if !paged || is_search(name) || WITHOUT_TOKENS.contains(&name) {
            continue;
        }
        let mut ask = DynamicMessage::new(input.clone());
        ask.set_field_by_name("cursor", Value::String("no token".into()));
        ask.set_field_by_name("limit", Value::I32(5));
        if let Some(Kind::Message(subject)) = input.get_field_by_name("subject").map(|field| field.kind()) {
            let mut about = DynamicMessage::new(subject);
            about.set_field_by_name("uri", Value::String("at://did:plc:x/app.bsky.feed.post/1".into()));
            ask.set_field_by_name("subject", Value::Message(about));
        }
        let reply = client.raw(name, &[], framed(&ask)).await;
        assert_eq!(reply.code(), Code::InvalidArgument as u32, "{name}");
        let message = reply.status("grpc-message").unwrap();
        assert!(message.starts_with("cursor: "), "{name}: {message}");
        refused += 1;
    }
    assert!(refused >= 24, "{refused}");
}

#[tokio::test]
async fn requests_that_are_no_grpc_get_an_answer_of_http() {
    let rig = Rig::start(echo()).await;
    for mut client in rig.both().await {
        for content_type in ["application/json", "application/grpc-web+proto", "application/grpc+json"] {
            assert_eq!(client.raw("Ping", &[("content-type", content_type)], framed(&PingRequest {})).await.http, 415);
        }
        let mut get = client.request("Ping", &[], whole(""));
        *get.method_mut() = http::Method::GET;
        let response = client.send(get).await.unwrap();
        assert_eq!((response.status().as_u16(), response.headers()["allow"].to_str().unwrap()), (405, "POST"));
    }
}

#[tokio::test]
async fn malformed_requests_are_refused_and_the_connection_lives_on() {
    let rig = Rig::start(echo()).await;
    let whole = framed(&posts(2));
    let with_flag = |flag: u8| {
        let mut bytes = whole.to_vec();
        bytes[0] = flag;
        Bytes::from(bytes)
    };
    let garbage = Bytes::from_static(b"\0\0\0\0\x04\x0a\xff\xff\xff");
    for mut client in rig.both().await {
        let cases: [(&str, &[(&str, &str)], Bytes, Code); 9] = [
            ("no message", &[], Bytes::new(), Code::Unimplemented),
            ("half a prefix", &[], whole.slice(..3), Code::Internal),
            ("half a message", &[], whole.slice(..20), Code::Internal),
            ("two messages", &[], [&whole[..], &whole[..]].concat().into(), Code::Unimplemented),
            ("bytes behind the message", &[], [&whole[..], b"x"].concat().into(), Code::Unimplemented),
            ("compressed", &[("grpc-encoding", "gzip")], with_flag(1), Code::Unimplemented),
            ("compressed, nobody knows how", &[], with_flag(1), Code::Internal),
            ("an unknown flag", &[], with_flag(9), Code::Internal),
            ("no protobuf", &[], garbage.clone(), Code::InvalidArgument),
        ];
        for (what, headers, body, code) in cases {
            let reply = client.raw("GetPostRecords", headers, body).await;
            assert_eq!(reply.code(), code as u32, "{what}: {:?}", reply.status("grpc-message"));
            if client.version == http::Version::HTTP_11 {
                // A request that was not read to its end may cost an HTTP/1.1 connection.
                client = rig.h1().await;
            }
        }
        let reply = client.raw("GetPostRecords", &[("grpc-encoding", "gzip")], whole.clone()).await;
        assert_eq!(reply.code(), 0, "a message that is not compressed is taken, whatever the header says");
        let reply = client.raw("GetPostRecords", &[("grpc-encoding", "gzip")], with_flag(1)).await;
        assert_eq!(reply.status("grpc-accept-encoding"), Some("identity"));
        let reply = client.raw("Ping", &[("grpc-timeout", "soon")], framed(&PingRequest {})).await;
        assert_eq!(reply.code(), Code::InvalidArgument as u32);
    }
}

#[tokio::test]
async fn a_message_may_come_in_any_pieces() {
    let rig = Rig::start(echo()).await;
    let request = posts(40);
    let bytes = framed(&request);
    for mut client in rig.both().await {
        for size in [1, 3, 5, 6, 1_000, 2_000] {
            let pieces = bytes.chunks(size).map(Bytes::copy_from_slice).collect();
            assert_eq!(uris(client.in_pieces("GetPostRecords", pieces).await.message()), request.uris, "{size}");
        }
        // The end may come by itself.
        let pieces = vec![bytes.clone(), Bytes::new()];
        assert_eq!(client.in_pieces("GetPostRecords", pieces).await.code(), 0);
    }
}

#[tokio::test]
async fn a_panic_ends_its_call_and_nothing_else() {
    let rpcs = echo()
        .instead("GetTimeline", |_, _| Box::pin(async { panic!("a planted panic") }))
        .instead("GetFollows", |_, _| panic!("a planted panic"));
    let rig = Rig::start(rpcs).await;
    for mut client in rig.both().await {
        for method in ["GetTimeline", "GetFollows"] {
            let reply = client.call(method, &PingRequest {}).await;
            assert_eq!(reply.code(), Code::Internal as u32);
            assert!(!reply.status("grpc-message").unwrap().contains("planted"), "what a panic says is for the log");
        }
        assert_eq!(client.call("Ping", &PingRequest {}).await.code(), 0);
    }
    assert_eq!(rig.metric(r#"groundplane_rpc_panics_total{rpc="GetTimeline"}"#).await, Some(2.0));
    assert_eq!(rig.metric(r#"groundplane_admission_inflight{resource="units"}"#).await, Some(0.0));
}

#[tokio::test]
async fn tokens_are_checked_where_there_are_any() {
    let config = |require_auth| Config { auth_tokens: vec!["right".into()], require_auth, ..Config::default() };
    for require_auth in [false, true] {
        let rig = Rig::start_with(echo(), config(require_auth), Arc::new(NoOperator)).await;
        for mut client in rig.both().await {
            let mut code =
                async |headers: &[(&str, &str)]| client.raw("Ping", headers, framed(&PingRequest {})).await.code();
            assert_eq!(code(&[("authorization", "Bearer right")]).await, 0);
            assert_eq!(code(&[("authorization", "Bearer wrong")]).await, Code::Unauthenticated as u32);
            assert_eq!(code(&[]).await, if require_auth { Code::Unauthenticated as u32 } else { 0 });
        }
    }
    let rig = Rig::start(echo()).await;
    let reply = rig.h2().await.raw("Ping", &[("authorization", "Bearer whatever")], framed(&PingRequest {})).await;
    assert_eq!(reply.code(), 0, "without configured tokens there is no wrong one");
}

/// The second caller: bsync marks notifications as seen over HTTP/2, with a token of its own, and offers compressions.
#[tokio::test]
async fn notifications_are_marked_as_seen_by_a_caller_with_a_token() {
    let config = Config { auth_tokens: vec!["of-bsync".into()], ..Config::default() };
    let rig = Rig::start_with(Rpcs::contract(), config, Arc::new(NoOperator)).await;
    let mut client = rig.h2().await;
    let actor_did = "did:plc:aliceaaaaaaaaaaaaaaaaaaa".to_owned();
    let at = |seconds| Some(Timestamp { seconds, nanos: 123_000_000 });
    let mark = |seconds| {
        framed(&UpdateNotificationSeenRequest {
            actor_did: actor_did.clone(),
            timestamp: at(seconds),
            ..Default::default()
        })
    };
    let headers = |token| [("authorization", token), ("grpc-accept-encoding", "gzip,br")];
    let reply = client.raw("UpdateNotificationSeen", &headers("Bearer wrong"), mark(2_000)).await;
    assert_eq!(reply.code(), Code::Unauthenticated as u32);
    for (seconds, seen) in [(1_000, 1_000), (3_000, 3_000), (2_000, 3_000)] {
        let reply = client.raw("UpdateNotificationSeen", &headers("Bearer of-bsync"), mark(seconds)).await;
        assert_eq!(reply.message::<UpdateNotificationSeenResponse>(), UpdateNotificationSeenResponse {});
        // The AppView has no token, and sees at once what the later of two marks says.
        let ask = GetNotificationSeenRequest { actor_did: actor_did.clone(), ..Default::default() };
        let found: GetNotificationSeenResponse = client.call("GetNotificationSeen", &ask).await.message();
        assert_eq!(found.timestamp, at(seen));
    }
}

#[tokio::test]
async fn callers_are_counted_by_name_and_strangers_together() {
    let rig = Rig::start(echo()).await;
    let mut client = rig.h2().await;
    for caller in ["appview", "appview", "evil-1", "evil-2"] {
        client.raw("Ping", &[("x-atlantis-caller", caller)], framed(&PingRequest {})).await;
    }
    client.call("Ping", &PingRequest {}).await;
    for (caller, calls) in [("appview", 2.0), ("other", 2.0), ("unknown", 1.0)] {
        let series = format!(r#"groundplane_rpc_requests_total{{rpc="Ping",caller="{caller}",code="OK"}}"#);
        assert_eq!(rig.metric(&series).await, Some(calls), "{caller}");
    }
}

#[tokio::test]
async fn many_calls_at_once_on_one_connection() {
    let rig = Rig::start(echo()).await;
    let client = Arc::new(tokio::sync::Mutex::new(rig.h2().await));
    let mut calls = Vec::new();
    for n in 0..500 {
        let request = posts(n % 60);
        let response = {
            let mut client = client.lock().await;
            let request = client.request("GetPostRecords", &[], whole(framed(&request)));
            client.send(request).await.unwrap()
        };
        calls.push(tokio::spawn(async move { (request, Reply::of(response).await) }));
    }
    for call in calls {
        let (request, reply) = call.await.unwrap();
        assert_eq!(uris(reply.message()), request.uris);
    }
}
