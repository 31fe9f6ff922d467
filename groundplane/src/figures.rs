//! Figures of the side that reads the network, for `/metrics`.

use std::fmt;

use gp_ingest::Ingest;
use gp_serve::{Page, Source, catalog};

/// What an ingest side counts.
pub(crate) struct IngestFigures(pub(crate) Ingest);

impl Source for IngestFigures {
    fn show(&self, page: &mut Page<'_>) -> fmt::Result {
        let figures = self.0.figures();
        let lag = figures.behind_us.map(|us| ([], us as f64 / 1e6));
        page.family_f64(&catalog::INGEST_LAG, lag.into_iter())?;
        page.single(&catalog::INGEST_CONNECTED, figures.connected.into())?;
        page.single(&catalog::INGEST_SEQ, figures.seq.max(0).unsigned_abs())?;
        page.single(&catalog::INGEST_PENDING, figures.pending)?;
        page.single(&catalog::INGEST_EVENTS_INFLIGHT, figures.events_in_flight)?;
        let jobs = [
            (["resync"], figures.resyncs_running),
            (["refresh"], figures.refreshes_running),
            (["delete"], figures.deletions_running),
        ];
        page.family(&catalog::INGEST_JOBS_RUNNING, jobs.into_iter())?;
        let drops = self.0.drops();
        page.family(&catalog::INGEST_DROPS, drops.drops_by_name().map(|(reason, count)| ([reason], count)))?;
        page.family(&catalog::INGEST_SKIPS, drops.skips_by_name().map(|(reason, count)| ([reason], count)))?;
        let Some(it) = self.0.backfill_figures() else { return Ok(()) };
        let repos = [
            (["listed"], it.listed),
            (["present"], it.present),
            (["inactive"], it.inactive),
            (["left"], it.left),
            (["reading"], it.reading),
            (["read"], it.read),
            (["overtaken"], it.overtaken),
            (["refused"], it.refused),
            (["given_up"], it.given_up),
        ];
        page.family(&catalog::BACKFILL_REPOS, repos.into_iter())?;
        page.family(&catalog::BACKFILL_FAILED_ATTEMPTS, it.failed.iter().map(|(reason, count)| ([*reason], *count)))?;
        page.single(&catalog::BACKFILL_HOSTS_RESTING, it.hosts_resting)?;
        page.single(&catalog::BACKFILL_RECORDS, it.records)?;
        page.single(&catalog::BACKFILL_BYTES, it.bytes)?;
        page.single(&catalog::BACKFILL_DONE, it.done.into())
    }
}
