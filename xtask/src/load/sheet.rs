//! The page of HTML: a table and charts in one file that asks nobody for anything.

use std::fmt::Write as _;

use super::Measured;

const HEAD: &str = r##"<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Groundplane under load</title><style>
:root { --back: #f4f5f2; --ink: #1c2226; --quiet: #59626a; --line: #dfe3e0; --groundplane: #1a6fc9; --reference: #a85a00; }
@media (prefers-color-scheme: dark) { :root { --back: #0f1315; --ink: #e8ecee; --quiet: #a3adb4; --line: #2a3338; --groundplane: #6cb2ff; --reference: #ffb454; } }
body { margin: 0 auto; max-width: 72rem; padding: 1rem; background: var(--back); color: var(--ink); font: 15px/1.45 system-ui, sans-serif; font-variant-numeric: tabular-nums; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; } th, td { text-align: right; padding: .2rem .5rem; border-bottom: 1px solid var(--line); } th:first-child, td:first-child, th:nth-child(2), td:nth-child(2) { text-align: left; }
.scroll { overflow-x: auto; } svg { display: block; width: 100%; height: auto; } svg text { fill: var(--quiet); font-size: 12px; } svg .name { fill: var(--ink); }
.groundplane { fill: var(--groundplane); stroke: var(--groundplane); } .reference { fill: var(--reference); stroke: var(--reference); } .grid { stroke: var(--line); } polyline { fill: none !important; stroke-width: 2; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; } dt { color: var(--quiet); } dd { margin: 0; } .key { display: inline-block; width: .8em; height: .8em; margin: 0 .3em 0 1em; }
</style></head><body><h1>Groundplane under load</h1>
"##;

/// Width of a chart, and of the names at its left.
const WIDTH: f64 = 1_000.0;
const NAMES: f64 = 270.0;
/// Height of a row of a chart of ranges, and of a chart of lines.
const ROW: f64 = 34.0;
const LINES: f64 = 320.0;

/// A line of a chart of lines.
pub(crate) struct Curve {
    pub(crate) name: String,
    /// The class that colours it.
    pub(crate) class: &'static str,
    /// Where, as a part of the width with its label, and how much.
    pub(crate) points: Vec<(f64, String, f64)>,
}

/// Powers of ten around some figures.
struct Scale {
    low: f64,
    high: f64,
}

impl Scale {
    fn around(figures: impl Iterator<Item = f64>) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for it in figures.filter(|it| it.is_finite() && *it > 0.0) {
            low = low.min(it.log10().floor());
            high = high.max(it.log10().ceil());
        }
        if low.is_finite() { Self { low, high: high.max(low + 1.0) } } else { Self { low: 0.0, high: 1.0 } }
    }

    /// From 0 to 1.
    fn at(&self, figure: f64) -> f64 {
        if figure > 0.0 { ((figure.log10() - self.low) / (self.high - self.low)).clamp(0.0, 1.0) } else { 0.0 }
    }

    fn ticks(&self) -> impl Iterator<Item = f64> + use<> {
        (self.low as i32..=self.high as i32).map(|power| 10f64.powi(power))
    }
}

/// A figure with as many digits as anybody reads.
fn figure(it: f64) -> String {
    match it {
        it if !it.is_finite() => "-".into(),
        it if it >= 100.0 => format!("{it:.0}"),
        it if it >= 1.0 => format!("{it:.1}"),
        it => format!("{it:.2}"),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

/// The whole page.
pub(crate) fn page(about: &[(&'static str, String)], measured: &[Measured]) -> String {
    let mut html = String::from(HEAD);
    html.push_str("<dl>");
    for (name, value) in about {
        let _ = write!(html, "<dt>{name}</dt><dd>{}</dd>", escaped(value));
    }
    html.push_str("</dl><h2>How long callers wait</h2><p>From the middle (p50) to one in a hundred (p99), of calls sent when they were due. Milliseconds; each line is ten times the one before.");
    html.push_str("<span class=\"key\" style=\"background:var(--groundplane)\"></span>groundplane<span class=\"key\" style=\"background:var(--reference)\"></span>reference</p>");
    html.push_str(&ranges(measured));
    html.push_str("<h2>Whole pages</h2><p>Milliseconds within which a part of the pages is there.</p>");
    let parts = [0.5, 0.75, 0.9, 0.95, 0.99, 0.999];
    let curves: Vec<Curve> = measured
        .iter()
        .filter(|it| it.name == "pages, mixed")
        .map(|it| Curve {
            name: it.plane.to_owned(),
            class: it.plane,
            points: parts
                .iter()
                .enumerate()
                .map(|(n, part)| (n as f64 / (parts.len() - 1) as f64, format!("p{}", part * 100.0), it.felt.ms(*part)))
                .collect(),
        })
        .collect();
    html.push_str(&lines(&curves));
    html.push_str("<h2>Figures</h2><div class=\"scroll\"><table><tr><th>work</th><th>plane</th><th>most a second</th><th>offered a second</th><th>p50 ms</th><th>p90 ms</th><th>p99 ms</th><th>p99.9 ms</th><th>failed</th></tr>");
    for it in measured {
        let _ = write!(html, "<tr><td>{}</td><td>{}</td>", escaped(&it.name), it.plane);
        let felt = &it.felt;
        for cell in
            [it.most_per_second, felt.offered_per_second, felt.ms(0.5), felt.ms(0.9), felt.ms(0.99), felt.ms(0.999)]
        {
            let _ = write!(html, "<td>{}</td>", figure(cell));
        }
        let _ = write!(html, "<td>{}</td></tr>", felt.failed);
    }
    html.push_str("</table></div></body></html>\n");
    html
}

/// A bar from p50 to p99 for each work and plane.
fn ranges(measured: &[Measured]) -> String {
    let scale = Scale::around(measured.iter().flat_map(|it| [it.felt.ms(0.5), it.felt.ms(0.99)]));
    let mut names: Vec<&str> = measured.iter().map(|it| it.name.as_str()).collect();
    names.dedup();
    let height = ROW * names.len() as f64 + 24.0;
    let x = |ms: f64| NAMES + scale.at(ms) * (WIDTH - NAMES - 20.0);
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"p50 to p99 of each work\">");
    for tick in scale.ticks() {
        let (x, bottom) = (x(tick), height - 20.0);
        let _ = write!(svg, "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"0\" y2=\"{bottom}\"/>");
        let _ = write!(svg, "<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{tick}</text>", height - 6.0);
    }
    for (n, name) in names.iter().enumerate() {
        let top = ROW * n as f64;
        let _ = write!(svg, "<text class=\"name\" x=\"0\" y=\"{}\">{}</text>", top + 20.0, escaped(name));
        for (m, it) in measured.iter().filter(|it| it.name == *name).enumerate() {
            let (from, to, y) = (x(it.felt.ms(0.5)), x(it.felt.ms(0.99)), top + 6.0 + 11.0 * m as f64);
            let width = (to - from).max(3.0);
            let _ = write!(
                svg,
                "<rect class=\"{}\" x=\"{from:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"8\" rx=\"2\"><title>{}: {} to {} ms</title></rect>",
                it.plane,
                it.plane,
                figure(it.felt.ms(0.5)),
                figure(it.felt.ms(0.99))
            );
        }
    }
    svg.push_str("</svg>");
    svg
}

/// Lines over powers of ten.
pub(crate) fn lines(curves: &[Curve]) -> String {
    let scale = Scale::around(curves.iter().flat_map(|it| it.points.iter().map(|(.., y)| *y)));
    let (left, right) = (60.0, WIDTH - 160.0);
    let x = |at: f64| left + at * (right - left);
    let y = |figure: f64| 10.0 + (1.0 - scale.at(figure)) * (LINES - 40.0);
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {LINES}\" role=\"img\">");
    for tick in scale.ticks() {
        let y = y(tick);
        let _ = write!(svg, "<line class=\"grid\" x1=\"{left}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>");
        let _ = write!(svg, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{tick}</text>", left - 8.0, y + 4.0);
    }
    for (at, label, _) in curves.first().into_iter().flat_map(|it| &it.points) {
        let _ = write!(svg, "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{label}</text>", x(*at), LINES - 8.0);
    }
    for curve in curves {
        let mut points = curve.points.iter().filter(|(.., figure)| figure.is_finite());
        let path: Vec<String> = points.clone().map(|(at, _, it)| format!("{:.1},{:.1}", x(*at), y(*it))).collect();
        let _ = write!(svg, "<polyline class=\"{}\" points=\"{}\"/>", curve.class, path.join(" "));
        if let Some((.., last)) = points.next_back() {
            let name = escaped(&curve.name);
            let _ = write!(svg, "<text class=\"name\" x=\"{}\" y=\"{:.1}\">{name}</text>", right + 8.0, y(*last) + 4.0);
        }
    }
    svg.push_str("</svg>");
    svg
}

/// A page with one chart of lines and the lines of a table below it.
pub(crate) fn chart(title: &str, what: &str, curves: &[Curve], table: &str) -> String {
    format!("{HEAD}<h2>{title}</h2><p>{what}</p>{}<pre>{}</pre></body></html>\n", lines(curves), escaped(table))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_their_place_on_powers_of_ten() {
        let scale = Scale::around([0.3, 42.0, f64::NAN].into_iter());
        assert_eq!(scale.ticks().collect::<Vec<_>>(), [0.1, 1.0, 10.0, 100.0]);
        assert!(scale.at(1.0) > 0.3 && scale.at(1.0) < 0.34);
        assert_eq!((scale.at(0.0), scale.at(1e9)), (0.0, 1.0));
    }

    #[test]
    fn a_curve_is_drawn_with_its_name_and_without_what_is_missing() {
        let points = vec![(0.0, "10 k".into(), 1.0), (0.5, "100 k".into(), f64::NAN), (1.0, "1 M".into(), 10.0)];
        let svg = lines(&[Curve { name: "a<b".into(), class: "groundplane", points }]);
        assert!(svg.contains("a&lt;b") && svg.contains("points=\"60.0,290.0 840.0,10.0\""), "{svg}");
    }
}
