//! [`Event`]s of connections in, the HTTP half of [`Message`]s out.
//!
//! One [`Http`] serves all traced processes. Between calls a connection keeps counters, the few values
//! that were asked for, and a header block while that is incomplete; no body is ever held.

mod asks;
mod connection;
mod replies;

use crate::ident::Conn;
use crate::ident::Pid;
use crate::ring::Close;
use crate::ring::Event;
use crate::ring::ProcessChange;
use crate::ring::Way;
use crate::stream::Break;
use crate::stream::Message;
use crate::stream::content::Capture;
use crate::stream::http::asks::Asks;
use crate::stream::http::connection::Connection;
use crate::stream::http::connection::Context;
use crate::stream::http::replies::Replies;
use crate::stream::http1;
use crate::stream::http1::collect::Collector;
use crate::stream::mask::Pen;
use crate::stream::table::Table;
use crate::vitals::Vitals;

/// Bounds of the HTTP side.
#[derive(Debug, Clone)]
pub struct Config {
    /// Connections that are followed at a time.
    pub connections: usize,
    /// Bytes of a header block; a longer one is no HTTP to us.
    pub head_bytes: usize,
    /// Whether texts are captured, and how much of them.
    pub content: Option<Capture>,
}

impl Default for Config {
    fn default() -> Self {
        Self { connections: 65_536, head_bytes: 64 * 1024, content: None }
    }
}

/// A descriptor of a process. Connections without one are told apart by their opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key {
    pid: Pid,
    fd: i32,
    opened_ns: u64,
}

impl Key {
    fn of(conn: Conn) -> Self {
        Self { pid: conn.pid, fd: conn.fd, opened_ns: if conn.fd < 0 { conn.opened_ns } else { 0 } }
    }
}

/// The HTTP side of all connections.
#[derive(Debug)]
pub struct Http {
    config: Config,
    table: Table<Key, Connection>,
}

impl Http {
    /// Without any connection.
    pub fn new(config: Config) -> Self {
        Self { table: Table::new(config.connections), config }
    }

    /// Captures content, or no longer, of what begins from now on.
    pub fn set_content(&mut self, content: Option<Capture>) {
        self.config.content = content;
    }

    /// Reads one event; what it means is added to `out`. Events of engines mean nothing here.
    pub fn push(&mut self, event: &Event<'_>, vitals: &Vitals, out: &mut Vec<Message>) {
        self.read(event, Pen::default(), vitals, out);
    }

    /// As [`Self::push`]; what is needed to read the event's bytes once more is left in `copy`.
    pub fn mask(&mut self, event: &Event<'_>, copy: &mut [u8], vitals: &Vitals, out: &mut Vec<Message>) {
        self.read(event, Pen::new(copy), vitals, out);
    }

    fn read(&mut self, event: &Event<'_>, pen: Pen<'_>, vitals: &Vitals, out: &mut Vec<Message>) {
        let Self { config, table } = self;
        let (head_bytes, content) = (config.head_bytes, config.content.as_ref());
        let cx = &mut Context { at: event.at(), head_bytes, content, vitals, out, pen };
        match *event {
            Event::Opened { conn, .. } => {
                if known(table, conn, cx).is_none() {
                    let mut connection = Connection::new(conn, Asks::fresh());
                    connection.replies = Replies::Head(Collector::new());
                    insert(table, connection, cx);
                }
            }
            Event::Data { conn, way, bytes, missing, .. } => {
                if known(table, conn, cx).is_none() {
                    if way == Way::Out || !http1::looks_like_request(bytes) {
                        return;
                    }
                    insert(table, Connection::new(conn, Asks::Seeking), cx);
                }
                let Some(connection) = known(table, conn, cx).filter(|known| !known.deaf) else { return };
                match way {
                    Way::In => connection.incoming(bytes, missing, cx),
                    Way::Out => connection.outgoing(bytes, missing, cx),
                }
            }
            Event::Blocked { conn, at } => {
                if let Some(connection) = known(table, conn, cx) {
                    connection.block(at);
                }
            }
            Event::Closed { conn, how, .. } => {
                if known(table, conn, cx).is_some()
                    && let Some(mut connection) = table.remove(&Key::of(conn))
                {
                    connection.close(how, cx);
                }
            }
            Event::Lost { conn, .. } => {
                if let Some(connection) = known(table, conn, cx) {
                    connection.gap(cx);
                }
            }
            Event::ConnectionsLost { at } => cx.out.push(Message::ExchangesLost { at }),
            Event::Process { pid, change: ProcessChange::Exited, .. } => {
                for mut connection in table.remove_where(|key| key.pid == pid) {
                    connection.break_all(Break::ProcessGone, cx);
                }
            }
            Event::Process { .. } | Event::Frame { .. } | Event::FramesLost { .. } => {}
        }
    }
}

/// The connection, if it is followed. A later one on the same descriptor ends the earlier one.
fn known<'a>(table: &'a mut Table<Key, Connection>, conn: Conn, cx: &mut Context<'_>) -> Option<&'a mut Connection> {
    let key = Key::of(conn);
    if table.get_mut(&key).is_some_and(|known| known.conn.opened_ns < conn.opened_ns)
        && let Some(mut replaced) = table.remove(&key)
    {
        replaced.close(Close::Replaced, cx);
    }
    table.get_mut(&key).filter(|known| known.conn == conn)
}

fn insert(table: &mut Table<Key, Connection>, connection: Connection, cx: &mut Context<'_>) {
    let key = Key::of(connection.conn);
    // An event of a connection that the table has since replaced.
    if table.get_mut(&key).is_some() {
        return;
    }
    if let Some(mut evicted) = table.insert(key, connection, |known| known.open.is_empty()) {
        cx.vitals.evicted.one();
        evicted.break_all(Break::Evicted, cx);
    }
}

#[cfg(test)]
mod tests;
