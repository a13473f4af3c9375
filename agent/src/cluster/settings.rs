//! Where the API server is and what is asked of it.

use crate::cluster::labels::List;
use std::path::PathBuf;
use std::time::Duration;

/// Where a pod finds the token of its service account.
pub const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
/// The variable by which a pod finds the API server.
pub const SERVER: &str = "KUBERNETES_SERVICE_HOST";

/// How to ask the API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The node whose pods matter.
    pub node: String,
    /// The labels that are kept.
    pub labels: List,
    /// Where the cluster and the key to it are written down; without it, the pod's service account.
    pub kubeconfig: Option<PathBuf>,
    /// How long one answer may take.
    pub timeout: Duration,
    /// How long a watch may be silent: an API server sends a bookmark about once a minute.
    pub silence: Duration,
    /// The first and the longest pause after a failure.
    pub pause: (Duration, Duration),
}

impl Config {
    /// With the usual patience.
    pub fn new(node: String, labels: List, kubeconfig: Option<PathBuf>) -> Self {
        Self {
            node,
            labels,
            kubeconfig,
            timeout: Duration::from_secs(30),
            silence: Duration::from_secs(150),
            pause: (Duration::from_secs(1), Duration::from_mins(1)),
        }
    }
}
