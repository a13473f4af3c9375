//! The same at a real API server, over TLS: kube-apiserver and etcd, from the folder that `TACHOGRAPH_KUBERNETES_BIN` names.
//! No registry has them; where the variable is not set this is left out, and says so.

use crate::cluster::PATIENCE;
use agent_tests::apiserver::pod;
use agent_tests::http;
use agent_tests::process::Running;
use agent_tests::scratch::Scratch;
use anyhow::Result;
use anyhow::ensure;
use serde_json::Value;
use serde_json::json;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tachograph::clock::System;
use tachograph::cluster;
use tachograph::cluster::Asked;
use tachograph::cluster::Config;
use tachograph::cluster::State;
use tachograph::cluster::labels::List;
use tachograph::vitals::Vitals;
use tokio::sync::watch;

const START: Duration = Duration::from_secs(90);
const NODE: &str = "gpu-1";
const TOKENS: &str = "admin,admin,admin,\"system:masters\"\nagent,agent,agent\n";
const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
const PODS: &str = "/api/v1/namespaces/default/pods";

/// The two programs, running.
struct Cluster {
    folder: PathBuf,
    scratch: Scratch,
    ports: [u16; 3],
    _etcd: Running,
    server: Running,
}

impl Cluster {
    fn start(folder: PathBuf) -> Result<Self> {
        let scratch = Scratch::new("kubernetes")?;
        std::fs::write(scratch.file("tokens"), TOKENS)?;
        let key = scratch.file("key");
        ensure!(Command::new("openssl").args(["genrsa", "-out"]).arg(&key).output()?.status.success(), "a key");
        let ports = [http::free_port()?, http::free_port()?, http::free_port()?];
        let [client, peer] = [ports[0], ports[1]].map(|port| format!("http://127.0.0.1:{port}"));
        let mut etcd = Command::new(folder.join("etcd"));
        etcd.arg("--data-dir").arg(scratch.file("etcd"));
        etcd.args(["--listen-client-urls", &client, "--advertise-client-urls", &client, "--listen-peer-urls", &peer]);
        etcd.args(["--initial-advertise-peer-urls", &peer, "--initial-cluster", &format!("default={peer}")]);
        let etcd = Running::start("etcd", &mut etcd, scratch.file("etcd.log"))?;
        let server = serve(&folder, &scratch, ports)?;
        let mut cluster = Self { folder, scratch, ports, _etcd: etcd, server };
        cluster.until_ready()?;
        Ok(cluster)
    }

    fn until_ready(&mut self) -> Result<()> {
        let Self { server, scratch, ports, .. } = self;
        let ready = || curl(scratch, ports[2], "/readyz").output().is_ok_and(|output| output.stdout == b"ok");
        server.until_ready(START, ready)
    }

    fn api(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let mut curl = curl(&self.scratch, self.ports[2], path);
        curl.args(["-X", method, "-H", "Content-Type: application/json", "-d", &body.to_string()]);
        let answer: Value = serde_json::from_slice(&curl.output()?.stdout)?;
        ensure!(answer["status"] != "Failure", "{method} {path}: {answer}");
        Ok(answer)
    }

    /// What the agent may do with pods.
    fn allow(&self, verbs: &[&str]) -> Result<()> {
        let rules = json!([{ "apiGroups": [""], "resources": ["pods"], "verbs": verbs }]);
        let role = json!({ "metadata": { "name": "agent" }, "rules": rules });
        self.api("PUT", &format!("{ROLES}/agent"), &role).map(drop)
    }

    fn config(&self) -> Result<Config> {
        let file = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "it",
            "clusters": [{ "name": "it", "cluster": {
                "server": format!("https://127.0.0.1:{}", self.ports[2]),
                "certificate-authority": self.scratch.file("certs/apiserver.crt"),
            } }],
            "users": [{ "name": "it", "user": { "token": "agent" } }],
            "contexts": [{ "name": "it", "context": { "cluster": "it", "user": "it" } }],
        });
        let path = self.scratch.file("kubeconfig");
        std::fs::write(&path, file.to_string())?;
        let pause = (Duration::from_millis(20), Duration::from_millis(200));
        Ok(Config { pause, ..Config::new(NODE.to_owned(), List::default(), Some(path)) })
    }
}

fn serve(folder: &std::path::Path, scratch: &Scratch, ports: [u16; 3]) -> Result<Running> {
    let mut server = Command::new(folder.join("kube-apiserver"));
    server.args(["--etcd-servers", &format!("http://127.0.0.1:{}", ports[0]), "--bind-address", "127.0.0.1"]);
    server.args(["--secure-port", &ports[2].to_string(), "--authorization-mode", "RBAC"]);
    server.args([
        "--service-cluster-ip-range",
        "10.96.0.0/24",
        "--service-account-issuer",
        "https://kubernetes.default.svc",
    ]);
    server.args(["--disable-admission-plugins", "ServiceAccount,TaintNodesByCondition"]);
    // A build without OpenAPI cannot apply on the server's side.
    server.args(std::env::var("TACHOGRAPH_KUBERNETES_GATES").map(|gates| format!("--feature-gates={gates}")).iter());
    for (flag, file) in [
        ("--cert-dir", "certs"),
        ("--token-auth-file", "tokens"),
        ("--service-account-key-file", "key"),
        ("--service-account-signing-key-file", "key"),
    ] {
        server.arg(flag).arg(scratch.file(file));
    }
    Running::start("kube-apiserver", &mut server, scratch.file("apiserver.log"))
}

fn curl(scratch: &Scratch, port: u16, path: &str) -> Command {
    let mut curl = Command::new("curl");
    curl.args(["-s", "-H", "Authorization: Bearer admin", "--cacert"]).arg(scratch.file("certs/apiserver.crt"));
    curl.arg(format!("https://127.0.0.1:{port}{path}"));
    curl
}

#[test]
fn a_real_api_server_is_followed() -> Result<()> {
    let Some(folder) = std::env::var_os("TACHOGRAPH_KUBERNETES_BIN").map(PathBuf::from) else {
        println!("left out: TACHOGRAPH_KUBERNETES_BIN names no folder with etcd and kube-apiserver");
        return Ok(());
    };
    let mut cluster = Cluster::start(folder)?;
    let config = cluster.config()?;
    let role = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "agent" });
    let binding =
        json!({ "metadata": { "name": "agent" }, "roleRef": role, "subjects": [{ "kind": "User", "name": "agent" }] });
    cluster.api("POST", ROLES, &json!({ "metadata": { "name": "agent" } }))?;
    cluster.api("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", &binding)?;
    for (verbs, says) in [(&["get"][..], "cannot list resource"), (&["get", "list"], "cannot watch resource")] {
        cluster.allow(verbs)?;
        // A rule takes a moment to count.
        let mut error = String::new();
        for _ in 0..100 {
            error = cluster::once(&config).map_or_else(|error| error.to_string(), |pods| pods.to_string());
            if error.contains(says) {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(error.contains(says), "{error}");
    }
    cluster.allow(&["get", "list", "watch"])?;

    let (tell, told) = watch::channel(State::default());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let vitals = Arc::new(Vitals::default());
    runtime.spawn(cluster::run(config, Arc::new(System), Arc::clone(&vitals), move |state| {
        drop(tell.send_replace(state));
    }));
    let when = |what: &str, fits: &dyn Fn(&Asked) -> bool| {
        let mut told = told.clone();
        let fitting = told.wait_for(|state| state.asked().is_some_and(fits));
        let found = runtime.block_on(async { tokio::time::timeout(PATIENCE, fitting).await.is_ok() });
        assert!(found, "{what}: {:?}", *told.borrow());
    };
    let knows = |asked: &Asked| asked.pods.find(Some("1a2b"), None).is_some_and(|who| who.container.is_some());
    when("the empty node is known", &|asked| asked.current.is_some() && asked.pods.here() == 0);
    let mut it = pod("ignored", NODE, "1a2b");
    it["metadata"]["namespace"] = json!("default");
    it["spec"]["automountServiceAccountToken"] = json!(false);
    it["metadata"]["ownerReferences"][0]["uid"] = json!("11111111-2222-3333-4444-555555555555");
    let status = it["status"].take();
    if let Value::Object(metadata) = &mut it["metadata"] {
        metadata.remove("uid");
    }
    let mut it = cluster.api("POST", PODS, &it)?;
    let path = format!("{PODS}/{}", it["metadata"]["name"].as_str().unwrap_or_default());
    when("the pod is there", &|asked| asked.pods.here() == 1 && !knows(asked));
    it["status"] = status;
    cluster.api("PUT", &format!("{path}/status"), &it)?;
    when("its container runs", &knows);
    cluster.server.kill()?;
    when("the server is away", &|asked| asked.trouble.is_some() && knows(asked));
    cluster.server = serve(&cluster.folder, &cluster.scratch, cluster.ports)?;
    cluster.until_ready()?;
    cluster.api("DELETE", &path, &json!({ "gracePeriodSeconds": 0 }))?;
    when("the pod was deleted", &|asked| asked.pods.here() == 0 && knows(asked));
    Ok(())
}
