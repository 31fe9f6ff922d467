//! Compares our verdicts on records with somebody else's.
//!
//! Reads a file of JSON lines as written by `e2e/validation/generate.mjs` and prints each case on which we disagree.
//! Ends with an error if there are any.
//!
//! ```text
//! cargo run -p groundplane-atproto --example validate_jsonl -- cases.jsonl
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::{
    fs::File,
    io::{BufRead, BufReader},
    process::ExitCode,
    time::{Duration, Instant},
};

use groundplane_atproto::{cbor, json, lexicon, multibase};

/// Differences printed in full; the rest is only counted.
const PRINTED_MAX: usize = 40;

fn main() -> ExitCode {
    let Some(path) = std::env::args().nth(1) else {
        eprintln!("usage: validate_jsonl <cases.jsonl>");
        return ExitCode::from(2);
    };
    let file = match File::open(&path) {
        Ok(file) => BufReader::new(file),
        Err(error) => {
            eprintln!("{path}: {error}");
            return ExitCode::from(2);
        }
    };
    let (mut cases, mut valid, mut different) = (0usize, 0usize, 0usize);
    let mut spent = Duration::ZERO;
    for line in file.lines() {
        let line = line.expect("the file is text");
        let case: serde_json::Value = serde_json::from_str(&line).expect("each line is JSON");
        let collection = case["collection"].as_str().expect("each case names its collection");
        let bytes = match case["cbor"].as_str() {
            Some(hex) => multibase::hex_decode(hex).ok_or_else(|| "not hex".to_owned()),
            None => json::to_cbor(&case["record"]).map_err(|error| error.to_string()),
        };
        let theirs = case["ok"] == true;
        cases += 1;
        valid += usize::from(theirs);
        let ours = bytes.and_then(|bytes| {
            let record = cbor::decode(&bytes).map_err(|error| format!("undecodable: {error}"))?;
            let start = Instant::now();
            let verdict = lexicon::validate(collection, &record);
            spent += start.elapsed();
            verdict.map_err(|invalid| invalid.to_string())
        });
        if ours.is_ok() != theirs {
            different += 1;
            if different <= PRINTED_MAX {
                let shown: String = line.chars().take(600).collect();
                println!("theirs {theirs}, ours {ours:?}\n  {shown}");
            }
        }
    }
    println!("{cases} cases, {valid} valid, {different} differences, {spent:.1?} in validation");
    ExitCode::from(u8::from(different > 0))
}
