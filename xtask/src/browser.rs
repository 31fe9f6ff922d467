//! A headless Chromium, Debian's, spoken to over its own protocol.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, tungstenite::Message};

use crate::{planes::Supervised, postgres::apt_install};

/// How long anything may take that a page is asked.
const ANSWER_MAX: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(50);

const FLAGS: &[&str] = &[
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--remote-debugging-port=0",
];

/// A browser with one page.
pub(crate) struct Browser {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    session: Option<String>,
    calls: u64,
    /// What the page told of by itself, in order.
    pub(crate) events: Vec<Value>,
    _folder: tempfile::TempDir,
    _program: Supervised,
}

impl Browser {
    /// Installs Chromium unless it is there, and starts it.
    pub(crate) async fn start() -> Result<Self> {
        if !Path::new("/usr/bin/chromium").exists() {
            apt_install(&["chromium"])?;
        }
        let folder = tempfile::tempdir()?;
        let profile = folder.path().join("profile");
        let mut arguments: Vec<String> = FLAGS.iter().map(|it| (*it).to_owned()).collect();
        arguments.push(format!("--user-data-dir={}", profile.display()));
        arguments.push("about:blank".to_owned());
        let log = folder.path().join("log");
        let program = Supervised::start("/usr/bin/chromium", &arguments, &log)?;
        let begun = Instant::now();
        let url = loop {
            let told = fs::read_to_string(profile.join("DevToolsActivePort")).unwrap_or_default();
            if let Some((port, path)) = told.split_once('\n') {
                break format!("ws://127.0.0.1:{port}{}", path.trim());
            }
            if begun.elapsed() > ANSWER_MAX {
                bail!("Chromium does not start:\n{}", fs::read_to_string(log).unwrap_or_default());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        };
        let (socket, _) = tokio_tungstenite::connect_async(url).await.context("Chromium does not listen")?;
        let mut browser =
            Self { socket, session: None, calls: 0, events: Vec::new(), _folder: folder, _program: program };
        let page = browser.call("Target.createTarget", json!({ "url": "about:blank" })).await?;
        let attach = json!({ "targetId": page["targetId"], "flatten": true });
        let attached = browser.call("Target.attachToTarget", attach).await?;
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for part in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{part}.enable"), json!({})).await?;
        }
        Ok(browser)
    }

    /// Makes a call of the protocol.
    pub(crate) async fn call(&mut self, method: &str, parameters: Value) -> Result<Value> {
        self.calls += 1;
        let id = self.calls;
        let mut call = json!({ "id": id, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            call["sessionId"] = session.as_str().into();
        }
        self.socket.send(Message::text(call.to_string())).await?;
        let answered = async {
            loop {
                let said = self.socket.next().await.context("Chromium has gone")??;
                let Message::Text(text) = said else { continue };
                let said: Value = serde_json::from_str(&text)?;
                if said["id"] != id {
                    self.events.push(said);
                } else if said["error"].is_null() {
                    return Ok::<_, anyhow::Error>(said["result"].clone());
                } else {
                    bail!("{method}: {}", said["error"]);
                }
            }
        };
        tokio::time::timeout(ANSWER_MAX, answered).await.with_context(|| format!("{method} is not answered"))?
    }

    /// The value of an expression in the page.
    pub(crate) async fn eval(&mut self, expression: &str) -> Result<Value> {
        let ask = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.call("Runtime.evaluate", ask).await?;
        if !answer["exceptionDetails"].is_null() {
            bail!("{expression}: {}", answer["exceptionDetails"]);
        }
        Ok(answer["result"]["value"].clone())
    }

    /// Waits until an expression is true.
    pub(crate) async fn until(&mut self, expression: &str) -> Result<()> {
        let begun = Instant::now();
        while self.eval(expression).await? != true {
            if begun.elapsed() > ANSWER_MAX {
                let page = self.eval("document.body.innerText.slice(0, 2000)").await?;
                bail!("waited {} s until {expression}\n{}", ANSWER_MAX.as_secs(), page.as_str().unwrap_or_default());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Goes to an address, as if for the first time.
    pub(crate) async fn open(&mut self, url: &str) -> Result<()> {
        self.call("Network.clearBrowserCache", json!({})).await?;
        self.call("Page.navigate", json!({ "url": url })).await?;
        self.until(&format!("location.href === {} && document.readyState === 'complete'", json!(url))).await
    }

    /// Width, height, and whether the page is to be dark.
    pub(crate) async fn look(&mut self, width: u32, height: u32, dark: bool) -> Result<()> {
        let phone = width < 600;
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": if phone { 2 } else { 1 }, "mobile": phone });
        self.call("Emulation.setDeviceMetricsOverride", metrics).await?;
        let scheme = json!([{ "name": "prefers-color-scheme", "value": if dark { "dark" } else { "light" } }]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": scheme })).await?;
        Ok(())
    }

    /// Presses and lets go a key.
    pub(crate) async fn press(&mut self, key: &str) -> Result<()> {
        for kind in ["rawKeyDown", "keyUp"] {
            let code = match key {
                "Tab" => 9,
                "Enter" => 13,
                "ArrowLeft" => 37,
                _ => 0,
            };
            let event = json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code });
            self.call("Input.dispatchKeyEvent", event).await?;
        }
        Ok(())
    }

    /// Keeps a picture of the whole page.
    pub(crate) async fn picture(&mut self, path: &Path) -> Result<()> {
        let answer = self.call("Page.captureScreenshot", json!({ "captureBeyondViewport": true })).await?;
        let data = answer["data"].as_str().context("no picture")?;
        fs::write(path, base64::engine::general_purpose::STANDARD.decode(data)?)?;
        Ok(())
    }

    /// Complaints of the page and of the browser about it.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let complaint = |event: &Value| {
            let told = &event["params"];
            match event["method"].as_str()? {
                "Runtime.exceptionThrown" => Some(told["exceptionDetails"].to_string()),
                "Runtime.consoleAPICalled" if told["type"] == "error" || told["type"] == "warning" => {
                    Some(told["args"].to_string())
                }
                "Log.entryAdded" if told["entry"]["level"] == "error" => Some(told["entry"].to_string()),
                _ => None,
            }
        };
        self.events.iter().filter_map(complaint).collect()
    }

    /// Everything the page asked for.
    pub(crate) fn requests(&self) -> Vec<String> {
        let request = |event: &Value| {
            (event["method"] == "Network.requestWillBeSent")
                .then(|| event["params"]["request"]["url"].as_str().unwrap_or_default().to_owned())
        };
        self.events.iter().filter_map(request).collect()
    }
}
