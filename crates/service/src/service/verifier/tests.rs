use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use super::*;
use forebay_guard::auth::{Claim, Judgement, Method, Policy, Refusal, Settings};

/// A hash by PBKDF2 with 100,000 iterations over `secret`: tens of milliseconds.
const SLOW: &str = include_str!("../verifier_hash.txt");

fn policy(dir: &std::path::Path) -> Arc<Policy> {
    let file = dir.join("passwords");
    std::fs::write(&file, format!("a:{}\n", SLOW.trim())).unwrap();
    let settings = Settings { password_file: Some(file), ..Settings::new("devices", &[Method::Password]) };
    Arc::new(Policy::load(&settings).unwrap())
}

fn question(policy: &Arc<Policy>, user: &str, password: &str) -> Question {
    match policy.judge(Claim { username: Some(user), password: Some(password.as_bytes()), ..Claim::default() }) {
        Judgement::Ask(question) => question,
        other => panic!("{other:?}"),
    }
}

type Said = (&'static str, Option<Answer>);

/// Verifiers that the test runs step by step.
struct Steps {
    policy: Arc<Policy>,
    verifiers: Verifiers,
    said: Sender<Said>,
    answers: Receiver<Said>,
    _dir: tempfile::TempDir,
}

impl Steps {
    fn new(bounds: Bounds) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (said, answers) = channel();
        let verifiers = Verifiers::without_threads(bounds).unwrap();
        Self { policy: policy(dir.path()), verifiers, said, answers, _dir: dir }
    }

    /// Asks a question from an address; dropping the result takes it back.
    fn ask(&self, name: &'static str, password: &str, from: &str) -> Option<Asked> {
        let said = self.said.clone();
        let answer = Box::new(move |answer| said.send((name, answer)).unwrap());
        let until = Instant::now() + Duration::from_secs(600);
        let from = Some(from.parse().unwrap()).filter(|from: &IpAddr| !from.is_loopback());
        self.verifiers.ask(Task { question: question(&self.policy, "a", password), from, until, answer })
    }

    fn shared(&self) -> &Shared {
        &self.verifiers.0.0
    }

    /// Does one step of work. Returns false if there is none.
    fn step(&self) -> bool {
        let next = self.shared().queue().next(Instant::now());
        next.map(|next| self.shared().carry_out(next)).is_some()
    }

    /// Does all quick work.
    fn look(&self) {
        while !self.shared().queue().is_looked_at() {
            assert!(self.step());
        }
    }

    fn heard(&self) -> Option<Said> {
        self.answers.try_recv().ok()
    }

    /// The user of the next slow comparison.
    fn next_slow(&self) -> &'static str {
        self.look();
        assert!(self.step());
        self.heard().expect("an answer").0
    }
}

/// X25, X26: known answers go first.
#[test]
fn what_is_known_goes_before_what_takes_long() {
    let steps = Steps::new(Bounds::DEFAULT);
    let _first = steps.ask("first", "secret", "192.0.2.1");
    steps.look();
    assert!(steps.heard().is_none(), "it takes long");
    steps.step();
    let (name, answer) = steps.heard().unwrap();
    assert_eq!((name, answer.unwrap().unwrap().identity.as_deref()), ("first", Some("a")));
    // The answer is known now: wrong passwords that were there before do not hold it up, though they have all the places of its address.
    let _wrong: Vec<_> = (0..64).map(|_| steps.ask("wrong", "guess", "192.0.2.1").unwrap()).collect();
    let _again = steps.ask("again", "secret", "192.0.2.1").unwrap();
    steps.look();
    assert!(matches!(steps.heard(), Some(("again", Some(Ok(_))))));
    assert!(steps.heard().is_none());
    steps.step();
    assert!(matches!(steps.heard(), Some(("wrong", Some(Err(Refusal::Credentials))))));
}

/// Finding S5: 64 questions of an address, an IPv6 network being one, and a bound on bytes; the address that has most makes room.
#[test]
fn finding_s5_what_waits_is_bounded_by_address_number_and_bytes() {
    let steps = Steps::new(Bounds { all: 6, of_address: 4, bytes: 100 });
    let waiting = || steps.verifiers.waiting();
    let guesses: Vec<_> =
        (1..=4).map(|host| steps.ask("guess", "guess", &format!("2001:db8::{host}")).unwrap()).collect();
    steps.look();
    assert!(steps.heard().is_none());
    // One more question is looked at before it is refused: its answer might be known.
    let _more = steps.ask("one more", "guess", "2001:db8::5").unwrap();
    steps.look();
    assert!(matches!(steps.heard(), Some(("one more", None))));
    let others = [
        steps.ask("other", "guess", "2001:db8:0:1::1").unwrap(),
        steps.ask("mapped", "guess", "::ffff:192.0.2.1").unwrap(),
    ];
    assert_eq!(waiting(), Waiting { questions: 6, bytes: 30 });
    // All places are taken: the newest question of the address with most is refused.
    let newest = steps.ask("newest", "guess", "192.0.2.2").unwrap();
    assert_eq!(waiting(), Waiting { questions: 6, bytes: 30 });
    steps.step();
    assert!(matches!(steps.heard(), Some(("guess", None))));
    // The address that would have most does not push others out.
    assert!(steps.ask("large", &"x".repeat(90), "192.0.2.3").is_none());
    drop((guesses, others, newest));
    while steps.step() {}
    // Bytes count in the same way, and a question above the bound of all never fits.
    let heavy = [0; 2].map(|_| steps.ask("heavy", &"x".repeat(45), "192.0.2.66").unwrap());
    let light = steps.ask("light", &"x".repeat(50), "192.0.2.3").unwrap();
    assert_eq!(waiting(), Waiting { questions: 2, bytes: 95 });
    assert!(steps.ask("too large", &"x".repeat(101), "192.0.2.4").is_none());
    drop((heavy, light));
    while steps.step() {}
    let ones: Vec<_> = (1..=6).map(|host| steps.ask("one", "guess", &format!("198.51.100.{host}")).unwrap()).collect();
    assert!(steps.ask("seventh", "guess", "198.51.100.7").is_none());
    drop(ones);
    assert_eq!(waiting(), Waiting::default());
    while steps.step() {}
    assert!(steps.shared().queue().is_empty());
}

/// Finding S5: addresses take turns, so one with many questions does not hold up another one that comes later.
#[test]
fn finding_s5_addresses_take_turns() {
    let steps = Steps::new(Bounds::DEFAULT);
    let _many: Vec<_> = (0..60).map(|_| steps.ask("many", "guess", "192.0.2.66").unwrap()).collect();
    let _local: Vec<_> = (0..100).map(|_| steps.ask("local", "guess", "127.0.0.1").unwrap()).collect();
    assert_eq!(steps.next_slow(), "many");
    let _late = steps.ask("late", "guess", "192.0.2.1");
    let order: Vec<_> = (0..5).map(|_| steps.next_slow()).collect();
    assert_eq!(order, ["local", "many", "late", "local", "many"]);
    // An address that asks and takes back all the time has one turn like the others.
    for _ in 0..1_000 {
        let gone = steps.ask("gone", "guess", "192.0.2.77");
        steps.look();
        drop(gone);
    }
    let _late = [0; 2].map(|_| steps.ask("twice", "guess", "192.0.2.77"));
    let order: Vec<_> = (0..4).map(|_| steps.next_slow()).collect();
    assert_eq!(order.iter().filter(|name| **name == "twice").count(), 1, "{order:?}");
}

/// X25: a question after its deadline is skipped, and so is one that was taken back, wherever it is.
#[test]
fn who_does_not_wait_any_more_costs_nothing() {
    let steps = Steps::new(Bounds::DEFAULT);
    let gone = |until| Task {
        question: question(&steps.policy, "a", "secret"),
        from: Some([192, 0, 2, 1].into()),
        until,
        answer: Box::new(|_| panic!("it is too late")),
    };
    let _late = steps.verifiers.ask(gone(Instant::now()));
    let _soon = steps.verifiers.ask(gone(Instant::now() + Duration::from_millis(20)));
    std::thread::sleep(Duration::from_millis(40));
    while steps.step() {}
    assert_eq!(steps.verifiers.waiting(), Waiting::default());
    // The question is taken back before it was looked at, after that, and while a thread works on it.
    let never = Instant::now() + Duration::from_secs(600);
    drop(steps.verifiers.ask(gone(never)));
    let asked = steps.verifiers.ask(gone(never));
    steps.look();
    drop(asked);
    let asked = steps.verifiers.ask(gone(never));
    let in_hand = steps.shared().queue().next(Instant::now()).unwrap();
    drop(asked);
    steps.shared().carry_out(in_hand);
    while steps.step() {}
    assert!(steps.shared().queue().is_empty());
}

#[test]
fn the_threads_answer() {
    let dir = tempfile::tempdir().unwrap();
    let policy = policy(dir.path());
    let verifiers = Verifiers::start(2).unwrap();
    let (said, answers) = channel();
    let asked: Vec<_> = ["secret", "guess", "secret"]
        .into_iter()
        .map(|password| {
            let said = said.clone();
            let answer = Box::new(move |answer: Option<Answer>| said.send(answer.unwrap().is_ok()).unwrap());
            let until = Instant::now() + Duration::from_secs(600);
            let question = question(&policy, "a", password);
            verifiers.ask(Task { question, from: None, until, answer }).unwrap()
        })
        .collect();
    let mut all: Vec<bool> = (0..3).map(|_| answers.recv().unwrap()).collect();
    all.sort_unstable();
    assert_eq!(all, [false, true, true]);
    drop(asked);
    // The threads end with the last handle.
    let shared = Arc::downgrade(&verifiers.0.0);
    drop(verifiers);
    let deadline = Instant::now() + Duration::from_secs(60);
    while shared.strong_count() > 0 {
        assert!(Instant::now() < deadline, "the threads go on");
        std::thread::sleep(Duration::from_millis(5));
    }
}
