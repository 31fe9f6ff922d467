//! What the process shows of itself.

use std::sync::Arc;

use bytes::Bytes;
use gp_proto::{GetPostRecordsRequest, PingRequest};
use gp_serve::{
    Config, NoOperator, Rpcs,
    catalog::{self, When},
};
use serde_json::Value;

use crate::rig::{Rig, framed};

fn posts(keys: usize) -> GetPostRecordsRequest {
    GetPostRecordsRequest {
        uris: (0..keys).map(|n| format!("at://did:plc:a/app.bsky.feed.post/{n}")).collect(),
        ..Default::default()
    }
}

async fn rig() -> Rig {
    let rpcs = Rpcs::contract()
        .instead("GetPostRecords", |_, _| Box::pin(async { Ok(Bytes::new()) }))
        .instead("Ping", |_, _| Box::pin(async { Ok(Bytes::new()) }));
    let config = Config { callers: vec!["appview".into(), "batch-job".into()], ..Config::default() };
    Rig::start_with(rpcs, config, Arc::new(NoOperator)).await
}

fn series(page: &str) -> Vec<&str> {
    let names = page.lines().filter(|line| !line.starts_with('#'));
    names.filter_map(|line| line.rsplit_once(' ')).map(|(name, _)| name).collect()
}

/// A caller may call itself what it likes, and ask for what there is not.
#[tokio::test]
async fn ten_thousand_names_of_callers_and_of_calls_add_no_series() {
    let rig = rig().await;
    let mut client = rig.h2().await;
    for name in ["appview", "somebody"] {
        client.raw("Ping", &[("x-atlantis-caller", name)], framed(&PingRequest {})).await;
        client.raw("NoSuchCall", &[("x-atlantis-caller", name)], framed(&PingRequest {})).await;
    }
    rig.get("/metrics").await;
    let (_, before) = rig.get("/metrics").await;
    for n in 0..10_000 {
        let name = format!("somebody-{n}");
        let headers = [("x-atlantis-caller", name.as_str())];
        let call = if n % 10 == 0 { format!("NoSuchCall{n}") } else { "Ping".to_owned() };
        client.raw(&call, &headers, framed(&PingRequest {})).await;
    }
    let (_, after) = rig.get("/metrics").await;
    assert_eq!(series(&after), series(&before));
    let counted = r#"groundplane_rpc_requests_total{rpc="other",caller="other",code="UNIMPLEMENTED"} 1001"#;
    assert!(after.lines().any(|line| line == counted), "{after}");
}

#[tokio::test]
async fn the_page_shows_what_the_catalogue_lists_and_nothing_else() {
    let rig = rig().await;
    rig.h2().await.call("GetPostRecords", &posts(12)).await;
    let (_, page) = rig.get("/metrics").await;
    let families: Vec<(&str, &str)> =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let listed = |metric: &catalog::Listed| {
        let name = metric.name();
        families.iter().any(|(family, kind)| {
            *kind == metric.kind.name() && (name == *family || name.strip_suffix("_total") == Some(*family))
        })
    };
    for metric in catalog::ALL {
        assert_eq!(listed(metric), metric.when == When::Always, "{}", metric.name());
    }
    let always = catalog::ALL.iter().filter(|metric| metric.when == When::Always).count();
    assert_eq!(families.len(), always, "{families:?}");
}

/// What a page shows that is opened when it has happened already.
#[tokio::test]
async fn the_last_minutes_say_who_asked_for_how_much() {
    let rig = rig().await;
    let mut client = rig.h2().await;
    for _ in 0..3 {
        client.raw("GetPostRecords", &[("x-atlantis-caller", "appview")], framed(&posts(12))).await;
    }
    client.raw("GetPostRecords", &[("x-atlantis-caller", "batch-job")], framed(&posts(20_000))).await;
    let all = async || -> Value { serde_json::from_str(&rig.get("/recent").await.1).unwrap() };
    let total =
        |recent: &Value, of: fn(&Value) -> u64| -> u64 { recent["samples"].as_array().unwrap().iter().map(of).sum() };
    let begun = std::time::Instant::now();
    let recent = loop {
        let recent = all().await;
        if total(&recent, |sample| sample["ok"].as_u64().unwrap()) == 4 {
            break recent;
        }
        assert!(begun.elapsed() < crate::rig::PATIENCE, "{recent}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    let names: Vec<&str> = recent["callers"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    assert_eq!(names, ["unknown", "other", "appview", "batch-job"]);
    let asked = |caller: usize, what: &'static str| -> Vec<u64> {
        let samples = recent["samples"].as_array().unwrap().iter();
        let of = samples.flat_map(|sample| sample["callers"].as_array().unwrap());
        of.filter(|it| it["caller"] == caller).map(|it| it[what].as_u64().unwrap()).collect()
    };
    assert_eq!(asked(2, "keys").iter().sum::<u64>(), 36);
    assert_eq!(asked(3, "largest").iter().max(), Some(&20_000));
    assert_eq!(asked(2, "largest").iter().max(), Some(&12));
    let sized = |group: usize| -> u64 {
        recent["samples"].as_array().unwrap().iter().map(|it| it["sizes"][group]["calls"].as_u64().unwrap()).sum()
    };
    assert_eq!([sized(0), sized(1), sized(2)], [3, 0, 1]);
    let shape = &recent["shapes"][0];
    assert_eq!((&shape["caller"], &shape["size_class"]), (&"batch-job".into(), &"5k_plus".into()), "newest first");

    let last = recent["samples"].as_array().unwrap().last().unwrap()["at_ms"].as_i64().unwrap();
    let (status, body) = rig.get(&format!("/recent?after={last}")).await;
    let newer: Value = serde_json::from_str(&body).unwrap();
    assert!(status == 200 && newer["samples"].as_array().unwrap().iter().all(|it| it["at_ms"].as_i64() > Some(last)));
    assert_eq!(rig.get("/recent?after=yesterday").await.0, 400);
}

/// Somebody who looks at the page takes nothing from the scraper, and neither does a second scraper.
#[tokio::test]
async fn a_large_batch_is_shown_to_everybody_who_asks() {
    let rig = rig().await;
    rig.h2().await.raw("GetPostRecords", &[("x-atlantis-caller", "batch-job")], framed(&posts(20_000))).await;
    for _ in 0..5 {
        let largest = rig.metric(r#"groundplane_rpc_batch_keys_max{rpc="GetPostRecords",caller="batch-job"}"#).await;
        assert_eq!(largest, Some(20_000.0));
    }
}
