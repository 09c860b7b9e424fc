//! Kept sessions that count among those of their user: `[auth.NAME.limits] sessions`.

use std::sync::Arc;

use super::connect::Plan;
use super::end::Violation;
use super::store::{SessionKey, Sessions};
use forebay_guard::auth::{Access, Admission, Owner, Place, Policy};

impl Sessions {
    /// A place for a session that will be kept, if its user may have another one; `None`: the session needs none, or has that of
    /// `own`.
    pub(super) fn new_place(
        &self,
        own: Option<SessionKey>,
        plan: &Plan<'_>,
        admission: Option<&Admission>,
    ) -> Result<Option<Box<Place>>, Violation> {
        let has_place = |key: SessionKey| self.sessions[key].access().is_some_and(Access::has_place);
        let Some(admission) = admission.filter(|admission| plan.needs_place(admission)) else { return Ok(None) };
        if own.is_some_and(has_place) {
            return Ok(None);
        }
        let place = self.shares.keep(Owner::of(admission, plan.client_id), admission.limits().sessions);
        place.map(|place| Some(Box::new(place))).ok_or(Violation::SESSIONS_OF_USER)
    }

    /// The place that a session keeps.
    pub(super) fn place_of(
        &mut self,
        own: Option<SessionKey>,
        plan: &Plan<'_>,
        admission: Option<&Admission>,
    ) -> Option<Box<Place>> {
        admission.filter(|admission| plan.needs_place(admission))?;
        self.sessions[own?].access.as_mut()?.replace_place(None)
    }

    /// Counts kept sessions from now on for users that have a bound, however many there are: when the process starts, and after a
    /// reload.
    pub fn count_kept<'p>(&mut self, policy: impl Fn(&str) -> Option<&'p Arc<Policy>>) {
        for session in self.sessions.values_mut().filter(|session| session.expiry_s > 0) {
            let Some(access) = session.access.as_deref_mut() else { continue };
            let is_bounded = policy(access.auth()).is_some_and(|policy| policy.settings().limits.sessions > 0);
            if is_bounded != access.has_place() {
                let owner = || Owner::new(access.auth(), session.username.as_deref(), &session.client_id);
                let place = if is_bounded { self.shares.keep(owner(), u32::MAX).map(Box::new) } else { None };
                access.replace_place(place);
            }
        }
    }
}
