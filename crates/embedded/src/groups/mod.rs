//! All consumer groups, their waiting requests, and their committed offsets.

pub(crate) mod group;
pub(crate) mod offsets;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Mutex as BlockingMutex};
use std::time::Duration;

use tokio::sync::{Mutex, Notify, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::code;
use super::disk::Disk;
use super::settings::Settings;
use group::{Answer, Group, State, Ticket};
use offsets::{Change, OffsetFile, Offsets, Place};

/// Interval of [`Group::tick`]: sessions are seconds long.
const TICK: Duration = Duration::from_millis(200);

/// The groups of the log, used only on its thread.
pub(crate) struct Groups {
    groups: RefCell<BTreeMap<String, Group>>,
    waiting: RefCell<HashMap<Ticket, oneshot::Sender<Answer>>>,
    tickets: Cell<Ticket>,
    /// Notified when a group was created, or a request waits for one.
    used: Notify,
    committed: RefCell<Offsets>,
    /// Serializes writes, which are applied in the order of the file.
    writing: Mutex<()>,
    file: Arc<BlockingMutex<OffsetFile>>,
    disk: Arc<dyn Disk>,
    started: Instant,
    groups_max: usize,
    members_max: usize,
    offsets_max: usize,
}

impl Groups {
    /// Groups without members, as after every startup, with the recovered offsets.
    pub(crate) fn new(settings: &Settings, disk: Arc<dyn Disk>, (file, committed): (OffsetFile, Offsets)) -> Groups {
        Groups {
            groups: RefCell::default(),
            waiting: RefCell::default(),
            tickets: Cell::new(0),
            used: Notify::new(),
            committed: RefCell::new(committed),
            writing: Mutex::new(()),
            file: Arc::new(BlockingMutex::new(file)),
            disk,
            started: Instant::now(),
            groups_max: settings.groups_max,
            members_max: settings.group_members_max,
            offsets_max: settings.committed_offsets_max,
        }
    }

    fn now_ms(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX / 2)
    }

    /// Runs `work` on an existing group, and sends the resulting answers.
    pub(crate) fn with<T>(&self, name: &str, work: impl FnOnce(&mut Group, i64) -> T) -> Option<T> {
        let mut groups = self.groups.borrow_mut();
        let group = groups.get_mut(name)?;
        let result = work(group, self.now_ms());
        self.hand_out(group);
        Some(result)
    }

    /// Like [`Groups::with`], but creates the group if there is room.
    pub(crate) fn with_new<T>(&self, name: &str, work: impl FnOnce(&mut Group, i64) -> T) -> Option<T> {
        let mut groups = self.groups.borrow_mut();
        if !groups.contains_key(name) {
            if groups.len() >= self.groups_max {
                return None;
            }
            groups.insert(name.to_owned(), Group::new(self.members_max));
            self.used.notify_one();
        }
        drop(groups);
        self.with(name, work)
    }

    fn hand_out(&self, group: &mut Group) {
        for (ticket, answer) in group.answers() {
            if let Some(waiting) = self.waiting.borrow_mut().remove(&ticket) {
                // The client may be gone; its session will expire then.
                let _ = waiting.send(answer);
            }
        }
    }

    /// A ticket and the receiver of its answer.
    pub(crate) fn ticket(&self) -> (Ticket, oneshot::Receiver<Answer>) {
        let ticket = self.tickets.get() + 1;
        self.tickets.set(ticket);
        let (sender, receiver) = oneshot::channel();
        self.waiting.borrow_mut().insert(ticket, sender);
        self.used.notify_one();
        (ticket, receiver)
    }

    /// Ticks all groups while the log runs; sleeps while there are none. A group without members is forgotten: its committed offsets are
    /// kept elsewhere.
    pub(crate) async fn keep_ticking(&self) {
        loop {
            let none = self.groups.borrow().is_empty() && self.waiting.borrow().is_empty();
            if none {
                self.used.notified().await;
            }
            tokio::time::sleep(TICK).await;
            let now_ms = self.now_ms();
            let mut groups = self.groups.borrow_mut();
            for group in groups.values_mut() {
                group.tick(now_ms);
                self.hand_out(group);
            }
            groups.retain(|_, group| !group.is_idle());
            drop(groups);
            self.waiting.borrow_mut().retain(|_, waiting| !waiting.is_closed());
        }
    }

    /// Names of all groups, with and without members, with protocol type and state.
    pub(crate) fn list(&self) -> Vec<(String, String, State)> {
        let mut all = BTreeMap::new();
        for place in self.committed.borrow().keys() {
            if !all.contains_key(&place.group) {
                all.insert(place.group.clone(), ("consumer".to_owned(), State::Empty));
            }
        }
        for (name, group) in self.groups.borrow().iter().filter(|(_, group)| !group.is_idle()) {
            all.insert(name.clone(), (group.protocol_type().to_owned(), group.state()));
        }
        all.into_iter().map(|(name, (protocol_type, state))| (name, protocol_type, state)).collect()
    }

    /// Whether a group has committed offsets.
    pub(crate) fn has_offsets(&self, name: &str) -> bool {
        self.offsets_of(name).next().is_some()
    }

    fn offsets_of(&self, name: &str) -> impl Iterator<Item = Place> + use<> {
        let first = Place { group: name.to_owned(), topic: String::new(), partition: i32::MIN };
        let committed = self.committed.borrow();
        let of_group = committed.range(first..).take_while(|(place, _)| place.group == name);
        of_group.map(|(place, _)| place.clone()).collect::<Vec<_>>().into_iter()
    }

    /// Passes all committed offsets to `read`.
    pub(crate) fn committed<T>(&self, read: impl FnOnce(&Offsets) -> T) -> T {
        read(&self.committed.borrow())
    }

    /// The places for which a group has committed offsets.
    pub(crate) fn places(&self, name: &str) -> Vec<Place> {
        self.offsets_of(name).collect()
    }

    /// Commits, durably. `may_be` is checked again when it is this write's turn, because the topic may have been deleted meanwhile.
    pub(crate) async fn commit(&self, mut changes: Vec<Change>, may_be: impl Fn(&Place) -> bool) -> Result<(), i16> {
        let _turn = self.writing.lock().await;
        changes.retain(|(place, committed)| committed.is_none() || may_be(place));
        let added = {
            let committed = self.committed.borrow();
            changes.iter().filter(|(place, change)| change.is_some() && !committed.contains_key(place)).count()
        };
        if added > 0 && self.committed.borrow().len() + added > self.offsets_max {
            return Err(code::INVALID_COMMIT_OFFSET_SIZE);
        }
        if changes.is_empty() {
            return Ok(());
        }
        let write = move |file: &mut OffsetFile, disk: &dyn Disk| file.append(disk, &changes).map(|()| changes);
        match self.on_file(write).await {
            Ok(changes) => offsets::apply(&mut self.committed.borrow_mut(), changes),
            Err(error) => {
                tracing::error!(%error, "cannot commit offsets of a consumer group");
                return Err(code::COORDINATOR_NOT_AVAILABLE);
            }
        }
        self.compact_if_overgrown().await;
        Ok(())
    }

    async fn compact_if_overgrown(&self) {
        let is_overgrown = self.file.lock().is_ok_and(|file| file.is_overgrown());
        if is_overgrown {
            let all = self.committed.borrow().clone();
            if let Err(error) = self.on_file(move |file, disk| file.compact(disk, &all)).await {
                tracing::error!(%error, "cannot rewrite the file of committed offsets");
            }
        }
    }

    async fn on_file<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut OffsetFile, &dyn Disk) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (file, disk) = (Arc::clone(&self.file), Arc::clone(&self.disk));
        let run = move || match file.lock() {
            Ok(mut file) => work(&mut file, disk.as_ref()),
            Err(_) => Err(io::Error::other("an earlier write panicked")),
        };
        spawn_blocking(run).await.unwrap_or_else(|panic| Err(io::Error::other(panic)))
    }

    /// Forgets the committed offsets of a deleted topic. If the disk refuses, the next process does it.
    pub(crate) async fn forget_topic(&self, topic: &str) {
        let gone = |place: &&Place| place.topic == topic;
        let changes: Vec<_> = self.committed.borrow().keys().filter(gone).map(|place| (place.clone(), None)).collect();
        if self.commit(changes, |_| false).await.is_err() {
            self.committed.borrow_mut().retain(|place, _| place.topic != topic);
        }
    }

    /// Deletes a group, which must have no members.
    pub(crate) async fn delete(&self, name: &str) -> Result<(), i16> {
        if self.groups.borrow().get(name).is_some_and(|group| !group.is_idle()) {
            return Err(code::NON_EMPTY_GROUP);
        }
        let changes: Vec<_> = self.places(name).into_iter().map(|place| (place, None)).collect();
        if changes.is_empty() {
            return Err(code::GROUP_ID_NOT_FOUND);
        }
        self.commit(changes, |_| false).await
    }
}
