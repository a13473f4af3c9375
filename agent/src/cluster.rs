//! The API server of the Kubernetes cluster in; what is known of the pods of this node, as a [`State`], out.
//!
//! A side line: who a process is to the people who run the cluster. It lists and watches the pods of one node, asks for
//! nothing else, and keeps what it knows while the API server is away.

use crate::clock::MonoNs;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

pub mod api;
pub mod follow;
pub mod image;
pub mod labels;
pub mod object;
pub mod owner;
pub mod pods;
pub mod settings;

pub use follow::once;
pub use follow::run;
pub use image::Image;
pub use owner::Owner;
pub use pods::Pods;
pub use settings::Config;

/// A pod, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pod {
    /// Its id for good.
    pub uid: String,
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The node that it was bound to.
    pub node: Option<String>,
    /// Labels that are on the list.
    pub labels: BTreeMap<String, String>,
    /// What it belongs to, the nearest first.
    pub owners: Vec<Owner>,
    /// Its part in a LeaderWorkerSet.
    pub member: Option<Member>,
    /// Its containers.
    #[serde(skip)]
    pub containers: Vec<Container>,
    /// Of a static pod: the id under which the kubelet runs it, which its cgroups carry.
    #[serde(skip)]
    pub mirror: Option<String>,
}

/// A part in a LeaderWorkerSet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Member {
    /// Which group of pods.
    pub group: u32,
    /// Which pod of it; 0 is the leader.
    pub worker: u32,
}

/// A container of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Container {
    /// Its name in the pod.
    pub name: String,
    /// Its ids at the runtime: the one that runs, and the one before.
    #[serde(skip)]
    pub ids: Vec<String>,
    /// What it was started from.
    pub image: Image,
}

/// Who a process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its pod.
    pub pod: Arc<Pod>,
    /// Its container, where the pod's status names it already.
    pub container: Option<Container>,
}

/// What is known of the pods of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Nobody is asked.
    Off {
        /// One sentence.
        why: String,
    },
    /// The API server is asked.
    Asked(Asked),
}

impl Default for State {
    fn default() -> Self {
        Self::Off { why: "the API server of a cluster is not asked".to_owned() }
    }
}

impl State {
    /// What the API server was last known to say; nothing where it is not asked.
    pub fn asked(&self) -> Option<&Asked> {
        match self {
            Self::Off { .. } => None,
            Self::Asked(asked) => Some(asked),
        }
    }
}

/// What the API server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The node whose pods they are.
    pub node: String,
    /// The pods, with those that were deleted a short while ago.
    pub pods: Arc<Pods>,
    /// When that was last known to be all; never so far where it is absent.
    pub current: Option<MonoNs>,
    /// Why it is not up to date: the last failure, where nothing has come since.
    pub trouble: Option<String>,
}
