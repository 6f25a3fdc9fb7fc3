//! A real Chromium without a window, driven over its DevTools protocol: JSON with a zero byte after each message,
//! through two pipes.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_mins(1);

pub struct Browser {
    child: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    session: Option<String>,
    sent: u64,
    /// Errors that a page's script threw.
    pub thrown: Vec<Value>,
    _profile: TempDir,
}

impl Browser {
    /// Starts it; `None`, with a word, where it is not installed.
    pub fn start() -> Option<Self> {
        let there = Command::new("chromium").arg("--version").output().is_ok_and(|run| run.status.success());
        if !there {
            println!("not run: chromium is not installed (apt-get install chromium)");
            return None;
        }
        let profile = tempfile::tempdir().unwrap();
        let data = format!("--user-data-dir={}", profile.path().display());
        // The protocol's pipes are 3 and 4; a sandbox needs more rights than a container has.
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1", "sh", "chromium"])
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
                "--remote-debugging-pipe",
            ])
            .args([data.as_str(), "about:blank"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, out) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (send, from) = channel();
        std::thread::spawn(move || {
            for message in BufReader::new(out).split(0) {
                let Ok(message) = message else { return };
                if send.send(serde_json::from_slice(&message).unwrap()).is_err() {
                    return;
                }
            }
        });
        let mut browser =
            Self { child, to, from, session: None, sent: 0, thrown: Vec::new(), _profile: profile };
        let targets = browser.call("Target.getTargets", &json!({}));
        let page =
            targets["targetInfos"].as_array().unwrap().iter().find(|one| one["type"] == "page").unwrap();
        let attached =
            browser.call("Target.attachToTarget", &json!({ "targetId": page["targetId"], "flatten": true }));
        browser.session = Some(attached["sessionId"].as_str().unwrap().to_owned());
        browser.call("Page.enable", &json!({}));
        browser.call("Runtime.enable", &json!({}));
        browser.size(1366, 768, false);
        Some(browser)
    }

    pub fn call(&mut self, method: &str, params: &Value) -> Value {
        self.sent += 1;
        let mut message = json!({ "id": self.sent, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        self.to.write_all(format!("{message}\0").as_bytes()).unwrap();
        let began = Instant::now();
        loop {
            let left = PATIENCE.saturating_sub(began.elapsed());
            let mut answer = self.from.recv_timeout(left).unwrap_or_else(|why| panic!("{method}: {why}"));
            if answer["id"] == self.sent {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].take();
            }
            if answer["method"] == "Runtime.exceptionThrown" {
                self.thrown.push(answer["params"].take());
            }
        }
    }

    /// Opens a file and waits until all of it is there.
    pub fn open(&mut self, page: &Path) {
        self.call("Page.navigate", &json!({ "url": format!("file://{}", page.display()) }));
        self.until("document.readyState === 'complete' && location.protocol === 'file:'");
    }

    /// Opens the same page again.
    pub fn reload(&mut self) {
        self.js("window.before = true");
        self.call("Page.reload", &json!({}));
        self.until("!window.before && document.readyState === 'complete'");
    }

    /// What an expression, or a promise, comes to.
    pub fn js(&mut self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let mut answer = self.call("Runtime.evaluate", &params);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].take()
    }

    /// The text of the element with this id.
    pub fn text(&mut self, id: &str) -> String {
        self.js(&format!("document.getElementById('{id}').textContent")).as_str().unwrap().to_owned()
    }

    /// Waits until an expression holds.
    pub fn until(&mut self, expression: &str) {
        let began = Instant::now();
        while self.js(expression) != true {
            assert!(began.elapsed() < PATIENCE, "never: {expression}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Presses a key, named as in `KeyboardEvent.key`.
    pub fn key(&mut self, key: &str) {
        let text = if key == "Enter" {
            "\r"
        } else if key.chars().count() == 1 {
            key
        } else {
            ""
        };
        let kind = if text.is_empty() { "rawKeyDown" } else { "keyDown" };
        self.call("Input.dispatchKeyEvent", &json!({ "type": kind, "key": key, "text": text }));
        self.call("Input.dispatchKeyEvent", &json!({ "type": "keyUp", "key": key }));
    }

    /// Presses one key after the other.
    pub fn keys(&mut self, keys: &str) {
        for key in keys.chars() {
            self.key(&key.to_string());
        }
    }

    /// Clicks at a place of the window, px.
    pub fn click(&mut self, x: f64, y: f64) {
        for kind in ["mousePressed", "mouseReleased"] {
            let at = json!({ "type": kind, "x": x, "y": y, "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", &at);
        }
    }

    /// Presses the mouse at a place, and lets it go at another.
    pub fn drag(&mut self, from: (f64, f64), to: (f64, f64)) {
        for (kind, (x, y)) in [("mousePressed", from), ("mouseMoved", to), ("mouseReleased", to)] {
            let at = json!({ "type": kind, "x": x, "y": y, "button": "left", "buttons": 1, "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", &at);
        }
    }

    /// Moves a finger from one place to another.
    pub fn swipe(&mut self, from: (f64, f64), to: (f64, f64)) {
        for (kind, at) in [("touchStart", Some(from)), ("touchMove", Some(to)), ("touchEnd", None)] {
            let points: Vec<Value> = at.iter().map(|(x, y)| json!({ "x": x, "y": y })).collect();
            self.call("Input.dispatchTouchEvent", &json!({ "type": kind, "touchPoints": points }));
        }
    }

    /// A window of so many px; of a tablet, which is touched.
    pub fn size(&mut self, width: u32, height: u32, tablet: bool) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": tablet });
        self.call("Emulation.setDeviceMetricsOverride", &metrics);
        self.call("Emulation.setTouchEmulationEnabled", &json!({ "enabled": tablet }));
    }

    /// What the system says it likes: `dark` or `light`.
    pub fn prefer(&mut self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call("Emulation.setEmulatedMedia", &json!({ "features": features }));
    }

    /// Downloads go to this folder.
    pub fn download_to(&mut self, folder: &Path) {
        let params = json!({ "behavior": "allow", "downloadPath": folder });
        self.call("Browser.setDownloadBehavior", &params);
    }

    /// Gives a file to the page's file field, as a person does who chose it.
    pub fn choose_file(&mut self, field: &str, file: &Path) {
        let root = self.call("DOM.getDocument", &json!({}))["root"]["nodeId"].take();
        let field = self.call("DOM.querySelector", &json!({ "nodeId": root, "selector": field }));
        self.call("DOM.setFileInputFiles", &json!({ "nodeId": field["nodeId"], "files": [file] }));
    }

    /// Writes what is to be seen as PNG, where `REVIEW_PICTURES` names a folder for such pictures.
    pub fn picture(&mut self, name: &str) {
        let Ok(folder) = std::env::var("REVIEW_PICTURES") else { return };
        let answer = self.call("Page.captureScreenshot", &json!({ "format": "png" }));
        let path = Path::new(&folder).join(name);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(path, from_base64(answer["data"].as_str().unwrap())).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn from_base64(text: &str) -> Vec<u8> {
    let digit = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u8> = text.bytes().filter(|c| *c != b'=').map(digit).collect();
    let group = |four: &[u8]| {
        let bits = (0..4).fold(0u32, |bits, k| bits << 6 | u32::from(four.get(k).copied().unwrap_or(0)));
        bits.to_be_bytes()[1..four.len()].to_vec()
    };
    digits.chunks(4).flat_map(group).collect()
}
