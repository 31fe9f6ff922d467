//! What a query names: metrics, and labels of them. As much of the language as that takes.

/// What a query names.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Named {
    /// Metrics, each with the labels it is matched by and the values they are compared with.
    pub(super) metrics: Vec<(String, Vec<(String, String)>)>,
    /// Labels that results are grouped or joined by.
    pub(super) grouping: Vec<String>,
}

/// Words before a list of labels.
const BEFORE_LABELS: &[&str] = &["by", "without", "on", "ignoring", "group_left", "group_right"];
/// Functions that may have their labels before what they are of.
const AGGREGATIONS: &[&str] =
    &["sum", "min", "max", "avg", "count", "group", "stddev", "stdvar", "topk", "bottomk", "quantile", "count_values"];
/// Words that are neither a metric nor a function.
const WORDS: &[&str] = &["and", "or", "unless", "bool", "offset", "inf", "nan"];

/// Reads a query. Whether it is well-formed is Prometheus's to say.
pub(super) fn named(query: &str) -> Named {
    let mut named = Named::default();
    let mut rest = query;
    while let Some(first) = rest.chars().next() {
        if first == '"' || first == '\'' {
            rest = &rest[quoted(rest)..];
        } else if first.is_ascii_digit() {
            // A number or a time, with its unit.
            rest = rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '.');
        } else if first == '[' {
            rest = rest.find(']').map_or("", |end| &rest[end + 1..]);
        } else if is_word(first) {
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            rest = after.trim_start();
            if BEFORE_LABELS.contains(&word) {
                if let Some((labels, after)) = rest.strip_prefix('(').and_then(|list| list.split_once(')')) {
                    named
                        .grouping
                        .extend(labels.split(',').map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned));
                    rest = after;
                }
            } else if !WORDS.contains(&word) && !AGGREGATIONS.contains(&word) && !rest.starts_with('(') {
                let mut matchers = Vec::new();
                if let Some(inside) = rest.strip_prefix('{') {
                    rest = matched(inside, &mut matchers);
                }
                named.metrics.push((word.to_owned(), matchers));
            }
        } else {
            rest = &rest[first.len_utf8()..];
        }
    }
    named
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

/// The length of a quoted text at the beginning, its quotes included.
fn quoted(text: &str) -> usize {
    let quote = text.chars().next().unwrap_or('"');
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if c == quote && !escaped {
            return at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    text.len()
}

/// Reads matchers up to the closing brace; answers what follows.
fn matched<'a>(mut rest: &'a str, matchers: &mut Vec<(String, String)>) -> &'a str {
    loop {
        rest = rest.trim_start_matches([',', ' ', '\n']);
        if rest.is_empty() {
            return rest;
        }
        if let Some(after) = rest.strip_prefix('}') {
            return after;
        }
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len()).max(1).min(rest.len());
        let (label, after) = rest.split_at(end);
        rest = after.trim_start_matches(['=', '!', '~', ' ']);
        let value = quoted(rest);
        matchers.push((label.to_owned(), rest[..value].trim_matches(['"', '\'']).to_owned()));
        rest = &rest[value..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_and_labels_are_found_in_every_place() {
        let query = r#"topk(5, sum by (caller, rpc) (rate(a_total{code=~"OK|X}", rpc="say \"a\""}[5m] offset 1d)))
            > on (instance) group_left () 0.5 * b:c:d unless e_max > bool 1e3 or time() - f"#;
        let named = named(query);
        let metric = |name: &str, labels: &[(&str, &str)]| {
            (name.to_owned(), labels.iter().map(|(l, v)| ((*l).to_owned(), (*v).to_owned())).collect::<Vec<_>>())
        };
        assert_eq!(
            named.metrics,
            [
                metric("a_total", &[("code", "OK|X}"), ("rpc", r#"say \"a\"#)]),
                metric("b:c:d", &[]),
                metric("e_max", &[]),
                metric("f", &[]),
            ]
        );
        assert_eq!(named.grouping, ["caller", "rpc", "instance"]);
    }
}
