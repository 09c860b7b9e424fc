//! CPU time of dear rules by the step that they are charged, for the bounds in `crates/rule/src/arena.rs`. It hangs on the machine.

use forebay::mqtt::property::Properties;
use forebay::rule::arena::Arena;
use forebay::rule::around::Machine;
use forebay::rule::message::{Given, Id, Message};
use forebay::rule::program::{Input, Program};
use forebay::rule::template::MessageContext;

/// A payload, and what is done with it once and as often as the bounds let it.
const RULES: &str = r"
long: strlen(payload)
emoji: strlen(payload)
emoji: reverse(payload)
emoji: substr(payload, 100000)
long: trim(payload, 'bcdefghijklmnopqrstuvwxyza')
long: ltrim(payload, 'ébcdefghijklmnopqrstuvwxyza')
long: find(payload, 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab')
long: replace(payload, 'a', 'bb')
words: split(payload, ' ')
words: tokens(payload, 'xyz d')
long: upper(payload)
long: unescape(payload)
slashes: unescape(payload)
long: regex_match(payload, '(a|aa)*[ab]{60}c')
long: regex_match(payload, '(a|b)*a(a|b){60}[^ab]')
short: regex_match(payload, '(a|b)*a(a|b){60}[^ab]')
long: regex_extract(payload, '(a*)(a*)(a*)(a*)$')
short: regex_extract(payload, '(a*)(a*)(a*)(a*)$')
short: regex_replace(payload, '.*[^a]|a', 'b')
long: regex_replace(payload, '(a)(a?){30}', 'b')
words: regex_replace(payload, '([a-z]+) ([a-z]+)', '\2')
long: sha256(payload)
long: hash('sha512', payload)
long: md5(payload)
long: base64_encode(payload)
long: bin2hexstr(payload)
short: gunzip(gzip(payload))
numbers: json_decode(payload)
numbers: payload[5]
controls: json_encode(payload)
slashes: json_encode(payload)
numbers: sprintf_s('~p', [payload])
objects: payload
objects: payload[999].c[4].d
objects: json_encode(json_decode(payload))
wide: map_to_entries(payload)
wide: mput('x', 1, mput('y', 1, payload))
wide: payload.m95000
escaped: strlen(payload.e)
small: [1..3000]
small: str(payload.large)
small: sprintf('~.60f', payload.large)
small: float2str(payload.large, 60)
small: now_rfc3339()
small: format_date('millisecond', '+02:00', '%Y-%m-%d %H:%M:%S.%3N%z')
small: date_to_unix_ts('second', '+08:00', '%Y-%m-%d %H:%M:%S', payload.time)
small: uuid_v4()
small: id
small: power(payload.a, 100.5)
small: pad(payload.b, 100000)
small: pad(payload.b, 9000, 'both', 'é')
small: sha256(payload)
small: regex_match(payload.b, '(a?){300}b')
small: regex_extract(payload.b, '(x)(y)(z)')
";

/// Prints what those rules cost whose text has `only` in it.
pub(crate) fn print(only: Option<&str>) {
    println!("{:>8} {:>9} {:>9} {:>8}  what", "us", "steps", "ns/step", "outcome");
    for line in RULES.lines().filter(|line| only.is_none_or(|only| line.contains(only))) {
        let Some((payload, what)) = line.split_once(": ") else { continue };
        let payload = payload_of(payload);
        let often = [what; 8].join(", ");
        let each = format!("FOREACH [1..1000] AS n DO [{often}] AS x INCASE {what} != [n] FROM \"t\"");
        for (kind, sql) in [("once", format!("SELECT {what} AS x FROM \"t\"")), ("each", each)] {
            let program = Program::compile(&sql, "r").unwrap_or_else(|error| panic!("{sql}: {error:?}"));
            let (ns, steps, outcome) = measure(&program, &payload);
            println!("{:>8} {steps:>9} {:>9} {outcome:>8}  {kind} {what}", ns / 1_000, ns / steps.max(1));
        }
    }
}

fn payload_of(name: &str) -> String {
    let list = |count: usize, item: &dyn Fn(usize) -> String| (0..count).map(item).collect::<Vec<_>>().join(",");
    match name {
        "long" => "a".repeat(200_000),
        "short" => "a".repeat(2_000),
        "slashes" => "\\\\".repeat(100_000),
        "controls" => "\u{1}\n".repeat(100_000),
        "words" => "ab cd ".repeat(20_000),
        "emoji" => "👨‍👩‍👧e\u{301}".repeat(4_000),
        "numbers" => format!("[{}]", list(30_000, &|n| (n as f64 * 1.25).to_string())),
        "objects" => {
            format!("[{}]", list(1_000, &|n| format!(r#"{{"a":{n},"b":"text {n}","c":[1,2,3,{{"d":1.5}}]}}"#)))
        }
        "wide" => format!("{{{}}}", list(5_000, &|n| format!(r#""m{}":{n}"#, 99_999 - n))),
        "escaped" => format!(r#"{{"e":"{}"}}"#, r"\u00e9".repeat(20_000)),
        _ => r#"{"a":2.5,"b":"xyz","large":1.5e300,"time":"2024-02-29 12:00:00"}"#.to_owned(),
    }
}

/// CPU time and steps of an evaluation, and how it ends.
fn measure(program: &Program, payload: &str) -> (u64, u64, &'static str) {
    let context = MessageContext {
        topic: "t",
        client_id: "c",
        qos: 1,
        packet_id: 1,
        payload: payload.as_bytes(),
        timestamp_ms: 1_790_000_000_000,
        ..MessageContext::default()
    };
    let given = Given::default();
    let message = Message { context, id: Id::Number(5), peerhost: None, peername: None, node: "n", given };
    let (machine, mut arena, mut out) = (Machine::bare(), Arena::new(), Vec::new());
    let around = machine.around(1_790_000_000_000, 7);
    let (began, mut count) = (cpu_ns(), 0);
    loop {
        let mut input = Input::new(&message, &around, &mut arena);
        let result = program.evaluate(&mut input, |output| {
            out.clear();
            output.write(&mut out)
        });
        count += 1;
        if count % 8 == 0 || input.steps() > 5_000 {
            let ns = cpu_ns() - began;
            if ns > 40_000_000 || count == 20_000 {
                return (ns / count, input.steps(), if result.is_ok() { "ok" } else { "failed" });
            }
        }
    }
}

/// CPU time of this thread. The kernel brings it up to date when the thread leaves the CPU.
fn cpu_ns() -> u64 {
    std::thread::yield_now();
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    text.split(' ').next().and_then(|ns| ns.parse().ok()).expect("a number")
}
