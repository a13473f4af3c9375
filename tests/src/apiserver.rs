//! Pods in; lists and watches of them out, as the API server of a Kubernetes cluster tells them, over plain HTTP.
//!
//! It tells as kube-apiserver 1.20 did when its exchanges were recorded (`fixtures/kubernetes`): lists by node, with
//! pages, watches with a line for each event, bookmarks, and 410 for a state that was forgotten. It can be in trouble: refuse, break off in the middle of a
//! line, fall silent, be slow, or not be there at all.

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::net::Shutdown;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use tachograph::clock::Clock as _;
use tachograph::clock::System;

/// Between two bookmarks; the real one takes about a minute.
const BOOKMARK: Duration = Duration::from_millis(100);
/// How long a condition is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// An API server, for as long as it is held.
#[derive(Debug)]
pub struct ApiServer {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    version: u64,
    pods: BTreeMap<String, Value>,
    /// What has happened, by the state that it led to.
    history: Vec<(u64, Value)>,
    /// The oldest state from which a watch can begin.
    forgotten: u64,
    /// Each request's target, in order.
    asked: Vec<String>,
    /// What the next requests get instead of an answer.
    refusals: Vec<u16>,
    page: Option<usize>,
    slow: Duration,
    silent: bool,
    /// Connections that are open.
    open: Vec<TcpStream>,
    /// Rises when open watches break.
    cut: u64,
    /// Rises when this place of listening is given up.
    listening: u64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let out = change(&mut self.lock());
        self.changed.notify_all();
        out
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.down();
    }
}

impl ApiServer {
    /// Listens, without a pod.
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let server = Self { port: listener.local_addr()?.port(), shared: Arc::default() };
        server.shared.change(|state| state.version = 100);
        server.listen(listener);
        Ok(server)
    }

    fn listen(&self, listener: TcpListener) {
        let shared = Arc::clone(&self.shared);
        let generation = shared.lock().listening;
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if shared.lock().listening != generation {
                    return;
                }
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || serve(&stream, &shared));
            }
        });
    }

    /// Writes a kubeconfig that leads here.
    pub fn kubeconfig(&self, path: &Path) -> Result<()> {
        let server = format!("http://127.0.0.1:{}", self.port);
        let file = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "it",
            "clusters": [{ "name": "it", "cluster": { "server": server } }],
            "users": [{ "name": "it", "user": { "token": "t" } }],
            "contexts": [{ "name": "it", "context": { "cluster": "it", "user": "it" } }],
        });
        std::fs::write(path, file.to_string()).context("the kubeconfig")
    }

    /// Creates a pod, or changes it.
    pub fn put(&self, mut pod: Value) {
        self.shared.change(|state| {
            state.version += 1;
            stamp(&mut pod, state.version);
            let uid = text(&pod, "/metadata/uid").unwrap_or_default().to_owned();
            let kind = if state.pods.contains_key(&uid) { "MODIFIED" } else { "ADDED" };
            state.pods.insert(uid, pod.clone());
            state.history.push((state.version, json!({ "type": kind, "object": pod })));
        });
    }

    /// Deletes a pod.
    pub fn delete(&self, uid: &str) {
        self.shared.change(|state| {
            let Some(mut pod) = state.pods.remove(uid) else { return };
            state.version += 1;
            stamp(&mut pod, state.version);
            state.history.push((state.version, json!({ "type": "DELETED", "object": pod })));
        });
    }

    /// Forgets what has happened: no watch can go on from before now.
    pub fn compact(&self) {
        self.shared.change(|state| {
            state.version += 1;
            state.forgotten = state.version;
            state.history.clear();
        });
    }

    /// The next requests are refused, one with each status; 200 is an answer.
    pub fn refuse(&self, statuses: &[u16]) {
        self.shared.change(|state| state.refusals.extend(statuses));
    }

    /// Lists come in pages of so many pods, each after a while.
    pub fn pages(&self, size: usize, after: Duration) {
        self.shared.change(|state| (state.page, state.slow) = (Some(size), after));
    }

    /// Watches say nothing any more, or speak again.
    pub fn silence(&self, silent: bool) {
        self.shared.change(|state| state.silent = silent);
    }

    /// Open watches break in the middle of a line.
    pub fn cut(&self) {
        self.shared.change(|state| state.cut += 1);
    }

    /// Nothing listens any more, and what was open is closed.
    pub fn down(&self) {
        let open = self.shared.change(|state| {
            state.listening += 1;
            std::mem::take(&mut state.open)
        });
        for stream in open {
            // One that the other side has closed is as closed.
            let _closed = stream.shutdown(Shutdown::Both);
        }
        // The thread that accepts looks after one more connection.
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
    }

    /// Listens again, at the same port.
    pub fn up(&self) -> Result<()> {
        let deadline = System.now().plus(PATIENCE);
        let listener = loop {
            match TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)) {
                Ok(listener) => break listener,
                Err(error) => ensure!(System.now() < deadline, "the port is not free: {error}"),
            }
            std::thread::sleep(BOOKMARK / 10);
        };
        self.listen(listener);
        Ok(())
    }

    /// The targets of all requests so far.
    pub fn asked(&self) -> Vec<String> {
        self.shared.lock().asked.clone()
    }
}

fn text<'a>(pod: &'a Value, at: &str) -> Option<&'a str> {
    pod.pointer(at).and_then(Value::as_str)
}

/// Which state of the cluster a pod is of.
fn stamp(pod: &mut Value, version: u64) {
    if let Some(Value::Object(metadata)) = pod.get_mut("metadata") {
        metadata.insert("resourceVersion".to_owned(), version.to_string().into());
    }
}

/// A pod of a Deployment, on a node, with one container that runs.
pub fn pod(uid: &str, node: &str, container: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "uid": uid, "name": format!("vllm-6c5f9b-{uid}"), "namespace": "serving",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": { "app.kubernetes.io/name": "vllm", "pod-template-hash": "6c5f9b", "secret": "no" },
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "vllm-6c5f9b", "uid": "rs",
                "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "spec": { "nodeName": node, "containers": [{ "name": "server", "image": "vllm/vllm-openai:v0.32.0" }] },
        "status": {
            "phase": "Running",
            "containerStatuses": [{
                "name": "server", "image": "docker.io/vllm/vllm-openai:v0.32.0",
                "imageID": "docker.io/vllm/vllm-openai@sha256:abcd",
                "containerID": format!("containerd://{container}"), "ready": true, "started": true, "restartCount": 0,
                "state": { "running": { "startedAt": "2026-01-01T00:00:01Z" } }, "lastState": {},
            }],
        },
    })
}

/// One request a connection, which is then closed, as any server may.
fn serve(stream: &TcpStream, shared: &Shared) -> Result<()> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let target = first.split(' ').nth(1).context("no request")?.to_owned();
    let query: BTreeMap<String, String> = target
        .split_once('?')
        .map_or("", |(_, query)| query)
        .split('&')
        .filter_map(|item| item.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.replace("%3D", "=").replace("%2C", ",")))
        .collect();
    let open = stream.try_clone()?;
    let refusal = shared.change(|state| {
        state.asked.push(target);
        state.open.push(open);
        (!state.refusals.is_empty()).then(|| state.refusals.remove(0)).filter(|status| *status != 200)
    });
    let verb = if query.contains_key("watch") { "watch" } else { "list" };
    match refusal {
        Some(code) => answer(stream, code, &status(code, verb)),
        None if verb == "watch" => watch(stream, shared, &query),
        None => list(stream, shared, &query),
    }
}

fn answer(mut stream: &TcpStream, code: u16, body: &Value) -> Result<()> {
    let text = body.to_string();
    let head = format!("HTTP/1.1 {code} It\r\nContent-Type: application/json\r\nConnection: close\r\n");
    write!(stream, "{head}Content-Length: {}\r\n\r\n{text}", text.len()).context("an answer")
}

/// What a real API server wrote, each with its status.
const RECORDED: [(u16, &str, &str); 5] = [
    (401, "", include_str!("../fixtures/kubernetes/unauthorized.json")),
    (403, "list", include_str!("../fixtures/kubernetes/list-forbidden.json")),
    (403, "watch", include_str!("../fixtures/kubernetes/watch-forbidden.json")),
    (410, "list", include_str!("../fixtures/kubernetes/list-expired.json")),
    (410, "watch", include_str!("../fixtures/kubernetes/watch-expired.jsonl")),
];

/// A `Status`, as it was recorded where it was.
fn status(code: u16, verb: &str) -> Value {
    let recorded = RECORDED.iter().find(|(known, of, _)| *known == code && (of.is_empty() || *of == verb));
    let recorded = recorded.and_then(|(.., text)| serde_json::from_str::<Value>(text).ok());
    // An event of a watch has it within.
    let recorded = recorded.map(|mut told| told.get_mut("object").map(Value::take).unwrap_or(told));
    recorded.unwrap_or_else(|| {
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "an error on the server has prevented the request from succeeding",
            "reason": "InternalError", "code": code,
        })
    })
}

fn fits(pod: &Value, query: &BTreeMap<String, String>) -> bool {
    let node = query.get("fieldSelector").and_then(|selector| selector.strip_prefix("spec.nodeName="));
    node.is_none() || text(pod, "/spec/nodeName") == node
}

fn list(stream: &TcpStream, shared: &Shared, query: &BTreeMap<String, String>) -> Result<()> {
    let (version, pods, size, slow) = {
        let state = shared.lock();
        let pods: Vec<Value> = state.pods.values().filter(|pod| fits(pod, query)).cloned().collect();
        (state.version, pods, state.page, state.slow)
    };
    std::thread::sleep(slow);
    let from: usize = query.get("continue").and_then(|token| token.parse().ok()).unwrap_or(0);
    let size = size.unwrap_or(pods.len().max(1));
    let more = (from + size < pods.len()).then(|| (from + size).to_string());
    let page: Vec<&Value> = pods.iter().skip(from).take(size).collect();
    let body = json!({
        "kind": "PodList", "apiVersion": "v1",
        "metadata": { "resourceVersion": version.to_string(), "continue": more.unwrap_or_default() },
        "items": page,
    });
    answer(stream, 200, &body)
}

fn watch(mut stream: &TcpStream, shared: &Shared, query: &BTreeMap<String, String>) -> Result<()> {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes())?;
    let mut at: u64 = query.get("resourceVersion").context("no version")?.parse()?;
    let mut say = |text: &str| write!(stream, "{:x}\r\n{text}\r\n", text.len()).context("a watch that was left");
    let cut = shared.lock().cut;
    loop {
        let state = shared.lock();
        let (state, _) = shared.changed.wait_timeout(state, BOOKMARK).unwrap_or_else(PoisonError::into_inner);
        let (silent, forgotten, version, is_cut) =
            (state.silent, at < state.forgotten, state.version, state.cut != cut);
        let fresh: Vec<(u64, Value)> = state.history.iter().filter(|(version, _)| *version > at).cloned().collect();
        drop(state);
        if is_cut {
            say("{\"type\":\"MODIFIED\",\"object\":{\"metadata\":{\"na")?;
            return stream.shutdown(Shutdown::Both).context("the cut");
        }
        if silent {
            continue;
        }
        if forgotten {
            say(&format!("{}\n", json!({ "type": "ERROR", "object": status(410, "watch") })))?;
            return stream.write_all(b"0\r\n\r\n").context("the end");
        }
        for (_, event) in fresh.iter().filter(|(_, event)| event.get("object").is_some_and(|pod| fits(pod, query))) {
            say(&format!("{event}\n"))?;
        }
        at = at.max(version);
        let mark = json!({
            "kind": "Pod", "apiVersion": "v1", "spec": { "containers": null }, "status": {},
            "metadata": { "resourceVersion": at.to_string(), "creationTimestamp": null },
        });
        say(&format!("{}\n", json!({ "type": "BOOKMARK", "object": mark })))?;
    }
}
