//! The control plane's way to ask shards: by mail.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::config::{self, OffsetReset};
use crate::metrics::inspect::{Answer, Ask, SeekTo, Shards};
use crate::metrics::time::now_ms;
use crate::route::shares::Shares as SharedSubscriptions;
use crate::runtime::Post;
use crate::shard::mail::{Inspection, Mail};
use crate::shard::router;

/// Mail to the shards.
pub(super) struct ByMail {
    pub(super) post: Post<Mail>,
    pub(super) shards: usize,
    pub(super) shared_subscriptions: Arc<SharedSubscriptions>,
}

impl Shards for ByMail {
    fn count(&self) -> usize {
        self.shards
    }

    fn shared_subscriptions(&self) -> usize {
        self.shared_subscriptions.count()
    }

    fn owner(&self, of: &str) -> usize {
        router::owner(of, self.shards)
    }

    fn place(&self, text: &str) -> Result<SeekTo, String> {
        Ok(match config::place_in_log(text)? {
            OffsetReset::Earliest => SeekTo::Earliest,
            OffsetReset::Latest => SeekTo::Latest,
            OffsetReset::At(ms) => SeekTo::Time(ms),
            OffsetReset::Ago(age) => {
                let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
                SeekTo::Time(now_ms().saturating_sub(age).max(0))
            }
        })
    }

    fn ask(&self, shard: usize, ask: Ask, answer: Answer) -> bool {
        self.post.send(shard, Mail::Inspect(Inspection { ask, answer })).is_ok()
    }

    fn test_client(&self, socket: OwnedFd, user: &str) -> bool {
        // It moves on to the shard of its client identifier.
        self.post.send(0, Mail::TestClient(socket, user.into())).is_ok()
    }
}
