//! The current view of the control plane, which is replaced when the configuration changes.

use std::sync::{Arc, PoisonError, RwLock};

use axum::extract::FromRef;
use rustls::ServerConfig;

use super::{Described, Tokens, View};
use forebay_metrics::collector::Boards;

/// Handle of the current view. A request takes the current view when it arrives, and keeps it.
#[derive(Clone)]
pub struct Shown(Arc<RwLock<Arc<View>>>);

impl Shown {
    /// Shows a view.
    #[must_use]
    pub fn new(view: View) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(view))))
    }

    /// Returns the current view.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sets the tokens from the next request on, and TLS from the next connection on.
    pub fn admit(&self, tokens: Option<Arc<Tokens>>, tls: Option<Arc<ServerConfig>>) {
        let mut view = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *view = Arc::new(View { tokens, tls, ..View::clone(&view) });
    }

    /// Reads the tokens' file again if it has changed, and uses them from the next request on; the error if the file cannot be used.
    pub fn renew_tokens(&self) -> Option<Result<(), String>> {
        match self.view().tokens.as_ref()?.renewed()? {
            Ok(tokens) => {
                let mut view = self.0.write().unwrap_or_else(PoisonError::into_inner);
                *view = Arc::new(View { tokens: Some(Arc::new(tokens)), ..View::clone(&view) });
                Some(Ok(()))
            }
            Err(why) => Some(Err(why)),
        }
    }

    /// Shows other boards and sinks, clusters or listeners, and otherwise the same.
    pub fn show(&self, boards: Arc<Boards>, described: Arc<Described>) {
        let mut view = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *view = Arc::new(View { boards, described, ..View::clone(&view) });
    }
}

impl FromRef<Shown> for Arc<View> {
    fn from_ref(shown: &Shown) -> Self {
        shown.view()
    }
}
