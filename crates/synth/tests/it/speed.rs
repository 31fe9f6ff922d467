//! How fast histories are written. Run alone and with nothing beside it:
//! `cargo test --release -p groundplane-synth -- --ignored speed --nocapture`.

use std::{io::Write, time::Instant};

use groundplane_synth::{Network, Recording, Size, Spec};

use crate::NOW_US;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures; takes a quiet machine"]
async fn speed_of_writing_a_history() {
    let mut out = std::io::stderr();
    for (name, spec) in [
        ("demo", Spec::new(Size::Demo, 1, NOW_US)),
        ("demo without oracle", Spec { keep_model: false, ..Spec::new(Size::Demo, 1, NOW_US) }),
        ("demo, ten operations a commit", Spec { ops_per_commit: 10.0, ..Spec::new(Size::Demo, 1, NOW_US) }),
    ] {
        let begun = Instant::now();
        let network = Network::start(spec).await.unwrap();
        let (seconds, stats) = (begun.elapsed().as_secs_f64(), network.stats());
        let bytes: usize = network.frames().iter().map(|(_, frame)| frame.len()).sum();
        let (commits, records) = (stats.written.commits as f64 / seconds, stats.written.records as f64 / seconds);
        writeln!(
            out,
            "{name}: {seconds:.2} s, {commits:.0} commits/s, {records:.0} records/s, {bytes} bytes, {stats:?}"
        )
        .unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let recording =
        Recording::write(&Spec { ops_per_commit: 4.0, ..Spec::new(Size::Demo, 1, NOW_US) }, folder.path()).unwrap();
    let seconds = begun.elapsed().as_secs_f64();
    writeln!(out, "recording: {seconds:.2} s, {:.0} operations/s", recording.operations() as f64 / seconds).unwrap();
    assert!(recording.operations() as f64 / seconds > 2_000.0);
}
