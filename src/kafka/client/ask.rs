//! Asking a partition's leader what its log holds.

use super::Client;
use crate::kafka::types::{ClientEvent, LogSays, Question, WhyNot};
use crate::runtime::seam::Monotonic;

impl Client {
    /// Asks: the answer is [`ClientEvent::Asked`].
    pub fn ask(&mut self, question: Question, _now: Monotonic) {
        let says = LogSays::CannotTell(WhyNot::NotSpoken);
        self.hands.event(ClientEvent::Asked { token: question.token, says });
    }
}
