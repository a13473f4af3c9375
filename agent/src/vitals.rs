//! The agent's own counters: each loss counted at the place where it happens. Passed in, never global.

use serde::Serialize;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// A counter that only rises.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// One more.
    pub fn one(&self) {
        self.add(1);
    }

    /// `n` more.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Takes over an absolute reading of a counter kept elsewhere (the kernel side).
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Serialize for Count {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.get())
    }
}

/// Everything the agent counts about itself.
#[derive(Debug, Default, Serialize)]
pub struct Vitals {
    /// Ring records read.
    pub records_seen: Count,
    /// Ring records that the kernel side found no room for.
    pub records_lost: Count,
    /// Ring records that are no record of ours: unknown kind, wrong size.
    pub records_undecoded: Count,
    /// Bytes that a call moved and a cap kept from being copied.
    pub bytes_truncated: Count,
    /// Failed inserts into the kernel side's maps.
    pub map_full: Count,
    /// Hits of the probes on sockets and TLS.
    pub probe_hits_wire: Count,
    /// Hits of the probes on ZeroMQ.
    pub probe_hits_engine: Count,
    /// HTTP requests begun.
    pub requests_seen: Count,
    /// Requests that ended in a record.
    pub requests_recorded: Count,
    /// Records that are marked incomplete.
    pub requests_incomplete: Count,
    /// HTTP exchanges that are no inference: counted, not recorded.
    pub http_plain: Count,
    /// Connections given up as HTTP: no HTTP/1, broken framing.
    pub http_undecoded: Count,
    /// HTTP/2 prefaces, WebSocket and other upgrades: recognised, not decoded.
    pub http_upgraded: Count,
    /// Bodies with a content-encoding: recognised, not decoded.
    pub http_encoded: Count,
    /// Engine messages read whole.
    pub engine_messages: Count,
    /// Engine messages that are neither ADD, ABORT nor outputs (coordinator, KV events, utility).
    pub engine_other: Count,
    /// Engine messages that should have been decoded and could not be.
    pub engine_undecoded: Count,
    /// Engine messages with pieces missing.
    pub engine_lost: Count,
    /// Engine instants that contradict their own probe and are not used.
    pub clock_untrusted: Count,
    /// Engine requests that no HTTP request was found for.
    pub engine_unmatched: Count,
    /// HTTP requests whose engine side could not be told from another's.
    pub joins_ambiguous: Count,
    /// Entries put out of a bounded table.
    pub evicted: Count,
    /// Updates that a full channel dropped.
    pub updates_dropped: Count,
    /// Requests whose captured content found no room and was cut.
    pub content_cut: Count,
    /// Spans that will never reach the collector: queue full, refused, or given up.
    pub spans_dropped: Count,
    /// Spans that the collector accepted.
    pub spans_sent: Count,
    /// Log records that will never reach the collector: queue full, refused, or given up.
    pub logs_dropped: Count,
    /// Finished requests without a log record, because the share of their kind leaves them out.
    pub logs_sampled_out: Count,
    /// Log records that the collector accepted.
    pub logs_sent: Count,
    /// Export attempts that failed.
    pub export_failures: Count,
    /// Probes that could not be attached.
    pub probes_skipped: Count,
    /// Requests to the agent's own listener without a valid certificate, password or token.
    pub listener_refused: Count,
    /// Changed files of certificates, passwords or tokens that could not be used.
    pub listener_reload_failures: Count,
    /// Settings that were read anew and could not be used.
    pub config_reload_failures: Count,
    /// Times that the API server was asked for all pods of this node.
    pub kubernetes_lists: Count,
    /// Watches of the pods of this node that were begun.
    pub kubernetes_watches: Count,
    /// Times that the API server could not be asked, because of the settings.
    pub kubernetes_settings: Count,
    /// Times that the API server did not answer.
    pub kubernetes_unreachable: Count,
    /// Times that the API server answered with 401 or 403.
    pub kubernetes_refused: Count,
    /// Times that the API server had forgotten the state from which a watch should go on.
    pub kubernetes_expired: Count,
    /// Times that the API server answered with another status that is no success.
    pub kubernetes_failed: Count,
    /// Answers of the API server that broke off or could not be read.
    pub kubernetes_broken: Count,
    /// Watches that were given up because they said nothing.
    pub kubernetes_silent: Count,
}
