//! One network in two planes: ours, and the reference over PostgreSQL on the same rows.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use gp_drill::wire;

use super::{
    Plane,
    filled::{Reference, Written, fill, serve, settled},
    folder_bytes, mb,
    scenarios::{self, Scenario},
    world::{Files, Size, World},
};

/// Longest time until a plane is ready.
const READY_MAX: Duration = Duration::from_secs(120);
/// How often it is asked.
const READY_POLL: Duration = Duration::from_millis(5);

/// Both planes, filled and warm.
pub(crate) struct Site {
    bin: PathBuf,
    /// Ours. There is always one.
    ours: Option<Plane>,
    /// The reference, unless it is left out.
    pub(crate) reference: Option<Reference>,
    pub(crate) world: World,
    pub(crate) written: Written,
    pub(crate) scenarios: Vec<Scenario>,
    /// Bytes of the store on disk, the index of words not included: the reference has none.
    pub(crate) store_bytes: u64,
    /// Bytes of the reference's database.
    pub(crate) reference_bytes: Option<u64>,
    /// Answers that were compared and found to be the same.
    pub(crate) compared: usize,
    /// Goes last: until then somebody may write there.
    dir: tempfile::TempDir,
}

impl Site {
    /// Fills both, starts both, and compares some answers.
    pub(crate) async fn new(size: &Size, bin: &Path, alone: bool) -> Result<Self> {
        let world = World::new(size);
        let dir = tempfile::Builder::new().prefix("groundplane-load-").tempdir()?;
        let mut files = if alone { None } else { Some(Files::create(&dir.path().join("csv"))?) };
        let written = fill(&dir.path().join("data"), files.as_mut(), &world).await?;
        let reference = match files {
            None => None,
            Some(files) => {
                let reference = Reference::start()?;
                let begun = Instant::now();
                files.load(&reference)?;
                println!("filled the reference in {:.1} s", begun.elapsed().as_secs_f64());
                Some(reference)
            }
        };
        let scenarios = scenarios::all(&world);
        let mut site = Self {
            bin: bin.to_owned(),
            ours: None,
            reference_bytes: reference.as_ref().map(Reference::bytes).transpose()?,
            reference,
            world,
            written,
            scenarios,
            store_bytes: 0,
            compared: 0,
            dir,
        };
        site.restart().await?;
        let status = settled(site.ours()?).await?;
        site.store_bytes = folder_bytes(&site.data()).saturating_sub(folder_bytes(&site.data().join("search")));
        println!(
            "serving {} items of {} authors from memory ({:.1} MB); {:.1} MB on disk{}",
            status["timeline"]["items"],
            status["timeline"]["authors"],
            mb(status["timeline"]["bytes"].as_u64().unwrap_or(0)),
            mb(site.store_bytes),
            site.reference_bytes.map(|it| format!(", the reference {:.1} MB", mb(it))).unwrap_or_default()
        );
        if let Some(reference) = &site.reference {
            site.compared = scenarios::compare(&site.ours()?.url, &reference.plane.url, &site.scenarios).await?;
            println!("{} answers are the same on both sides", site.compared);
        }
        Ok(site)
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Our plane.
    pub(crate) fn ours(&self) -> Result<&Plane> {
        self.ours.as_ref().context("our plane is not running")
    }

    /// Kills our plane if it runs, and starts it again: how long until it is ready, as it says itself.
    pub(crate) async fn restart(&mut self) -> Result<Duration> {
        if let Some(plane) = &mut self.ours {
            plane.child.kill()?;
            plane.child.wait()?;
        }
        self.ours = None;
        let begun = Instant::now();
        let plane = serve(&self.bin, &self.data())?;
        let admin = plane.admin.parse()?;
        while !matches!(wire::get(admin, "/readyz").await, Ok((200, _))) {
            ensure!(begun.elapsed() < READY_MAX, "the plane was not ready within {} s", READY_MAX.as_secs());
            tokio::time::sleep(READY_POLL).await;
        }
        let took = begun.elapsed();
        self.ours = Some(plane);
        Ok(took)
    }
}
