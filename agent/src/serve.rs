//! The one listener: the snapshot in, the routes of export and ui out, past the door. Nothing here changes anything.

use crate::correlate::Snapshot;
use crate::export::openmetrics;
use crate::export::prometheus;
use crate::ui::api;
use axum::Json;
use axum::Router;
use axum::extract::RawQuery;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::header;
use axum::middleware::from_fn_with_state;
use axum::response::Html;
use axum::response::IntoResponse as _;
use axum::response::Response;
use axum::routing::get;
use door::Doors;
use guests::Patience;
use guests::Peer;
use serde_json::Value;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::sleep;

pub mod door;
pub mod guests;
mod secrets;
mod tls;
mod watched;

/// Connections at a time; more wait to be accepted.
pub const GUESTS: usize = 64;

/// How long a connection may take.
pub const PATIENCE: Patience = Patience { handshake: Duration::from_secs(10), idle: Duration::from_mins(2) };

/// How long the end of the agent waits for answers that are under way.
pub const GRACE: Duration = Duration::from_secs(2);

/// What the routes show.
#[derive(Clone)]
pub struct Site {
    /// Gives the snapshot.
    pub reader: Arc<dyn Fn() -> Arc<Snapshot> + Send + Sync>,
    /// Whether the agent records.
    pub ready: Arc<AtomicBool>,
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Site").field("ready", &self.ready).finish_non_exhaustive()
    }
}

/// Answers until `stop` turns true or its sender is gone, and then for [`GRACE`] what is under way.
///
/// # Errors
///
/// What the system says of the listener.
pub async fn serve(listener: TcpListener, site: Site, doors: Doors, stop: watch::Receiver<bool>) -> io::Result<()> {
    let guests = guests::Guests::new(listener, GUESTS, PATIENCE, doors.clone());
    let routes = routes(site, doors).into_make_service_with_connect_info::<Peer>();
    let serving = axum::serve(guests, routes).with_graceful_shutdown(stopped(stop.clone()));
    tokio::select! {
        ended = serving => ended,
        () = async { stopped(stop).await; sleep(GRACE).await } => Ok(()),
    }
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // An error means that the sender is gone, which is a stop too.
    let _gone = stop.wait_for(|stop| *stop).await;
}

/// Every route. Those that only say how the agent is stand outside the door, for whoever starts it anew.
pub fn routes(site: Site, doors: Doors) -> Router {
    let inside = Router::new()
        .route("/", get(index))
        .route("/metrics", get(metrics))
        .route("/api/v1/requests", get(requests))
        .route("/api/v1/snapshot", get(snapshot))
        .fallback(async || StatusCode::NOT_FOUND)
        .layer(from_fn_with_state(doors, door::keep));
    inside.route("/healthz", get(async || "ok\n")).route("/readyz", get(ready)).with_state(site)
}

async fn index() -> Html<&'static str> {
    Html(
        "<!doctype html><title>Tachograph</title><h1>Tachograph</h1><ul>\
         <li><a href=\"/metrics\">/metrics</a>\
         <li><a href=\"/api/v1/requests?limit=10\">/api/v1/requests</a>\
         <li><a href=\"/api/v1/snapshot\">/api/v1/snapshot</a>\
         <li><a href=\"/healthz\">/healthz</a>\
         <li><a href=\"/readyz\">/readyz</a></ul>\n",
    )
}

async fn metrics(State(site): State<Site>, headers: HeaderMap) -> Response {
    let snapshot = (site.reader)();
    // Several Accept headers count as one list.
    let accept: Vec<&str> = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    if openmetrics::wanted(&accept.join(",")) {
        let page = openmetrics::Page(&snapshot).to_string();
        return ([(header::CONTENT_TYPE, openmetrics::CONTENT_TYPE)], page).into_response();
    }
    match prometheus::render(&snapshot) {
        Ok(page) => ([(header::CONTENT_TYPE, prometheus::CONTENT_TYPE)], page).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn ready(State(site): State<Site>) -> (StatusCode, &'static str) {
    if site.ready.load(Ordering::Relaxed) {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

async fn requests(State(site): State<Site>, RawQuery(query): RawQuery) -> (StatusCode, Json<Value>) {
    match api::Query::parse(&query.unwrap_or_default()) {
        Ok(query) => (StatusCode::OK, Json(api::requests(&(site.reader)(), query))),
        Err(bad) => (StatusCode::BAD_REQUEST, Json(api::refusal(&bad))),
    }
}

async fn snapshot(State(site): State<Site>) -> Json<Value> {
    Json(api::snapshot(&(site.reader)()))
}

#[cfg(test)]
mod tests;
