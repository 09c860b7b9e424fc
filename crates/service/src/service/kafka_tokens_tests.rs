//! The test's own clock; and a provider that lies, is slow and dies.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::mpsc::TryRecvError;

use super::*;
use forebay_guard::secure::{Secret, Url};

const LIFE: Duration = Duration::from_secs(1_000);

type AllTold = Rc<RefCell<Vec<Told>>>;
type Started = Rc<RefCell<usize>>;
type Tell = Box<dyn FnMut(Told)>;
type Start = Box<dyn Fn(&Arc<TokenEndpoint>) -> io::Result<()>>;

fn endpoint(name: &str) -> Arc<TokenEndpoint> {
    let url = Url::parse(&format!("https://id.example/{name}")).expect("a URL");
    let (client_id, secret_file) = ("forebay".to_owned(), "/no/such/secret".into());
    Arc::new(TokenEndpoint { url, client_id, secret_file, scope: None, ca_file: None })
}

fn granted(token: &str) -> Result<Granted, String> {
    Ok(Granted { token: Secret::new(token.into()), life: LIFE })
}

struct World {
    keeper: Keeper<Tell, Start>,
    told: AllTold,
    started: Started,
    now: Instant,
}

impl World {
    fn new() -> Self {
        let (told, started) = (AllTold::default(), Started::default());
        let (tell, begun) = (Rc::clone(&told), Rc::clone(&started));
        let tell: Tell = Box::new(move |what| tell.borrow_mut().push(what));
        let start: Start = Box::new(move |_| {
            *begun.borrow_mut() += 1;
            Ok(())
        });
        Self { keeper: Keeper { held: Vec::new(), tell, start }, told, started, now: Instant::now() }
    }

    /// A login asks. Returns the receiver of its answer.
    fn ask(&mut self, is_refused: bool) -> Receiver<Result<String, String>> {
        let (answer, answers) = channel();
        let answer: Answer = Box::new(move |said: Result<Prepared, String>| {
            let said = said.map(|prepared| match prepared {
                Prepared::Token(token) => String::from_utf8(token.expose().to_vec()).expect("text"),
                Prepared::Keys(_) => panic!("no token"),
            });
            // Some tests drop the receiver.
            let _ = answer.send(said);
        });
        self.keeper.asked(Asked { endpoint: endpoint("a"), is_refused, answer }, self.now);
        self.keeper.keep(self.now);
        answers
    }

    fn fetched(&mut self, granted: Result<Granted, String>) {
        self.keeper.fetched(&endpoint("a"), granted, self.now);
        self.keeper.keep(self.now);
    }

    /// Advances the time. Returns the number of fetches that have been started in all.
    fn after(&mut self, time: Duration) -> usize {
        self.now += time;
        self.keeper.keep(self.now);
        self.begun()
    }

    fn begun(&self) -> usize {
        *self.started.borrow()
    }

    /// The time until the thread's next wake-up.
    fn due_in(&self) -> Option<Duration> {
        let due = self.keeper.held.iter().filter_map(|held| held.due_at(self.now)).min();
        due.map(|due| due.saturating_duration_since(self.now))
    }
}

/// X63: a token is fetched once for all, and renewed at 80 % of its life.
#[test]
fn one_fetch_for_all_logins_and_the_next_at_four_fifths() {
    let mut world = World::new();
    let (one, other) = (world.ask(false), world.ask(false));
    assert_eq!((world.begun(), one.try_recv()), (1, Err(TryRecvError::Empty)));
    world.fetched(granted("first"));
    assert_eq!((one.recv(), other.recv()), (Ok(Ok("first".to_owned())), Ok(Ok("first".to_owned()))));
    assert_eq!(world.after(LIFE.mul_f64(0.79)), 1);
    assert_eq!(world.ask(false).try_recv(), Ok(Ok("first".to_owned())));
    assert_eq!(world.after(LIFE.mul_f64(0.011)), 2, "at four fifths");
    assert_eq!(world.ask(false).try_recv(), Ok(Ok("first".to_owned())), "it is good still");
    world.fetched(granted("second"));
    assert_eq!(world.ask(false).try_recv(), Ok(Ok("second".to_owned())));
    assert_eq!(*world.told.borrow(), [Told::Fetched, Told::Fetched]);
}

#[test]
fn a_token_that_no_login_uses_is_not_renewed_and_is_forgotten() {
    let mut world = World::new();
    drop(world.ask(false).try_recv());
    world.fetched(granted("first"));
    world.keeper.held[0].token.as_mut().expect("a token").is_used = false;
    assert_eq!(world.due_in(), Some(LIFE), "nothing to do before its end");
    assert_eq!(world.after(LIFE.mul_f64(0.99)), 1);
    assert_eq!(world.keeper.held.len(), 1);
    assert_eq!(world.after(LIFE.mul_f64(0.02)), 1);
    assert!(world.keeper.held.is_empty());
    assert!(world.ask(false).try_recv().is_err() && world.begun() == 2, "the next login has it fetched");
}

/// X63: a provider that is not reachable.
#[test]
fn a_provider_that_fails_is_asked_more_and_more_rarely_while_the_old_token_is_used() {
    let mut world = World::new();
    let waiting = world.ask(false);
    world.fetched(Err("gone".to_owned()));
    assert_eq!(waiting.recv(), Ok(Err("gone".to_owned())));
    assert_eq!(world.ask(false).try_recv(), Ok(Err("gone".to_owned())), "told at once");
    assert_eq!(world.begun(), 1);
    world.now += Duration::from_secs(1);
    let waiting = world.ask(false);
    assert_eq!(world.begun(), 2);
    world.fetched(granted("first"));
    assert_eq!(waiting.recv(), Ok(Ok("first".to_owned())));
    assert_eq!(world.after(LIFE.mul_f64(0.8)), 3);
    for (begun, wait) in (4..).zip([1, 2, 4, 8, 16, 30, 30]) {
        world.fetched(Err("gone".to_owned()));
        assert_eq!(world.ask(false).try_recv(), Ok(Ok("first".to_owned())), "it is good still");
        assert_eq!(world.due_in(), Some(Duration::from_secs(wait)));
        assert_eq!(world.after(Duration::from_secs(wait)), begun);
    }
    world.now += LIFE.mul_f64(0.2);
    world.fetched(Err("gone".to_owned()));
    assert_eq!(world.ask(false).try_recv(), Ok(Err("gone".to_owned())), "its time is over");
    assert!(world.due_in() > Some(Duration::from_secs(30)), "no login waits, so nothing is fetched");
    let firsts = |told: &&Told| matches!(told, Told::Failed { is_first: true, .. });
    assert_eq!(world.told.borrow().iter().filter(firsts).count(), 2, "said once in a row of failures");
}

#[test]
fn a_token_that_a_broker_refuses_is_replaced_but_not_all_the_time() {
    let mut world = World::new();
    drop(world.ask(false));
    world.fetched(Err("x".to_owned()));
    world.now += Duration::from_secs(1);
    let first = world.ask(false);
    world.fetched(granted("first"));
    assert_eq!(first.recv(), Ok(Ok("first".to_owned())));
    assert_eq!(world.ask(true).try_recv(), Ok(Ok("first".to_owned())), "it is new");
    assert_eq!(world.begun(), 2);
    world.now += AGAIN_AFTER;
    let (one, other) = (world.ask(true), world.ask(true));
    assert_eq!((world.begun(), one.try_recv()), (3, Err(TryRecvError::Empty)));
    assert_eq!(world.ask(false).try_recv(), Ok(Ok("first".to_owned())), "for others it is good still");
    world.fetched(granted("second"));
    assert_eq!((one.recv(), other.recv()), (Ok(Ok("second".to_owned())), Ok(Ok("second".to_owned()))));
    // Without a new token the old one is tried again.
    world.now += AGAIN_AFTER;
    let one = world.ask(true);
    world.fetched(Err("gone".to_owned()));
    assert_eq!(one.recv(), Ok(Ok("second".to_owned())));
}
