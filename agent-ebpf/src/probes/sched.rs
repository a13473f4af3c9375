//! fork, exec and exit of processes, as raw tracepoints: they attach without tracefs.
//!
//! `sched_process_fork(parent, child)`, `sched_process_exec(task, old_pid, binprm)`,
//! `sched_process_exit(task, …)`: the current task is the parent, the process and the thread that
//! leaves. No structure is read. Seen on 6.18.
//!
//! `_dl_debug_state(void)` of the dynamic loader runs at every dlopen and dlclose. Seen in glibc 2.36.

use crate::emit;
use crate::maps;
use agent_ebpf::event::Kind;
use agent_ebpf::map::TLS_CALL;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;
use aya_ebpf::programs::RawTracePointContext;

#[raw_tracepoint(tracepoint = "sched_process_fork")]
pub(crate) fn forked(_ctx: RawTracePointContext) -> i32 {
    let header = emit::header(Kind::Forked);
    if maps::traced(header.pid) {
        emit::bare(&header);
    }
    0
}

#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub(crate) fn execed(_ctx: RawTracePointContext) -> i32 {
    emit::bare(&emit::header(Kind::Execed));
    0
}

#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub(crate) fn exited(_ctx: RawTracePointContext) -> i32 {
    let header = emit::header(Kind::Exited);
    if !maps::traced(header.pid) {
        return 0;
    }
    // A server may give each connection a thread: what is kept by thread leaves with it.
    let thread = bpf_get_current_pid_tgid();
    let _none = maps::CALLS.remove(&thread);
    let _none = maps::CALLS.remove(&(thread | TLS_CALL));
    let _none = maps::LAST_READ.remove(&thread);
    if header.pid == header.tid {
        emit::bare(&header);
    }
    0
}

#[uprobe]
pub(crate) fn loaded(_ctx: ProbeContext) -> u32 {
    emit::bare(&emit::header(Kind::Loaded));
    0
}
