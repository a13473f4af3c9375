//! The pods of a node, followed at an API server that behaves, and at one in trouble.

use agent_tests::apiserver::ApiServer;
use agent_tests::apiserver::pod;
use agent_tests::scratch::Scratch;
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tachograph::clock::MonoNs;
use tachograph::clock::System;
use tachograph::cluster;
use tachograph::cluster::Asked;
use tachograph::cluster::Config;
use tachograph::cluster::Member;
use tachograph::cluster::State;
use tachograph::cluster::api::Error;
use tachograph::cluster::labels::List;
use tachograph::cluster::object::Object;
use tachograph::cluster::pods::Store;
use tachograph::vitals::Count;
use tachograph::vitals::Vitals;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::sync::watch::Receiver;

/// Much longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
const NODE: &str = "gpu-1";

/// An API server and what is known of it.
struct Following {
    server: ApiServer,
    vitals: Arc<Vitals>,
    told: Receiver<State>,
    runtime: Runtime,
    _folder: Scratch,
}

impl Following {
    /// Two pods are on the node and one on another; `before` is done before anybody asks.
    fn start(before: impl FnOnce(&ApiServer)) -> Self {
        let server = ApiServer::start().unwrap();
        for (uid, node) in [("a", NODE), ("b", NODE), ("c", "gpu-2")] {
            server.put(pod(uid, node, &format!("id-of-{uid}")));
        }
        before(&server);
        let folder = Scratch::new("cluster").unwrap();
        let file = folder.file("kubeconfig");
        server.kubeconfig(&file).unwrap();
        let config = Config {
            timeout: Duration::from_secs(5),
            silence: Duration::from_secs(1),
            pause: (Duration::from_millis(5), Duration::from_millis(50)),
            ..Config::new(NODE.to_owned(), List::default(), Some(file))
        };
        let vitals = Arc::new(Vitals::default());
        let (tell, told) = watch::channel(State::default());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let follow = cluster::run(config, Arc::new(System), Arc::clone(&vitals), move |state| {
            tell.send_replace(state);
        });
        runtime.spawn(follow);
        Self { server, vitals, told, runtime, _folder: folder }
    }

    /// What is told, once it fits.
    fn when(&self, what: &str, fits: impl Fn(&Asked) -> bool) -> Asked {
        let mut told = self.told.clone();
        let fitting = told.wait_for(|state| state.asked().is_some_and(&fits));
        let found = self
            .runtime
            .block_on(async { tokio::time::timeout(PATIENCE, fitting).await.map(|it| it.unwrap().clone()) });
        let last = || format!("{what}: {:?}", self.told.borrow().asked().map(names));
        found.unwrap_or_else(|_late| panic!("{}", last())).asked().unwrap().clone()
    }

    /// Waits until exactly these are here, and a watch says that this is all.
    fn when_here(&self, uids: &[&str]) -> Asked {
        let first = self.when(&format!("{uids:?} are here"), |asked| {
            asked.trouble.is_none() && asked.pods.here() == uids.len() && uids.iter().all(|uid| knows(asked, uid))
        });
        self.when("a bookmark came", |asked| asked.trouble.is_none() && asked.current > first.current)
    }

    /// A pod comes, and is heard of: whatever was wrong is over.
    fn goes_on(&self, uid: &str) -> Asked {
        self.server.put(pod(uid, NODE, &format!("id-of-{uid}")));
        self.when(&format!("{uid} is here"), |asked| asked.trouble.is_none() && knows(asked, uid))
    }
}

/// One pod, and nobody who follows it; what the first requests get.
fn alone(statuses: &[u16]) -> (ApiServer, Config, Scratch) {
    let server = ApiServer::start().unwrap();
    server.put(pod("a", NODE, "id-of-a"));
    server.refuse(statuses);
    let folder = Scratch::new("cluster").unwrap();
    let file = folder.file("kubeconfig");
    server.kubeconfig(&file).unwrap();
    (server, Config::new(NODE.to_owned(), List::default(), Some(file)), folder)
}

fn knows(asked: &Asked, uid: &str) -> bool {
    asked.pods.find(Some(&format!("id-of-{uid}")), None).is_some()
}

fn names(asked: &Asked) -> (usize, Option<String>) {
    (asked.pods.here(), asked.trouble.clone())
}

#[test]
fn pods_come_change_and_go() {
    let following = Following::start(|_| {});
    let asked = following.when_here(&["a", "b"]);
    assert_eq!(asked.pods.find(Some("id-of-c"), Some("c")), None, "of another node");
    following.goes_on("d");
    following.server.put(pod("a", NODE, "id-of-a-anew"));
    following.when("a container was started anew", |asked| asked.pods.find(Some("id-of-a-anew"), None).is_some());
    following.server.delete("b");
    let asked = following.when("b was deleted", |asked| asked.pods.here() == 2);
    assert!(knows(&asked, "b"), "its last requests are still on their way");
    assert_eq!(following.vitals.kubernetes_lists.get(), 1, "the rest came by the watch");
}

#[test]
fn what_is_asked_is_the_pods_of_the_node_and_nothing_else() {
    let following = Following::start(|_| {});
    following.when_here(&["a", "b"]);
    following.goes_on("d");
    let pods = "/api/v1/pods?";
    let only = "fieldSelector=spec.nodeName%3Dgpu-1";
    let asked = following.server.asked();
    assert!(asked.iter().all(|target| target.starts_with(pods) && target.contains(only)), "{asked:?}");
    assert!(
        asked[0].contains("resourceVersion=0") && !asked[0].contains("watch"),
        "what the server has at hand: {asked:?}"
    );
    assert!(asked[1].contains("watch=true") && asked[1].contains("allowWatchBookmarks=true"), "{asked:?}");
}

#[test]
fn bookmarks_keep_it_current_where_nothing_happens() {
    let following = Following::start(|_| {});
    following.when_here(&["a", "b"]);
    following.server.silence(true);
    let silent = &following.vitals.kubernetes_silent;
    following.when("it was silent", |asked| asked.trouble.as_ref().is_some_and(|why| why.contains("said nothing")));
    assert!(silent.get() > 0);
    following.server.silence(false);
    following.goes_on("d");
    assert_eq!(following.vitals.kubernetes_lists.get(), 1, "it went on from where it was");
}

#[test]
fn a_watch_that_breaks_goes_on_from_where_it_was() {
    let following = Following::start(|_| {});
    following.when_here(&["a", "b"]);
    following.server.cut();
    following.when("the watch broke", |_| following.vitals.kubernetes_broken.get() > 0);
    following.goes_on("d");
    assert_eq!(following.vitals.kubernetes_lists.get(), 1);
    assert_eq!(following.vitals.kubernetes_broken.get(), 1);
}

#[test]
fn what_the_server_has_forgotten_is_asked_for_anew() {
    let following = Following::start(|_| {});
    following.when_here(&["a", "b"]);
    following.server.down();
    following.when("it is away", |_| following.vitals.kubernetes_unreachable.get() > 0);
    following.server.delete("a");
    following.server.put(pod("d", NODE, "id-of-d"));
    following.server.compact();
    following.server.up().unwrap();
    let asked = following.when_here(&["b", "d"]);
    assert!(knows(&asked, "a"), "it was deleted meanwhile");
    assert_eq!((following.vitals.kubernetes_expired.get(), following.vitals.kubernetes_lists.get()), (1, 2));
    let anew = following.server.asked().into_iter().rev().find(|target| !target.contains("watch")).unwrap();
    assert!(!anew.contains("resourceVersion"), "the newest state: {anew}");
}

#[test]
fn while_the_server_is_away_what_is_known_stays_and_ages() {
    let following = Following::start(|_| {});
    following.when_here(&["a", "b"]);
    following.server.down();
    let tried = following.vitals.kubernetes_unreachable.get();
    let is_away = |asked: &Asked| asked.trouble.is_some() && following.vitals.kubernetes_unreachable.get() > tried + 2;
    let away = following.when("it was asked again and again", is_away);
    assert!(knows(&away, "a") && knows(&away, "b"));
    let later = following.when("and again", |_| following.vitals.kubernetes_unreachable.get() > tried + 4);
    assert_eq!(later.current, away.current, "nothing has made it younger");
    following.server.up().unwrap();
    assert!(following.goes_on("d").current > away.current);
}

#[test]
fn a_server_that_was_never_there_is_waited_for() {
    let following = Following::start(ApiServer::down);
    let asked = following.when("it is not there", |asked| asked.trouble.is_some());
    assert_eq!((asked.current, asked.pods.here()), (None, 0));
    following.server.up().unwrap();
    following.when_here(&["a", "b"]);
}

#[test]
fn refusals_are_told_and_passed_over() {
    type Row = (u16, &'static str, fn(&Vitals) -> &Count);
    const TABLE: [Row; 4] = [
        (403, "cannot list resource \"pods\"", |vitals| &vitals.kubernetes_refused),
        (401, "status 401", |vitals| &vitals.kubernetes_refused),
        (500, "status 500", |vitals| &vitals.kubernetes_failed),
        (410, "status 410", |vitals| &vitals.kubernetes_expired),
    ];
    for (status, says, count) in TABLE {
        let following = Following::start(|server| server.refuse(&[status; 3]));
        following.when_here(&["a", "b"]);
        assert_eq!(count(&following.vitals).get(), 3, "{status}");
        let (_server, config, _folder) = alone(&[status]);
        let error = cluster::once(&config).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(error.remedy().is_some(), matches!(error, Error::Refused { .. }));
    }
}

#[test]
fn a_missing_rule_is_named_by_its_verb() {
    let (server, config, folder) = alone(&[]);
    assert_eq!(cluster::once(&config), Ok(1));
    server.refuse(&[200, 403]);
    let error = cluster::once(&config).unwrap_err().to_string();
    assert!(error.contains("cannot watch resource \"pods\""), "{error}");
    drop(server);
    assert!(matches!(cluster::once(&config), Err(Error::Unreachable(_))));
    assert!(matches!(
        cluster::once(&Config { kubeconfig: Some(folder.file("absent")), ..config }),
        Err(Error::Settings(_))
    ));
}

#[test]
fn a_list_in_slow_pages_is_put_together() {
    let following = Following::start(|server| {
        server.pages(1, Duration::from_millis(20));
        server.put(pod("d", NODE, "id-of-d"));
    });
    following.when_here(&["a", "b", "d"]);
    let pages = following.server.asked().iter().filter(|target| target.contains("continue=")).count();
    assert_eq!(pages, 2);
}

/// What kube-apiserver 1.20 wrote when pods came, changed and went: see `fixtures/kubernetes`.
#[test]
fn recorded_exchanges_are_understood() {
    const LIST: &str = include_str!("../fixtures/kubernetes/list.json");
    const PAGES: [&str; 2] =
        [include_str!("../fixtures/kubernetes/page-1.json"), include_str!("../fixtures/kubernetes/page-2.json")];
    const WATCH: &str = include_str!("../fixtures/kubernetes/watch.jsonl");
    let items = |text| serde_json::from_str::<Value>(text).unwrap()["items"].as_array().unwrap().clone();
    let uids = |pods: &[Value]| pods.iter().map(|pod| pod["metadata"]["uid"].to_string()).collect::<BTreeSet<_>>();
    let (listed, paged) = (items(LIST), PAGES.map(items).concat());
    assert_eq!(uids(&listed), uids(&paged));
    let events = WATCH.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let (mut store, mut seen) = (Store::default(), Vec::new());
    let pod = |object: Value| serde_json::from_value::<Object>(object).unwrap().pod(&List::default());
    store.replace(listed.into_iter().map(pod).collect(), MonoNs(1));
    for mut event in events {
        let object = event["object"].take();
        match event["type"].as_str().unwrap() {
            "DELETED" => store.delete(pod(object), MonoNs(2)),
            "BOOKMARK" => {}
            _ => store.put(pod(object)),
        }
        seen.push(event["type"].as_str().unwrap().to_owned());
    }
    seen.dedup();
    assert_eq!(seen, ["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]);
    let pods = store.view();
    assert_eq!(pods.here(), 2);
    let told = |container: &str| {
        let who = pods.find(Some(&container.repeat(32)), None).unwrap();
        let owner = who.pod.owners.last().unwrap();
        let image = who.container.unwrap().image;
        let image = [image.name, image.tag].map(Option::unwrap_or_default).join(":");
        format!("{} of {} {}, {image}", who.pod.name, owner.kind, owner.name)
    };
    for (container, expected) in [
        ("1a", "vllm-6c5f9b-x7k2p of Deployment vllm, vllm/vllm-openai:v0.32.0"),
        ("4d", "vllm-6c5f9b-x7k2p of Deployment vllm, vllm/vllm-openai:v0.32.0"),
        ("2b", "big-leader of LeaderWorkerSet big, vllm/vllm-openai:"),
        ("b2", "big-leader of LeaderWorkerSet big, localhost:5000/team/router:"),
        ("3c", "eval-29000000-abcde of Job eval-29000000, busybox:1.37"),
    ] {
        assert_eq!(told(container), expected);
    }
    let leader = pods.find(Some(&"2b".repeat(32)), None).unwrap().pod;
    assert_eq!(leader.member, Some(Member { group: 1, worker: 0 }));
}
