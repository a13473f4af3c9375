//! Nothing in, nothing out: what a hit costs by itself. Measurements attach it, the agent never does.

use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;

#[uprobe]
pub(crate) fn empty(_ctx: ProbeContext) -> u32 {
    0
}
