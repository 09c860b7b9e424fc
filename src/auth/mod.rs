//! Who may connect, and what may be touched: password files, chains of methods, access control lists. No socket, no thread and no
//! clock is named here; what takes long is handed out as a [`Question`].

mod access;
pub mod acl;
mod enhanced;
pub mod password;
mod policy;
mod proofs;
mod users;

pub use self::access::Access;
pub use self::enhanced::{Exchange, SCRAM};
pub use self::policy::{
    Admission, Answer, By, Claim, ClientIds, Judgement, Method, Policy, Question, Refusal, Settings, Takeover,
};
pub use self::proofs::{Proof, Proofs};
pub use self::users::Users;
