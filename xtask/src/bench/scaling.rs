//! `cargo xtask bench scaling`: what calls cost as the network grows, and the exponent that fits.
//!
//! An exponent of 0 is a cost that does not depend on the size of the network, 1 one that grows as it does. It is fitted
//! to processor time for each call, which other work on the machine changes least, over networks of several sizes. Our
//! plane alone is measured.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use serde_json::json;

use super::{
    scenarios::{COUNTS, FOLLOWERS, KNOWN, POSTS, THREAD, TIMELINE},
    site::Site,
    world::Size,
};
use crate::{
    load::{self, Curve, closed},
    shell,
    test::Checks,
};

/// What is measured.
const WORK: [&str; 6] = [TIMELINE, THREAD, COUNTS, FOLLOWERS, POSTS, KNOWN];

/// Rounds of a scenario: the quickest counts, for the machine may have had something else to do.
const ROUNDS: u32 = 3;

/// What can be told.
#[derive(clap::Args, Clone)]
pub(crate) struct Args {
    /// Accounts of the networks, from the smallest.
    #[arg(long, value_delimiter = ',', default_value = "10000,100000,1000000")]
    accounts: Vec<usize>,
    /// Posts of each account.
    #[arg(long, default_value_t = 1)]
    posts_each: usize,
    /// Accounts that each of the viewers follows.
    #[arg(long, default_value_t = 2_000)]
    follows: usize,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 6)]
    seconds: u64,
    /// A program that is built already; otherwise the release build.
    #[arg(long)]
    bin: Option<PathBuf>,
    /// Where scaling.json and scaling.html go.
    #[arg(long, default_value = "target/load")]
    out: PathBuf,
}

/// What one kind of call costs in one network.
#[derive(Clone, Copy)]
struct Cost {
    accounts: f64,
    p50_ms: f64,
    cpu_us: f64,
}

/// Measures and prints the table.
pub(crate) async fn run(args: &Args) -> Result<()> {
    measure(args).await.map(drop)
}

/// Costs of each kind of work, smallest network first.
async fn measure(args: &Args) -> Result<Vec<(&'static str, Vec<Cost>)>> {
    let bin = shell::groundplane(args.bin.as_deref(), true)?;
    let mut costs: Vec<(&'static str, Vec<Cost>)> = WORK.iter().map(|work| (*work, Vec::new())).collect();
    for accounts in &args.accounts {
        let size = Size { accounts: *accounts, posts_each: args.posts_each, follows: args.follows };
        let site = Site::new(&size, &bin, true).await?;
        for (work, costs) in &mut costs {
            costs.push(cost(&site, work, args.seconds).await?);
        }
    }
    let table = table(&costs);
    println!("\n{table}");
    std::fs::create_dir_all(&args.out).with_context(|| format!("{} cannot be made", args.out.display()))?;
    let rows: Vec<_> = costs
        .iter()
        .map(|(work, costs)| {
            let sizes: Vec<_> = costs
                .iter()
                .map(|it| json!({ "accounts": it.accounts, "p50_ms": it.p50_ms, "cpu_us": it.cpu_us }))
                .collect();
            json!({ "work": work, "exponent": exponent(costs, |it| it.cpu_us), "sizes": sizes })
        })
        .collect();
    std::fs::write(args.out.join("scaling.json"), serde_json::to_vec_pretty(&json!(rows))?)?;
    let steps = (args.accounts.len().max(2) - 1) as f64;
    let curve = |(work, costs): &(&'static str, Vec<Cost>)| Curve {
        name: (*work).to_owned(),
        class: "groundplane",
        points: costs
            .iter()
            .enumerate()
            .map(|(n, it)| (n as f64 / steps, format!("{:.0}", it.accounts), it.cpu_us))
            .collect(),
    };
    let curves: Vec<Curve> = costs.iter().map(curve).collect();
    let what = "Processor time for each call in microseconds, by accounts of the network.";
    std::fs::write(args.out.join("scaling.html"), load::chart("As the network grows", what, &curves, &table))?;
    Ok(costs)
}

async fn cost(site: &Site, work: &str, seconds: u64) -> Result<Cost> {
    let scenario = site.scenarios.iter().find(|it| it.name == work).context("no such work")?;
    let plane = site.ours()?;
    let calls = Arc::new(load::calls(scenario, &plane.url, true));
    for n in 0..calls.kinds() {
        calls.make(n).await.with_context(|| work.to_owned())?;
    }
    let mut least: Option<Cost> = None;
    for _ in 0..ROUNDS {
        let most = closed(&calls, 1, Duration::from_secs(seconds) / ROUNDS, Some(plane.pid())).await;
        let it = Cost {
            accounts: site.world.accounts() as f64,
            p50_ms: most.p50_ms,
            cpu_us: most.cpu_us.unwrap_or(f64::NAN),
        };
        if least.is_none_or(|least| it.cpu_us < least.cpu_us) {
            least = Some(it);
        }
    }
    least.context("nothing was measured")
}

/// The exponent of the power of the network's size that fits costs best, by least squares of logarithms.
fn exponent(costs: &[Cost], of: impl Fn(&Cost) -> f64) -> f64 {
    let points: Vec<(f64, f64)> =
        costs.iter().filter(|it| of(it) > 0.0).map(|it| (it.accounts.ln(), of(it).ln())).collect();
    let count = points.len() as f64;
    let mean = |it: fn(&(f64, f64)) -> f64| points.iter().map(it).sum::<f64>() / count;
    let (x, y) = (mean(|it| it.0), mean(|it| it.1));
    let both: f64 = points.iter().map(|it| (it.0 - x) * (it.1 - y)).sum();
    let squares: f64 = points.iter().map(|it| (it.0 - x).powi(2)).sum();
    if squares > 0.0 { both / squares } else { f64::NAN }
}

fn table(costs: &[(&'static str, Vec<Cost>)]) -> String {
    let mut lines = vec![format!("{:<30}", "processor us, p50 ms")];
    for it in costs.first().into_iter().flat_map(|(_, costs)| costs) {
        lines[0].push_str(&format!(" {:>20}", format!("{} accounts", it.accounts)));
    }
    lines[0].push_str(&format!(" {:>9}", "exponent"));
    for (work, costs) in costs {
        let mut line = format!("{work:<30}");
        for it in costs {
            line.push_str(&format!(" {:>20}", format!("{:.0} us {:.2} ms", it.cpu_us, it.p50_ms)));
        }
        line.push_str(&format!(" {:>9.2}", exponent(costs, |it| it.cpu_us)));
        lines.push(line);
    }
    lines.join("\n")
}

/// Two tiny networks for the tests.
pub(crate) fn short() -> Result<(u64, u64)> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let out = tempfile::tempdir()?;
    let args = Args {
        accounts: vec![200, 400],
        posts_each: 1,
        follows: 50,
        seconds: 1,
        bin: Some(shell::build_groundplane(false)?),
        out: out.path().to_owned(),
    };
    let costs = runtime.block_on(measure(&args))?;
    let mut checks = Checks::default();
    for (work, costs) in &costs {
        checks.that(&format!("{work} is measured at each size"), costs.iter().all(|it| it.p50_ms > 0.0), costs.len());
    }
    let written = ["scaling.json", "scaling.html"].iter().all(|file| out.path().join(file).exists());
    checks.that("figures are written down", written, "they are not");
    Ok(checks.counts())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponent_is_that_of_the_power_that_made_the_costs() {
        let costs = |power: f64| -> Vec<Cost> {
            [1e4, 1e5, 1e6].map(|accounts| Cost { accounts, p50_ms: 1.0, cpu_us: 3.0 * accounts.powf(power) }).into()
        };
        for power in [0.0, 0.5, 1.0] {
            assert!((exponent(&costs(power), |it| it.cpu_us) - power).abs() < 1e-9);
        }
        assert!(exponent(&costs(1.0)[..1], |it| it.cpu_us).is_nan());
    }
}
