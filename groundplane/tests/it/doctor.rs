//! `groundplane doctor`, against upstreams that are well, wrong or not there.

use std::{
    io::{Read, Write},
    net::TcpListener,
    process::{Command, Output},
};

/// A host that answers every request with this date.
fn host(date: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut stream = stream;
            let mut request = Vec::new();
            let mut some = [0; 1_024];
            while !request.windows(4).any(|it| it == b"\r\n\r\n") {
                match stream.read(&mut some) {
                    Ok(0) | Err(_) => break,
                    Ok(n) => request.extend_from_slice(&some[..n]),
                }
            }
            let answer =
                format!("HTTP/1.1 404 Not Found\r\ndate: {date}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    address.to_string()
}

/// An address that nobody listens on.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// Asks with these settings, and answers the lines by what they are about.
fn doctor(arguments: &[String]) -> (Output, impl Fn(&str) -> String + use<>) {
    let output = Command::new(env!("CARGO_BIN_EXE_groundplane"))
        .arg("doctor")
        .args(["--listen", &nobody(), "--admin-listen", &nobody()])
        .args(arguments)
        .env_clear()
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout.clone()).unwrap();
    let line = move |about: &str| {
        let found = said.lines().find(|line| line.get(8..).is_some_and(|rest| rest.starts_with(about)));
        found.unwrap_or_else(|| panic!("nothing about {about} in\n{said}")).to_owned()
    };
    (output, line)
}

#[test]
fn those_who_answer_are_well_and_who_does_not_is_named() {
    let (well, gone) = (host("Thu, 26 Nov 2026 00:00:00 GMT"), nobody());
    let dir = tempfile::tempdir().unwrap();
    let arguments = [
        format!("--data-dir={}", dir.path().display()),
        format!("--relay-url=ws://{well}"),
        format!("--plc-url=http://{well}"),
        format!("--labeler-url=ws://{gone}"),
        format!("--otlp-url=http://{well}"),
    ];
    let (output, line) = doctor(&arguments);
    for about in ["settings", "relay", "directory", "traces", "--listen"] {
        assert!(line(about).starts_with("ok"), "{}", line(about));
    }
    let labeler = line("labeler");
    assert!(labeler.starts_with("MUST") && labeler.contains(&gone) && labeler.contains("does not answer"), "{labeler}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_clock_that_is_wrong_is_found_by_asking_others() {
    let (past, dir) = (host("Thu, 01 Jan 2015 00:00:00 GMT"), tempfile::tempdir().unwrap());
    let arguments = [
        format!("--data-dir={}", dir.path().display()),
        format!("--relay-url=ws://{past}"),
        format!("--plc-url=http://{past}"),
    ];
    let (output, line) = doctor(&arguments);
    assert!(line("clock").starts_with("MUST") && line("clock").contains("timedatectl"), "{}", line("clock"));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn settings_that_cannot_be_served_with_are_a_finding_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = [format!("--data-dir={}", dir.path().display()), "--relay-start=yesterday".to_owned()];
    let (output, line) = doctor(&arguments);
    assert!(line("settings").starts_with("MUST") && line("settings").contains("--relay-start"));
    assert!(line("disk").contains("free for"), "the rest is looked at all the same");
    assert_eq!(output.status.code(), Some(1));
}

/// The exit code says the same as the lines do.
#[test]
fn the_exit_code_is_that_of_the_worst_line() {
    let dir = tempfile::tempdir().unwrap();
    let (output, line) = doctor(&[format!("--data-dir={}", dir.path().display())]);
    assert!(line("upstreams").starts_with("should"), "{}", line("upstreams"));
    let said = String::from_utf8_lossy(&output.stdout);
    let must = said.lines().any(|line| line.starts_with("MUST"));
    assert_eq!(output.status.code(), Some(i32::from(must)), "{said}");
}
