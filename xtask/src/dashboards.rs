//! `cargo xtask dashboards`: rules for Prometheus, a board for Grafana and the runbook, all from one set of definitions.
//!
//! The definitions are [`alerts`] and [`panels`]; what is made of them is checked in, so that an operator needs nothing
//! of this. Every query is held against the catalogue of metrics, and Prometheus's own tool reads every one of them.

mod alerts;
mod panels;
mod promql;

use std::{fmt::Write as _, fs, path::Path, process::Command};

use anyhow::{Context, Result, bail, ensure};
use gp_serve::catalog::{self, Listed};
use serde_json::{Value, json};

use self::{
    alerts::{ALERTS, Alert, RECORDED},
    panels::{Draw, MARKS, Panel, ROWS},
};
use crate::{postgres::apt_install, shell};

/// What is made, from the root.
const RULES: &str = "dashboards/rules.yml";
const BOARD: &str = "dashboards/grafana.json";
const RUNBOOK: &str = "docs/runbooks.md";
const CATALOG: &str = "docs/metrics.md";
/// Unit tests of the rules, in the form of Prometheus's tool.
const RULES_TEST: &str = "rules_test.yml";

/// Where an alert's page of the runbook is found.
const RUNBOOK_URL: &str = "https://github.com/groundplane/groundplane/blob/main/docs/runbooks.md";

/// Labels that Prometheus and its configuration put on every series.
const TARGET_LABELS: &[&str] = &["job", "instance", "region", "le"];
/// Labels whose values are a closed list that queries must keep to.
const CLOSED_LABELS: &[&str] = &["size_class", "code", "level", "stage", "class", "peer", "state", "site"];

/// Makes the files, or says that they would change.
pub(crate) fn run(check: bool) -> Result<()> {
    let wrong = check_queries();
    ensure!(wrong.is_empty(), "queries name what does not exist:\n{}", wrong.join("\n"));
    let mut stale = Vec::new();
    for (path, text) in made()? {
        let at = shell::root().join(path);
        if fs::read_to_string(&at).unwrap_or_default() == text {
            continue;
        }
        if check {
            stale.push(path);
        } else {
            if let Some(folder) = at.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::write(&at, text).with_context(|| format!("{path} cannot be written"))?;
            println!("made {path}");
        }
    }
    ensure!(stale.is_empty(), "run `cargo xtask dashboards`: {} would change", stale.join(", "));
    Ok(())
}

/// What is checked, and how.
type Check = (&'static str, fn() -> Result<()>);

/// Checks the definitions, what was made of them, and that Prometheus takes it: how many checks passed and failed.
pub(crate) fn test() -> Result<(u64, u64)> {
    let checks: [Check; 4] = [
        ("what is checked in is what the definitions make", || run(true)),
        ("Prometheus takes the rules", || promtool(&["check", "rules", "rules.yml"])),
        ("the rules fire when they should", || promtool(&["test", "rules", RULES_TEST])),
        ("Prometheus takes the queries of the board and of the runbook", check_as_rules),
    ];
    let (mut passed, mut failed) = (0, 0);
    for (what, check) in checks {
        match check() {
            Ok(()) => {
                println!("ok      {what}");
                passed += 1;
            }
            Err(e) => {
                println!("FAILED  {what}: {e:#}");
                failed += 1;
            }
        }
    }
    Ok((passed, failed))
}

/// The files by their paths.
fn made() -> Result<Vec<(&'static str, String)>> {
    let catalog = format!(
        "# Metrics\n\nEvery metric of `/metrics` on the admin port, as `groundplane catalog` prints it (made by `cargo xtask \
         dashboards`). Labels\ncome from closed sets: a process never shows more than 20,000 series, whatever callers send.\n\n{}",
        catalog::markdown()
    );
    let board = serde_json::to_string_pretty(&board())? + "\n";
    Ok(vec![(RULES, rules()), (BOARD, board), (RUNBOOK, runbook()), (CATALOG, catalog)])
}

// --- Queries ---------------------------------------------------------------------------------------------------------

/// Everything that is asked of Prometheus, with where it stands.
fn queries() -> Vec<(String, &'static str)> {
    let mut all = Vec::new();
    for it in RECORDED {
        all.push((it.name.to_owned(), it.expr));
    }
    for it in ALERTS {
        all.push((it.name.to_owned(), it.expr));
        for (part, query) in [("who", it.who), ("what", it.what), ("where", it.place)] {
            all.push((format!("{} ({part})", it.name), query));
        }
    }
    for panel in ROWS.iter().flat_map(|row| row.panels) {
        all.extend(panel.queries.iter().map(|(query, _)| (panel.title.to_owned(), *query)));
    }
    all.extend(MARKS.iter().map(|(name, query)| ((*name).to_owned(), *query)));
    all
}

/// What is wrong with the queries and with the texts of alerts.
fn check_queries() -> Vec<String> {
    let mut wrong = Vec::new();
    for (place, query) in queries() {
        wrong.extend(check_query(query).into_iter().map(|why| format!("{place}: {why}")));
    }
    for alert in ALERTS {
        let labels = labels_of(alert.expr);
        for used in alert.summary.split("$labels.").skip(1) {
            let label: String = used.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            if !labels.contains(&label) {
                wrong.push(format!("{}: its summary shows {label}, which its query has not", alert.name));
            }
        }
    }
    wrong
}

/// Labels that the answer to a query may have.
fn labels_of(query: &str) -> Vec<String> {
    let named = promql::named(query);
    let of_metrics = named.metrics.iter().filter_map(|(name, _)| metric(name)).flat_map(|it| it.labels.iter().copied());
    let of_metrics = of_metrics.map(str::to_owned);
    if named.grouping.is_empty() || query.contains(" on (") {
        of_metrics.chain(TARGET_LABELS.iter().map(|l| (*l).to_owned())).chain(named.grouping.clone()).collect()
    } else {
        named.grouping
    }
}

fn metric(name: &str) -> Option<&'static Listed> {
    catalog::ALL.iter().find(|it| it.series().iter().any(|series| series == name))
}

fn check_query(query: &str) -> Vec<String> {
    let named = promql::named(query);
    let mut wrong = Vec::new();
    let mut known: Vec<&str> = TARGET_LABELS.to_vec();
    for (name, matchers) in &named.metrics {
        if name == "up" || RECORDED.iter().any(|it| it.name == name) {
            continue;
        }
        let Some(listed) = metric(name) else {
            wrong.push(format!("there is no metric {name}"));
            continue;
        };
        known.extend(listed.labels);
        for (label, value) in matchers {
            if !listed.labels.contains(&label.as_str()) && !TARGET_LABELS.contains(&label.as_str()) {
                wrong.push(format!("{name} has no label {label}"));
            } else if CLOSED_LABELS.contains(&label.as_str()) && listed.labels.contains(&label.as_str()) {
                let values = catalog::values_of(label).unwrap_or_default();
                let closed: Vec<&str> = values.split(", ").collect();
                for value in value.split('|').filter(|value| !closed.contains(value)) {
                    wrong.push(format!("{label} of {name} is never {value}"));
                }
            }
        }
    }
    if named.metrics.is_empty() {
        wrong.push("it names no metric".into());
    }
    for label in named.grouping {
        if !known.contains(&label.as_str()) {
            wrong.push(format!("no metric in it has a label {label}"));
        }
    }
    wrong
}

/// Lets Prometheus read the queries that are no rules.
fn check_as_rules() -> Result<()> {
    let mut text = String::from("groups:\n- name: queries\n  rules:\n");
    for (at, (_, query)) in queries().into_iter().enumerate() {
        // Grafana fills this in.
        let query = query.replace("$__rate_interval", "1m");
        writeln!(text, "  - record: query:{at}\n    expr: {}", quoted(&query))?;
    }
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("queries.yml");
    fs::write(&path, text)?;
    promtool(&["check", "rules", &path.display().to_string()])
}

/// Runs Prometheus's tool in the folder of the rules.
fn promtool(arguments: &[&str]) -> Result<()> {
    install_prometheus()?;
    let done = Command::new("promtool").args(arguments).current_dir(shell::root().join("dashboards")).output()?;
    if !done.status.success() {
        bail!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    }
    Ok(())
}

/// Installs Debian's Prometheus unless it is there.
pub(crate) fn install_prometheus() -> Result<()> {
    let there = |program: &str| Path::new("/usr/bin").join(program).exists();
    if there("prometheus") && there("promtool") { Ok(()) } else { apt_install(&["prometheus"]) }
}

// --- What is made ----------------------------------------------------------------------------------------------------

/// A text that YAML and JSON read alike.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn block(text: &str, indent: &str) -> String {
    text.lines().map(|line| format!("\n{indent}{line}")).collect()
}

fn rules() -> String {
    let mut out = String::from(
        "# Rules for Prometheus. Made by `cargo xtask dashboards` from xtask/src/dashboards/alerts.rs; change them there.\n\
         # Targets have the job name `groundplane`; several sites have a label `region`.\ngroups:\n- name: groundplane-budget\n  \
         interval: 30s\n  rules:\n",
    );
    for it in RECORDED {
        out += &format!("  - record: {}\n    expr: |-{}\n", it.name, block(it.expr, "      "));
    }
    out += "- name: groundplane\n  rules:\n";
    for it in ALERTS {
        out += &format!("  - alert: {}\n    expr: |-{}\n", it.name, block(it.expr, "      "));
        if !it.hold.is_empty() {
            out += &format!("    for: {}\n", it.hold);
        }
        out += &format!("    labels:\n      severity: {}\n      cause: {}\n", it.severity.name(), quoted(it.cause));
        out += &format!("    annotations:\n      summary: {}\n", quoted(it.summary));
        out += &format!("      runbook_url: {RUNBOOK_URL}#{}\n", it.name.to_ascii_lowercase());
    }
    out
}

fn runbook() -> String {
    let mut out = String::from(
        "# Runbook\n\nA page for each alert of `dashboards/rules.yml`: what it means, what to do, and three queries that \
         find the culprit:\n*who* (the caller), *what* (the call and its size), *where* (the instance, the region). Made by \
         `cargo xtask dashboards` from\n`xtask/src/dashboards/alerts.rs`; change it there.\n\nWithout Prometheus the same \
         answers are on the page at `/` of the admin port: \"Who and how big\" and \"Heaviest calls\".\n\n",
    );
    out += "| Alert | Severity | Cause |\n|---|---|---|\n";
    for it in ALERTS {
        out +=
            &format!("| [{}](#{}) | {} | {} |\n", it.name, it.name.to_ascii_lowercase(), it.severity.name(), it.cause);
    }
    for it in ALERTS {
        out += &page(it);
    }
    out
}

fn page(it: &Alert) -> String {
    let hold = if it.hold.is_empty() { "at once".to_owned() } else { format!("after {}", it.hold) };
    format!(
        "\n## {}\n\n{}, {hold}.\n\n```promql\n{}\n```\n\n{}\n\n**Do.** {}\n\nWho:\n\n```promql\n{}\n```\n\nWhat:\n\n```promql\n{}\n```\n\n\
         Where:\n\n```promql\n{}\n```\n",
        it.name,
        capital(it.severity.name()),
        it.expr,
        it.means,
        it.act,
        it.who,
        it.what,
        it.place
    )
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// Columns of the board, and the size of a panel on it.
const COLUMNS: usize = 24;
const PANEL_WIDTH: usize = 8;
const PANEL_HEIGHT: usize = 8;

fn board() -> Value {
    let source = json!({ "type": "prometheus", "uid": "${datasource}" });
    let (mut panels, mut y, mut id) = (Vec::new(), 0, 0);
    for row in ROWS {
        id += 1;
        panels.push(json!({
            "id": id, "type": "row", "title": row.title, "collapsed": false, "panels": [],
            "gridPos": { "h": 1, "w": COLUMNS, "x": 0, "y": y },
        }));
        y += 1;
        for (at, panel) in row.panels.iter().enumerate() {
            id += 1;
            let (column, line) = (at % (COLUMNS / PANEL_WIDTH), at / (COLUMNS / PANEL_WIDTH));
            let place = json!({
                "h": PANEL_HEIGHT, "w": PANEL_WIDTH, "x": column * PANEL_WIDTH, "y": y + line * PANEL_HEIGHT,
            });
            panels.push(panel_json(panel, id, place, &source));
        }
        y += row.panels.len().div_ceil(COLUMNS / PANEL_WIDTH) * PANEL_HEIGHT;
    }
    let marks: Vec<Value> = MARKS
        .iter()
        .map(|(name, query)| json!({ "name": name, "datasource": source, "enable": true, "expr": query, "iconColor": "orange" }))
        .collect();
    json!({
        "title": "Groundplane",
        "uid": "groundplane",
        "tags": ["groundplane"],
        "description": "Made by `cargo xtask dashboards` from xtask/src/dashboards/panels.rs.",
        "schemaVersion": 39,
        "refresh": "10s",
        "time": { "from": "now-1h", "to": "now" },
        "graphTooltip": 1,
        "editable": true,
        "templating": { "list": [{ "name": "datasource", "type": "datasource", "query": "prometheus", "label": "Source" }] },
        "annotations": { "list": marks },
        "panels": panels,
    })
}

fn panel_json(panel: &Panel, id: usize, place: Value, source: &Value) -> Value {
    let is_table = matches!(panel.draw, Draw::Table);
    let targets: Vec<Value> = panel
        .queries
        .iter()
        .enumerate()
        .map(|(at, (query, legend))| {
            json!({
                "refId": char::from(b'A' + u8::try_from(at).unwrap_or(25)).to_string(),
                "datasource": source,
                "expr": query,
                "legendFormat": legend,
                "instant": is_table,
                "range": !is_table,
                "format": if is_table { "table" } else { "time_series" },
            })
        })
        .collect();
    let custom = match panel.draw {
        Draw::Stacked => {
            json!({ "fillOpacity": 30, "lineWidth": 1, "stacking": { "mode": "normal" }, "showPoints": "never" })
        }
        _ => json!({ "fillOpacity": 5, "lineWidth": 1, "showPoints": "never" }),
    };
    json!({
        "id": id,
        "type": if is_table { "table" } else { "timeseries" },
        "title": panel.title,
        "description": panel.about,
        "datasource": source,
        "gridPos": place,
        "targets": targets,
        "fieldConfig": {
            "defaults": { "unit": panel.unit, "min": 0, "custom": if is_table { json!({}) } else { custom } },
            "overrides": [],
        },
        "options": if is_table { json!({}) } else { json!({ "tooltip": { "mode": "multi", "sort": "desc" } }) },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_query_names_metrics_that_exist_with_labels_they_have() {
        assert_eq!(check_queries(), [""; 0]);
    }

    #[test]
    fn what_is_checked_in_is_what_the_definitions_make() {
        for (path, text) in made().unwrap() {
            let there = fs::read_to_string(shell::root().join(path)).unwrap_or_default();
            assert!(there == text, "{path} would change: run `cargo xtask dashboards`");
        }
    }

    #[test]
    fn a_query_that_names_what_does_not_exist_is_found() {
        let wrong = |query: &str| check_query(query).join("; ");
        assert_eq!(
            wrong("rate(groundplane_rpc_request_total[5m])"),
            "there is no metric groundplane_rpc_request_total"
        );
        assert_eq!(wrong("groundplane_store_limit{caller=\"x\"}"), "groundplane_store_limit has no label caller");
        assert_eq!(wrong("sum by (caler) (groundplane_rpc_inflight)"), "no metric in it has a label caler");
        assert_eq!(
            wrong("groundplane_rpc_first_seen_total{size_class=~\"1k_5k|5kplus\"}"),
            "size_class of groundplane_rpc_first_seen_total is never 5kplus"
        );
        assert_eq!(wrong("time()"), "it names no metric");
    }

    #[test]
    fn alerts_have_names_of_their_own_and_all_of_their_page() {
        let mut names: Vec<&str> = ALERTS.iter().map(|it| it.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALERTS.len());
        for it in ALERTS {
            let texts = [it.cause, it.expr, it.summary, it.means, it.act, it.who, it.what, it.place];
            assert!(texts.iter().all(|text| !text.is_empty()), "{}", it.name);
        }
    }
}
