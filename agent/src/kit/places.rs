//! A layout in; where each program of the stack listens, and where the others find it, out.

use crate::kit::Layout;

impl Layout {
    /// The address that servers listen on: on one machine, nobody outside it can reach them.
    pub const fn listen(self) -> &'static str {
        match self {
            Self::Box => "127.0.0.1",
            Self::Cluster => "0.0.0.0",
        }
    }

    /// Where others find a service.
    pub fn find(self, service: &str, port: u16) -> String {
        match self {
            Self::Box => format!("127.0.0.1:{port}"),
            Self::Cluster => format!("{service}:{port}"),
        }
    }

    /// The port at which Tempo takes spans: on one machine the collector has the usual one.
    pub const fn tempo_port(self) -> u16 {
        match self {
            Self::Box => 4327,
            Self::Cluster => 4317,
        }
    }
}
