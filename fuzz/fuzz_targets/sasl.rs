//! A login to a server that lies: whatever it says, nobody believes that he is logged in by SCRAM who has no proof of it, nor
//! with a token that was refused; and nobody is kept busy.
#![no_main]

use std::sync::Arc;

use forebay_fuzz::secure::Secret;
use forebay_fuzz::secure::sasl::{Credentials, Exchange, Mechanism, Next, Prepared, Task};
use forebay_fuzz::secure::scram::{Derivation, Hash};
use libfuzzer_sys::fuzz_target;

/// Where a server's message has this, it has the client's nonce.
const NONCE: &str = "{nonce}";

fuzz_target!(|input: (u8, Vec<&[u8]>)| {
    let (which, messages) = input;
    let mechanism =
        [Mechanism::Plain, Mechanism::OauthBearer, Mechanism::Scram(Hash::Sha256), Mechanism::Scram(Hash::Sha512)]
            [usize::from(which) % 4];
    let (user, password) = ("user".to_owned(), Secret::new(b"pencil".to_vec()));
    let credentials = Credentials { mechanism, user, password, token: None, extensions: Vec::new() };
    let mut exchange = Exchange::new(Arc::new(credentials));
    let mut next = exchange.begin();
    let mut nonce = String::new();
    let mut messages = messages.into_iter();
    loop {
        match next {
            Err(_) => return,
            Ok(Next::Done) => {
                assert!(!matches!(mechanism, Mechanism::Scram(_)), "without a proof");
                assert!(exchange.refusal().is_none(), "refused, and logged in");
                return;
            }
            Ok(Next::Send(message)) => {
                if let Some(own) =
                    String::from_utf8(message).ok().as_deref().and_then(|m| m.strip_prefix("n,,n=user,r="))
                {
                    nonce = own.to_owned();
                }
                let Some(answer) = messages.next() else { return };
                let answer = match std::str::from_utf8(answer) {
                    Ok(text) if which >= 128 => format!("r={nonce}{}", text.replace(NONCE, &nonce)).into_bytes(),
                    Ok(text) => text.replace(NONCE, &nonce).into_bytes(),
                    Err(_) => answer.to_vec(),
                };
                next = exchange.answered(&answer);
            }
            Ok(Next::Prepare(Task::Token { .. })) => {
                next = exchange.prepared(Ok(Prepared::Token(Secret::new(b"token".to_vec()))));
            }
            Ok(Next::Prepare(Task::Derive(_))) => {
                // Not those that were asked for, which may take long: a server that knows the right ones does not lie.
                let Mechanism::Scram(hash) = mechanism else { panic!("nothing is derived for {mechanism:?}") };
                let other = Derivation::new(hash, Secret::new(b"other".to_vec()), b"salt".to_vec(), 1).keys();
                next = exchange.prepared(Ok(Prepared::Keys(Arc::new(other))));
            }
        }
    }
});
