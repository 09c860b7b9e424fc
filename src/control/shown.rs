//! What the control plane shows at present: another view when the configuration changes.

use std::sync::{Arc, PoisonError, RwLock};

use axum::extract::FromRef;
use rustls::ServerConfig;

use super::{Described, Tokens, View};
use crate::metrics::collector::Boards;

/// See the module. A request takes the view that there is when it comes, and keeps it.
#[derive(Clone)]
pub struct Shown(Arc<RwLock<Arc<View>>>);

impl Shown {
    /// Shows this.
    #[must_use]
    pub fn new(view: View) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(view))))
    }

    /// The view at present.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// From the next request on these tokens are taken, and from the next connection on there is this TLS.
    pub fn admit(&self, tokens: Option<Arc<Tokens>>, tls: Option<Arc<ServerConfig>>) {
        let mut view = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *view = Arc::new(View { tokens, tls, ..View::clone(&view) });
    }

    /// Takes the tokens of the same file, which has changed, from the next request on. What is wrong with it, if it cannot be used.
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

    /// Shows the same with other sinks, clusters or listeners.
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
