//! The log's thread: a current-thread runtime with a task for each connection, one that accepts, one that takes
//! finished syncs.

use std::net::TcpListener as StdListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinSet, LocalSet, spawn_local};

use super::StartError;
use super::connection;
use super::counters::{Counters, add};
use super::disk::Disk;
use super::places::Places;
use super::settings::Settings;
use super::store::{self, Store};
use super::sync::{self, Done, SyncThread};

/// How the log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Finish requests in flight, sync, then end.
    Graceful,
    /// End now: unsynced data is left to the kernel, as in a kill.
    Abrupt,
}

/// The arguments of the log's thread.
pub(crate) struct Start {
    /// Settings.
    pub(crate) settings: Settings,
    /// The listener, bound already.
    pub(crate) listener: StdListener,
    /// Counters for `/metrics`.
    pub(crate) counters: Arc<Counters>,
    /// The disk, or the one of a test.
    pub(crate) disk: Arc<dyn Disk>,
    /// Gets one message: ready, or the reason why not.
    pub(crate) ready: std::sync::mpsc::Sender<Result<(), StartError>>,
    /// Gets the way to stop; if its sender is dropped, the log ends abruptly.
    pub(crate) stop: oneshot::Receiver<Stop>,
}

/// Runs the log until it is stopped.
pub(crate) fn run(start: Start) {
    let ready = start.ready.clone();
    if let Err(error) = try_run(start) {
        // If the log was ready already, the receiver is gone and the error is only logged.
        if let Err(unsent) = ready.send(Err(error)) {
            tracing::error!(error = ?unsent.0.err(), "the embedded log ended");
        }
    }
}

fn try_run(start: Start) -> Result<(), StartError> {
    let Start { settings, listener, counters, disk, ready, stop } = start;
    let loaded = store::load(disk.as_ref(), &settings, &counters)?;
    let thread = |error| StartError::Thread { error };
    let (syncer, finished, sync_thread) = sync::start(Arc::clone(&disk), Arc::clone(&counters)).map_err(thread)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .thread_name("embedded-io")
        .max_blocking_threads(4)
        .build()
        .map_err(thread)?;
    let store = Rc::new(Store::new(settings, counters, disk, syncer, loaded));
    announce(&store, &listener);
    let served = LocalSet::new().block_on(&runtime, serve(Rc::clone(&store), listener, finished, stop, ready));
    end(runtime, store, sync_thread);
    served.map_err(thread)
}

/// Ends the blocking threads first (they may read), then the sync thread, which ends with the store.
fn end(runtime: tokio::runtime::Runtime, store: Rc<Store>, sync_thread: SyncThread) {
    runtime.shutdown_timeout(Duration::from_secs(1));
    drop(store);
    sync_thread.join();
}

fn announce(store: &Store, listener: &StdListener) {
    let address = listener.local_addr().map(|address| address.to_string()).unwrap_or_default();
    tracing::info!(
        %address,
        dir = %store.settings.dir.display(),
        topics = store.all_topics().len(),
        "embedded log: a single-node log with the Kafka protocol, for machines without Kafka. Every acknowledgement waits \
         for fdatasync. Not supported: replication, transactions, compaction, TLS. See docs/EMBEDDED_LOG.md"
    );
}

async fn serve(
    store: Rc<Store>,
    listener: StdListener,
    mut finished: mpsc::UnboundedReceiver<Done>,
    stop: oneshot::Receiver<Stop>,
    ready: std::sync::mpsc::Sender<Result<(), StartError>>,
) -> std::io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let (stopping, stopped) = watch::channel(false);
    let syncing = Rc::clone(&store);
    let syncing = spawn_local(async move {
        while let Some(done) = finished.recv().await {
            syncing.syncer.finish(done);
        }
    });
    let expiring = Rc::clone(&store);
    let expiring = spawn_local(async move { expiring.keep_expiring().await });
    let ticking = Rc::clone(&store);
    let ticking = spawn_local(async move { ticking.groups.keep_ticking().await });
    let _ = ready.send(Ok(()));
    let mut connections = JoinSet::new();
    let how = tokio::select! {
        how = stop => how.unwrap_or(Stop::Abrupt),
        never = accept(&store, &listener, &mut connections, stopped) => never,
    };
    drop(listener);
    if how == Stop::Graceful {
        let _ = stopping.send(true);
        let drained =
            tokio::time::timeout(store.settings.stop_grace, async { while connections.join_next().await.is_some() {} });
        if drained.await.is_err() {
            tracing::warn!(connections = connections.len(), "embedded log: closed with requests in flight");
        }
        connections.shutdown().await;
        store.syncer.settle().await;
        tracing::info!("embedded log stopped; everything is synced");
    }
    connections.shutdown().await;
    ticking.abort();
    let _ = ticking.await;
    expiring.abort();
    let _ = expiring.await;
    syncing.abort();
    let _ = syncing.await;
    Ok(())
}

/// Accepts connections; `places` bounds their number.
async fn accept(
    store: &Rc<Store>,
    listener: &TcpListener,
    connections: &mut JoinSet<()>,
    stopped: watch::Receiver<bool>,
) -> Stop {
    let mut told_full = false;
    let places = Rc::new(Places::default());
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, peer)) => {
                add(&store.counters.connections_accepted, 1);
                let is_full = places.len() >= store.settings.connections_max;
                if is_full && !std::mem::replace(&mut told_full, true) {
                    tracing::warn!(
                        open = places.len(),
                        "embedded log: too many connections; new ones take the place of those that wait"
                    );
                }
                if !is_full || places.make_room() {
                    told_full &= is_full;
                    add(&store.counters.connections_replaced, u64::from(is_full));
                    let place = places.take();
                    let number = place.number();
                    let serving = connection::serve(Rc::clone(store), stream, peer, place, stopped.clone());
                    places.is_served_by(number, connections.spawn_local(serving));
                } else {
                    add(&store.counters.connections_refused, 1);
                }
            }
            Err(error) => {
                // Most likely there are no file descriptors left: the connection stays in the backlog, and the delay
                // avoids a busy loop.
                tracing::warn!(%error, "embedded log: cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
