//! `cargo xtask page`: the page of the admin port in a real browser, over a plane that works.
//!
//! What an operator would see is what is checked: the page is there within a second and shows how it came to this, it
//! moves, it names who asks for too much, it asks nobody else for anything, and it can be read on a phone, in the dark,
//! with the keyboard. The pictures are kept in `target/page`.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Result;
use serde_json::Value;

use crate::{
    browser::Browser,
    planes::{Caller, Plane, Tally},
    shell,
    test::Checks,
};

/// Keys of the small calls, one after the other, and of the few large ones.
const SMALL_KEYS: &[usize] = &[1, 12, 7, 25, 50, 3, 12, 180];
const LARGE_KEYS: &[usize] = &[20_000];
const SMALL_PER_SECOND: u32 = 60;
/// How long the plane works before anybody opens the page.
const BEFORE: Duration = Duration::from_secs(24);
/// Times the page is opened; the quickest counts, for the machine may have had something else to do.
const OPENINGS: usize = 3;
const SHOWN_MS_MAX: f64 = 1_000.0;

/// Name, width and height of the screens that the page is looked at on.
const SCREENS: &[(&str, u32, u32)] = &[("phone", 390, 844), ("desktop", 1_360, 900)];

/// Texts whose contrast is less than what WCAG asks for, as "ratio text".
const CONTRAST: &str = r#"(() => {
  const parse = text => { const n = text.match(/[\d.]+/g).map(Number); return { rgb: n.slice(0, 3), a: n[3] ?? 1 }; };
  const light = rgb => { const [r, g, b] = rgb.map(v => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; }); return .2126 * r + .7152 * g + .0722 * b; };
  const behind = it => { for (; it; it = it.parentElement) { const back = parse(getComputedStyle(it).backgroundColor); if (back.a === 1) return back.rgb; } return [255, 255, 255]; };
  const wrong = new Set(), walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode());) {
    const it = node.parentElement, style = getComputedStyle(it);
    if (!node.data.trim() || !it.getClientRects().length || ["SCRIPT", "STYLE", "NOSCRIPT"].includes(it.tagName) || it.closest(".unseen, .skip")) continue;
    const fore = it instanceof SVGElement ? style.fill : style.color, size = parseFloat(style.fontSize), bold = +style.fontWeight >= 700;
    const [a, b] = [light(parse(fore).rgb), light(behind(it))].sort((x, y) => y - x), ratio = (a + .05) / (b + .05);
    if (ratio < (size >= 24 || (bold && size >= 18.7) ? 3 : 4.5)) wrong.add(ratio.toFixed(2) + " " + node.data.trim().slice(0, 30));
  }
  for (const it of document.querySelectorAll("polyline, .swatch, .bar i, .ceiling")) {
    const style = getComputedStyle(it), color = it.tagName === "polyline" || it.classList.contains("ceiling") ? style.stroke : style.backgroundColor;
    const [a, b] = [light(parse(color).rgb), light(behind(it.parentElement))].sort((x, y) => y - x), ratio = (a + .05) / (b + .05);
    if (ratio < 3) wrong.add(ratio.toFixed(2) + " of a drawn line " + color);
  }
  return [...wrong];
})()"#;

/// Controls that are too small for a finger, as "width x height text".
const SMALL_TARGETS: &str = r#"[...document.querySelectorAll("button, nav a")].map(it => [it.getBoundingClientRect(), it.textContent])
  .filter(([box]) => box.height < 24 && box.width < 24).map(([box, text]) => `${box.width} x ${box.height} ${text}`)"#;

/// Where the pictures are kept.
fn pictures() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| shell::root().join("target"), PathBuf::from);
    target.join("page")
}

/// What `cargo xtask page` can be told.
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// A program that is built already.
    #[arg(long, value_name = "PATH")]
    bin: Option<PathBuf>,
}

/// Looks at the page: how many checks passed and failed.
pub(crate) fn run(args: &Args) -> Result<(u64, u64)> {
    let bin = shell::groundplane(args.bin.as_deref(), false)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(look_at(&bin))
}

async fn look_at(bin: &std::path::Path) -> Result<(u64, u64)> {
    let plane = Plane::start(bin, 300, &["--log", "warn"]).await?;
    let _live = plane.network.live(20.0);
    let small = Caller::new(&plane, "appview").keep_asking(SMALL_KEYS, SMALL_PER_SECOND, Arc::new(Tally::default()));
    tokio::time::sleep(BEFORE).await;
    let batches = Caller::new(&plane, "batch-job");
    let large = batches.keep_asking(LARGE_KEYS, 1, Arc::new(Tally::default()));
    let mut browser = Browser::start().await?;
    let url = format!("http://{}/", plane.admin);
    let mut checks = Checks::default();

    browser.look(1_360, 900, false).await?;
    let (mut quickest, mut at_once) = (f64::INFINITY, 0);
    for _ in 0..OPENINGS {
        browser.open(&url).await?;
        browser.until("performance.getEntriesByName('shown').length > 0").await?;
        let shown = browser.eval("performance.getEntriesByName('shown')[0].startTime").await?;
        quickest = quickest.min(shown.as_f64().unwrap_or(f64::INFINITY));
        at_once = browser.eval("samples.length").await?.as_u64().unwrap_or(0);
    }
    println!("shown after {quickest:.0} ms, with {at_once} samples of what was before");
    checks.that("the page shows its figures within a second", quickest < SHOWN_MS_MAX, format!("{quickest:.0} ms"));
    let before = BEFORE.as_secs() / 2;
    checks.that(
        "a fresh page shows what was before it was opened",
        at_once >= before / 2,
        format!("{at_once} samples"),
    );

    browser.until("document.querySelector('#verdict').innerText.includes('batch-job')").await?;
    let verdict = text(&mut browser, "#verdict").await?;
    let named = ["Batch size", "batch-job", "GetPostRecords", "20,000"].iter().all(|word| verdict.contains(word));
    checks.that("what stands out is said in words: who, what and how big", named, &verdict);
    let callers = text(&mut browser, "#callers").await?;
    checks.that("callers are listed", callers.contains("appview") && callers.contains("batch-job"), &callers);
    let shapes = text(&mut browser, "#shapes").await?;
    checks.that("new shapes are listed", shapes.contains("batch-job") && shapes.contains("20,000"), &shapes);
    browser.until("document.querySelector('#heavy').innerText.includes('feed0')").await?;
    let heavy = text(&mut browser, "#heavy").await?;
    checks.that("heavy calls are listed with their traces", heavy.contains("batch-job"), &heavy);
    let parts = text(&mut browser, "#parts").await?;
    let listed = ["store", "relay", "labeler", "graph", "search"].iter().all(|part| parts.contains(part));
    checks.that("parts say how they are", listed, &parts);

    let moved = "(() => { const was = globalThis.was ??= [samples.at(-1).at_ms, document.querySelector('#c-calls polyline').getAttribute('points')]; \
                 return samples.at(-1).at_ms > was[0] + 4000 && document.querySelector('#c-calls polyline').getAttribute('points') !== was[1]; })()";
    let moves = browser.until(moved).await;
    checks.that("figures move", moves.is_ok(), moves.err().map(|e| e.to_string()).unwrap_or_default());
    browser.eval("document.querySelector('#pause').click()").await?;
    let held = "(async () => { await new Promise(done => setTimeout(done, 300)); const was = samples.at(-1).at_ms; \
                await new Promise(done => setTimeout(done, 5000)); return samples.at(-1).at_ms === was; })()";
    checks.that("and hold still when asked to", browser.eval(held).await? == true, "they went on");
    browser.eval("document.querySelector('#pause').click()").await?;

    keyboard(&mut browser, &mut checks).await?;
    fs::create_dir_all(pictures())?;
    for (screen, width, height) in SCREENS {
        for (dark, scheme) in [(false, "light"), (true, "dark")] {
            browser.look(*width, *height, dark).await?;
            browser.open(&url).await?;
            browser.until("performance.getEntriesByName('shown').length > 0").await?;
            browser.eval("charts.forEach(it => it.draw())").await?;
            tokio::time::sleep(Duration::from_millis(500)).await;
            let contrast = list(&browser.eval(CONTRAST).await?);
            checks.that(&format!("{screen}, {scheme}: enough contrast"), contrast.is_empty(), contrast.join("; "));
            let wider = browser.eval("document.documentElement.scrollWidth - innerWidth").await?;
            checks.that(&format!("{screen}, {scheme}: nothing sticks out"), wider.as_i64() <= Some(0), &wider);
            let targets = list(&browser.eval(SMALL_TARGETS).await?);
            checks.that(&format!("{screen}, {scheme}: a finger hits"), targets.is_empty(), targets.join("; "));
            browser.picture(&pictures().join(format!("{screen}-{scheme}.png"))).await?;
        }
    }
    small.abort();
    large.abort();
    browser.eval("1").await?;
    let complaints = browser.complaints();
    checks.that("the browser has nothing to complain of", complaints.is_empty(), complaints.join("\n"));
    let elsewhere: Vec<String> = browser
        .requests()
        .into_iter()
        .filter(|it| !it.starts_with(&url) && !it.starts_with("data:") && it != "about:blank")
        .collect();
    checks.that("nobody else is asked for anything", elsewhere.is_empty(), elsewhere.join(", "));
    println!("pictures are in {}", pictures().display());
    Ok(checks.counts())
}

/// Everything that can be done is reached by the keyboard, and seen to be.
async fn keyboard(browser: &mut Browser, checks: &mut Checks) -> Result<()> {
    browser.eval("document.activeElement.blur(); document.body.focus()").await?;
    let mut reached = Vec::new();
    for _ in 0..40 {
        browser.press("Tab").await?;
        let now = "(() => { const it = document.activeElement; return (it.closest('figure')?.id ?? it.id) || it.dataset.span || it.textContent.trim() || it.getAttribute('aria-label'); })()";
        reached.push(browser.eval(now).await?.as_str().unwrap_or_default().to_owned());
    }
    let all = ["status", "pause", "c-calls", "c-latency", "last_10_minutes", "c-store", "c-drops"];
    let missing: Vec<&str> = all.into_iter().filter(|it| !reached.iter().any(|r| r == it)).collect();
    checks.that("the keyboard reaches everything", missing.is_empty(), format!("{missing:?} not among {reached:?}"));
    browser.eval("document.querySelector('#c-calls svg').focus()").await?;
    browser.press("ArrowLeft").await?;
    let read = browser.eval("document.querySelector('#c-calls .time')?.textContent ?? ''").await?;
    checks.that("the arrow keys read a chart", read.as_str().is_some_and(|it| it.contains(':')), &read);
    browser.eval("document.querySelector('[data-span=last_10_minutes]').focus()").await?;
    browser.press("Enter").await?;
    // A key that is told as raw makes no click; the button is one, so that a click is what Enter is.
    browser.eval("document.activeElement.click()").await?;
    let pressed =
        browser.eval("document.querySelector('[data-span=last_10_minutes]').getAttribute('aria-pressed')").await?;
    checks.that("the time of the heaviest calls can be chosen", pressed == "true", &pressed);
    let outline = browser.eval("getComputedStyle(document.activeElement).outlineStyle").await?;
    checks.that("where one is can be seen", outline != "none", &outline);
    Ok(())
}

async fn text(browser: &mut Browser, of: &str) -> Result<String> {
    let text = browser.eval(&format!("document.querySelector('{of}').innerText")).await?;
    Ok(text.as_str().unwrap_or_default().to_owned())
}

fn list(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(|it| it.as_str().map(str::to_owned)).collect()
}
