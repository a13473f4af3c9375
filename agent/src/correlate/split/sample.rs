//! A part and its instants in, such a request out: for tests.

use super::Half;
use crate::clock::MonoNs;
use crate::correlate::Request;
use crate::correlate::Transfer;
use crate::correlate::sample::streamed;
use crate::ident::EngineId;
use crate::ident::Pid;
use crate::ident::ProcessId;
use crate::request::EngineRequest;

/// What a request says of the other engine.
pub(crate) fn transfer(half: Half, remote: Option<&str>, id: Option<&str>) -> Transfer {
    let is = |it| Some(half == it);
    Transfer {
        remote_prefill: is(Half::Decode),
        remote_decode: is(Half::Prefill),
        remote_request: remote.map(str::to_owned),
        id: id.map(str::to_owned),
        ..Transfer::default()
    }
}

/// A request of one engine that ran between two instants; seconds.
pub(crate) fn request(serial: u64, engine: u32, (from, to): (u64, u64), transfer: Transfer) -> Request {
    let whole = streamed(serial);
    let named = |it: EngineRequest| EngineRequest { id: format!("cmpl-{serial}-0a"), ..it };
    Request {
        engine: Some(EngineId(ProcessId { pid: Pid(engine), start_ticks: 0 })),
        engine_requests: whole.engine_requests.into_iter().map(named).collect(),
        accepted: Some(MonoNs(from * 1_000_000_000)),
        finished: MonoNs(to * 1_000_000_000),
        transfer: Some(Box::new(transfer)),
        ..streamed(serial)
    }
}

/// A prefill and the decode that names it.
pub(crate) fn halves() -> [Request; 2] {
    [
        request(1, 10, (0, 1), transfer(Half::Prefill, None, None)),
        request(2, 20, (3, 8), transfer(Half::Decode, Some("cmpl-1-0a"), None)),
    ]
}
