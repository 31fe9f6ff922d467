//! The report of the outage: one page that needs nothing else, with what callers of the two servers felt side by side.

use std::fmt::Write as _;

use crate::{
    Row, Verdict,
    april::{Course, MEMORY_BYTES, how_it_fell},
};

/// What the page is made of.
#[derive(Debug)]
pub struct Report {
    /// The plane.
    pub ours: Course,
    /// The twin, if there was a memcached for it.
    pub twin: Option<Course>,
}

/// The chart, in units of the drawing.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 30.0;

const STYLE: &str = "
:root{color-scheme:light dark;--ground:#fbfaf8;--ink:#1d1f23;--dim:#62666d;--line:#dcd9d3;--good:#2f7d5b;--bad:#c2452d;--card:#fff}
@media(prefers-color-scheme:dark){:root{--ground:#15171a;--ink:#e9e7e3;--dim:#9a9ea6;--line:#34383e;--good:#5cc096;--bad:#f0795f;--card:#1c1f23}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:1240px;margin:0 auto;padding:1.2rem}
h1{font-size:1.5rem;margin:.4rem 0}h2{font-size:1.1rem;margin:0 0 .3rem}
p{margin:.4rem 0;max-width:70ch}.dim{color:var(--dim)}
.sides{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,28rem),1fr));gap:1rem;margin:1rem 0}
figure{margin:0;padding:.8rem;background:var(--card);border:1px solid var(--line);border-radius:8px;min-width:0}
figcaption{margin-bottom:.4rem}svg{width:100%;height:auto;display:block}
svg text{fill:var(--dim);font:12px system-ui,sans-serif}
.good{fill:var(--good)}.bad{fill:var(--bad)}.grid{stroke:var(--line)}.mark{stroke:var(--dim);stroke-dasharray:3 3}
.key{display:inline-block;width:.8em;height:.8em;border-radius:2px;margin:0 .3em 0 .8em}
ol{margin:.4rem 0;padding-left:1.6rem;color:var(--dim);font-size:.9rem}
table{border-collapse:collapse;width:100%}.wide{overflow-x:auto}
th,td{text-align:left;vertical-align:top;padding:.45rem .6rem;border-bottom:1px solid var(--line)}
th{font-weight:600;color:var(--dim);font-size:.9rem}
.pass{color:var(--good);font-weight:600}.fail{color:var(--bad);font-weight:600}
";

impl Report {
    /// The page.
    pub fn html(&self, rows: &[Row]) -> String {
        let mut out = String::from(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>Drill: April 2026</title>",
        );
        let failed = rows.iter().filter(|row| row.verdict == Verdict::Fail).count();
        let verdict = if failed == 0 { "The outage did not happen here." } else { "Not everything held." };
        let _ = write!(
            out,
            "<style>{STYLE}</style></head><body><main><h1>April 2026, replayed: {verdict}</h1>\
             <p>Two instances of {} MiB each serve small calls of 1 to 50 keys. Then a second caller sends three calls a \
             second of 20,000 keys, the logs are not read any more, and one instance is killed and started again. There \
             are 500 ports for outgoing connections. Beside Groundplane stands a naive server with the same load: a task \
             and, where none is idle, a connection for each key, and a line of log for each error.</p>\
             <p class=\"dim\">Small calls a second<span class=\"key\" style=\"background:var(--good)\"></span>answered\
             <span class=\"key\" style=\"background:var(--bad)\"></span>failed</p><div class=\"sides\">",
            MEMORY_BYTES >> 20
        );
        let most = self.courses().flat_map(|it| &it.points).map(|it| it.answered + it.failed).fold(1.0, f64::max);
        side(&mut out, "Groundplane", &self.ours, most);
        match &self.twin {
            Some(twin) => side(&mut out, "The naive server", twin, most),
            None => out.push_str("<figure><figcaption><h2>The naive server</h2></figcaption><p>Not run: there is no memcached on this machine.</p></figure>"),
        }
        out.push_str("</div><h2>Verdict</h2><div class=\"wide\"><table><thead><tr><th>Check</th><th>Verdict</th><th>Measured</th><th>Bar</th></tr></thead><tbody>");
        for row in rows {
            let class = match row.verdict {
                Verdict::Pass => "pass",
                Verdict::Fail => "fail",
                Verdict::Skipped(_) => "dim",
            };
            let measured = match &row.verdict {
                Verdict::Skipped(why) => why,
                _ => &row.measured,
            };
            let [name, measured, bar] = [row.name, measured, row.bar].map(escaped);
            let word = row.word().to_lowercase();
            let _ = write!(
                out,
                "<tr><td>{name}</td><td class=\"{class}\">{word}</td><td>{measured}</td><td>{bar}</td></tr>"
            );
        }
        out.push_str("</tbody></table></div>");
        if let Some(twin) = &self.twin {
            let _ = write!(out, "<p class=\"dim\">The naive server: {}.</p>", escaped(&how_it_fell(twin)));
        }
        out.push_str(
            "<p class=\"dim\">Callers and servers share this machine: read the figures beside each other, not alone. \
             What is replayed: Jim Calabro, <cite>April 2026 Outage Post-Mortem</cite>.</p></main></body></html>",
        );
        out
    }

    fn courses(&self) -> impl Iterator<Item = &Course> {
        std::iter::once(&self.ours).chain(&self.twin)
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// One side: a bar for each half second, answered below, failed above, and what happened when.
fn side(out: &mut String, name: &str, course: &Course, most: f64) {
    let until = course.points.last().map_or(1.0, |it| it.at).max(1.0);
    let (width, height) = (WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
    let x = |at: f64| LEFT + width * (at / until).clamp(0.0, 1.0);
    let y = |calls: f64| TOP + height * (1.0 - (calls / most).clamp(0.0, 1.0));
    let says = format!(
        "{name}: {:.1} % of small calls answered in the storm; p99 {:.1} ms quiet, {:.1} ms in the storm",
        course.storm.success() * 100.0,
        course.quiet.p99_ms(),
        course.storm.p99_ms()
    );
    let _ = write!(
        out,
        "<figure><figcaption><h2>{name}</h2><span class=\"dim\">{}</span></figcaption>\
         <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
        escaped(&says[name.len() + 2..]),
        escaped(&says)
    );
    for part in [0.0, 0.5, 1.0] {
        let _ = write!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{1:.1}\" y2=\"{1:.1}\"/><text x=\"{2:.1}\" y=\"{3:.1}\" text-anchor=\"end\">{4:.0}</text>",
            WIDTH - RIGHT,
            y(most * part),
            LEFT - 6.0,
            y(most * part) + 4.0,
            most * part
        );
    }
    let mut from = course.points.first().map_or(0.0, |it| (it.at - 0.5).max(0.0));
    for point in &course.points {
        let (left, wide) = (x(from), (x(point.at) - x(from)).max(0.5));
        let top = y(point.answered);
        let _ = write!(
            out,
            "<rect class=\"good\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{wide:.1}\" height=\"{:.1}\"/>",
            TOP + height - top
        );
        if point.failed > 0.0 {
            let above = y(point.answered + point.failed);
            let _ = write!(
                out,
                "<rect class=\"bad\" x=\"{left:.1}\" y=\"{above:.1}\" width=\"{wide:.1}\" height=\"{:.1}\"/>",
                (top - above).max(1.0)
            );
        }
        from = point.at;
    }
    for (n, mark) in course.marks.iter().enumerate() {
        let at = x(mark.at);
        let _ = write!(
            out,
            "<line class=\"mark\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/><text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            TOP - 12.0,
            TOP + height,
            TOP - 16.0,
            n + 1
        );
    }
    for seconds in (0..=until as usize).step_by(((until / 6.0).ceil() as usize).max(1)) {
        let _ = write!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{seconds} s</text>",
            x(seconds as f64),
            HEIGHT - 10.0
        );
    }
    out.push_str("</svg><ol>");
    for mark in &course.marks {
        let _ = write!(out, "<li>{} ({:.0} s)</li>", escaped(mark.what), mark.at);
    }
    out.push_str("</ol></figure>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::april::{Mark, Point};

    #[test]
    fn the_page_shows_both_sides_and_needs_nothing_from_outside() {
        let point = |at, failed| Point { at, answered: 100.0, failed, p99_ms: 2.0 };
        let course = Course {
            points: vec![point(0.5, 0.0), point(1.0, 50.0)],
            marks: vec![Mark { at: 0.7, what: "it <begins>" }],
            ..Course::default()
        };
        let report = Report { ours: course.clone(), twin: Some(course) };
        let page = report.html(&[Row::new("A1", "small calls", "all & more")]);
        assert_eq!(page.matches("<svg").count(), 2);
        assert_eq!(page.matches("class=\"bad\"").count(), 2);
        assert!(page.contains("it &lt;begins&gt;") && page.contains("all &amp; more"));
        for outside in ["http://", "https://", "src=", "<script", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
    }
}
