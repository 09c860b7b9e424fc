//! Authentication and authorization: password files, tokens, chains of methods, access control lists. No socket, no thread and no
//! clock is named here; slow checks are handed out as a [`Question`].

mod access;
pub mod acl;
mod decoys;
mod enhanced;
pub mod jwt;
mod limits;
mod pace;
pub mod password;
mod permission;
mod policy;
mod problems;
mod proofs;
mod question;
mod shares;
pub mod users;

pub use self::access::Access;
pub use self::decoys::KEY_FILE as DECOY_KEY_FILE;
pub use self::enhanced::{Exchange, SCRAM};
pub use self::limits::Limits;
pub use self::pace::Pace;
pub use self::permission::{Basis, Permission};
pub use self::policy::{Admission, By, Claim, ClientIds, Judgement, Method, Policy, Refusal, Role, Settings, Takeover};
pub use self::proofs::{Proof, Proofs};
pub use self::question::{Answer, Question};
pub use self::shares::{Full, Owner, Place, Share, Shares};
pub use self::users::Users;
