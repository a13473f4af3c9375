//! The pid of an agent in, what its kernel side lost out: the map that `--keep-losses` makes it keep.

use crate::held;
use agent_ebpf::event::Loss;
use anyhow::Context as _;
use anyhow::Result;
use aya::maps::HashMap;
use aya::maps::Map;
use aya::maps::MapData;
use aya::maps::MapInfo;

const MAP: &str = "LOSSES";

/// What was lost, by connection or engine thread.
#[derive(Debug, Clone, Default)]
pub struct Losses(Vec<Loss>);

impl Losses {
    /// Of a running agent.
    pub fn of(agent: u32) -> Result<Self> {
        let descriptors = held::descriptors(agent)?;
        let mut ids = descriptors.iter().filter_map(|text| held::map_id(text));
        let named = |id: &u32| MapInfo::from_id(*id).is_ok_and(|info| info.name_as_str() == Some(MAP));
        let id = ids.find(named).context("the agent holds no map of losses")?;
        let map: HashMap<_, Loss, u64> = HashMap::try_from(Map::HashMap(MapData::from_id(id)?))?;
        Ok(Self(map.keys().collect::<Result<_, _>>()?))
    }

    /// Whether nothing was lost.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether records of a connection were lost; of any with this descriptor where `opened_ns` is not known.
    pub fn on(&self, pid: u32, fd: i32, opened_ns: Option<u64>) -> bool {
        self.0.iter().any(|loss| {
            loss.pid == pid && loss.fd_or_tid == fd && opened_ns.map_or(loss.opened_ns > 0, |at| loss.opened_ns == at)
        })
    }

    /// Whether records of any connection of a process were lost.
    pub fn on_any(&self, pid: u32) -> bool {
        self.0.iter().any(|loss| loss.pid == pid && loss.opened_ns > 0)
    }

    /// Whether messages of an engine core were lost.
    pub fn in_engine(&self, pid: u32) -> bool {
        self.0.iter().any(|loss| loss.pid == pid && loss.opened_ns == 0)
    }
}
