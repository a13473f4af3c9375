//! Where a process runs and what is known of the pods of the node in; who it is out, or why that is not known.

use crate::cluster::Identity;
use crate::cluster::State;
use crate::discover::cgroup::Place;
use std::sync::Arc;

/// The pod and the container of a process, or in one word why they are not known.
pub type Who = Result<Arc<Identity>, &'static str>;

/// Who runs at a place.
pub fn who(cluster: &State, place: &Place) -> Who {
    let container = place.container.as_ref().map(|container| container.id.as_str());
    let pod = place.pod_uid.as_deref();
    if container.is_none() && pod.is_none() {
        return Err("not_in_container");
    }
    let asked = cluster.asked().ok_or("not_asked")?;
    // Before the first list nothing is known, whoever it is.
    asked.current.ok_or("api_server_away")?;
    asked.pods.find(container, pod).map(Arc::new).ok_or("unknown_pod")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::MonoNs;
    use crate::cluster::Asked;
    use crate::correlate::sample::cluster;
    use crate::correlate::sample::place;

    #[test]
    fn who_it_is_or_why_not() {
        let State::Asked(asked) = cluster() else { panic!("the example asks") };
        let never = State::Asked(Asked { current: None, pods: Arc::default(), ..asked.clone() });
        let empty = State::Asked(Asked { current: Some(MonoNs(1)), pods: Arc::default(), ..asked.clone() });
        let away = State::Asked(Asked { trouble: Some("no answer".to_owned()), ..asked });
        let unit = Place { unit: Some("vllm.service".to_owned()), ..Place::default() };
        for (state, place, expected) in [
            (&cluster(), &place(), Ok("vllm-6c5f9b-x7k2p")),
            (&away, &place(), Ok("vllm-6c5f9b-x7k2p")),
            (&empty, &place(), Err("unknown_pod")),
            (&never, &place(), Err("api_server_away")),
            (&State::default(), &place(), Err("not_asked")),
            (&cluster(), &unit, Err("not_in_container")),
        ] {
            let found = who(state, place);
            assert_eq!(found.as_ref().map(|who| who.pod.name.as_str()).map_err(|why| *why), expected);
        }
    }
}
