//! Edge cases of the language, as in EMQX's engine, or as in `docs/SQL.md` where EMQX has none.

use super::{first_output, outputs};

/// The value of an expression, as JSON; a code if it fails.
fn value(expression: &str, payload: &str) -> String {
    let sql = format!("SELECT {expression} AS x FROM \"t/#\"");
    match first_output(&sql, payload) {
        Ok(output) => {
            output.strip_prefix("{\"x\":").and_then(|rest| rest.strip_suffix('}')).expect("one column").to_owned()
        }
        Err(code) => code,
    }
}

/// `expression => value`, one a line.
fn all(payload: &str, rows: &str) {
    let mut wrong = Vec::new();
    for row in rows.lines().map(str::trim).filter(|row| !row.is_empty()) {
        let (expression, want) = row.rsplit_once(" => ").expect("a row");
        let found = value(expression, payload);
        if found != want {
            wrong.push(format!("{expression}: want {want}, have {found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn comparisons() {
    all(
        r#"{"one":1,"f":1.0,"t":"1","n":null,"o":{"a":1},"a":[1,2],"a2":[1.0,2],"big":123456789012345678901234567890,"b":true,"bad":"abc","e":"","inner":"{\"x\":[7]}"}"#,
        r#"
        nosuch = nosuch2 => true
        nosuch != nosuch2 => false
        nosuch <= nosuch2 => true
        nosuch < 1 => false
        nosuch != 1 => false
        payload.t = 1 => true
        payload.t >= 1.0 => true
        '1.5' > 1 => true
        '1.5' = 1 => false
        payload.bad > 1 => decode
        payload.e = 1 => decode
        '1e3' = 1000 => decode
        true = 'true' => true
        payload.n = 'null' => true
        payload.b > 'a' => true
        1 = 1.0 => true
        payload.a = payload.a2 => true
        payload.n > 1 => true
        false < payload.n => true
        payload.n < true => true
        true < payload.o => true
        payload.o < payload.a => true
        payload.a < 'x' => true
        payload.o = map('{"a":1.0}') => true
        payload.big > 9223372036854775807 => true
        payload.big > 1.0e29 => true
        payload.big < 1.3e29 => true
        payload.big = payload.big => true
        9007199254740993 > 9007199254740992.0 => true
        'b' > 'a' => true
        topic =~ 't/+/b' => true
        topic =~ 't/+' => false
        nosuch =~ 't/+' => false
        payload.t IN (1, 2) => false
        payload.one IN (1.0) => false
        payload.one IN (3, 1) => true
        payload.one NOT IN (3, 4) => true
        contains('1', payload.a) => false
        eq(1, 1.0) => true
        CASE payload.one WHEN 1.0 THEN 'a' WHEN 1 THEN 'b' END => "b"
        CASE WHEN payload.one > 1 THEN 'a' END => null
        payload.inner.x[1] => 7
        payload.one = 1 AND payload.b => true
        payload.one AND true => type
        false AND payload.one => false
        true OR payload.one => true
        NOT payload.one => false
        NOT nosuch => false
        NOT false => true
        "#,
    );
}

#[test]
fn arithmetic() {
    all(
        r#"{"big":99999999999999999999,"t":"a"}"#,
        r#"
        6 / 2 => 3.0
        1 / 0 => domain
        -7 div 2 => -3
        -7 mod 2 => -1
        7 mod 0 => domain
        -9223372036854775808 div -1 => limit
        -9223372036854775808 mod -1 => 0
        7.5 div 2 => type
        '1' - 1 => type
        1 + '2' => "12"
        1.5 + 'x' => "1.5x"
        payload.t + null() => "aundefined"
        nosuch + 1 => type
        1 + true => type
        9223372036854775807 + 1 => limit
        payload.big + 1 => limit
        payload.big => 99999999999999999999
        1e22 * 1 => 1e+22
        1e-7 * 1 => 1e-7
        1.5e300 * 1.5e300 => domain
        0.1 + 0.2 => 0.30000000000000004
        123456789012.5 + 0 => 123456789012.5
        -(2) => -2
        +'1' => type
        2 + 3 * 4 => 14
        "#,
    );
}

#[test]
fn values_keep_their_text() {
    all(
        r#"{"x": 2.50, "o": {"z": 1 , "a":[ 1]}, "s":"a\u00e9\n", "e":1.0e3}"#,
        "payload.x => 2.50\npayload.o => {\"z\": 1 , \"a\":[ 1]}\npayload.s => \"aé\\n\"\npayload.e => 1.0e3",
    );
    assert_eq!(
        first_output("SELECT * FROM \"t/#\"", "{\"a\": 1}").expect("an output"),
        concat!(
            r#"{"username":"u1","topic":"t/a/b","timestamp":1700000000000,"qos":1,"publish_received_at":1700000000000,"#,
            r#""pub_props":{"User-Property":{"k":"v"}},"peerhost":"127.0.0.1","payload":"{\"a\": 1}","node":"emqx@127.0.0.1","#,
            r#""metadata":{"rule_id":"r"},"id":"0006","flags":{"retain":false,"dup":false},"event":"message.publish","clientid":"c1","client_attrs":{}}"#
        )
    );
}

#[test]
fn functions_at_their_edges() {
    all(
        r#"{"l":[1,2,3],"o":{"a":{"b":1},"a":{"c":2}},"n":null,"e":[],"d":{"a.b":5},"no":"x"}"#,
        r#"
        abs(-1.5) => type
        ceil(-0.5) => 0
        round(4.5) => 5
        int(-3.9) => -4
        int('+5') => 5
        int('1e3') => decode
        int(1e30) => limit
        sqrt(-1) => domain
        log(0) => domain
        power(0, -1) => domain
        str(1e22) => "10000000000000000000000.0"
        str(1.0) => "1.0"
        str(nosuch) => "undefined"
        str([104,105]) => "[104,105]"
        bool('True') => decode
        bool(2) => type
        float('1e3') => decode
        float('1.25', 1) => 1.2
        float2str(1.5, 3) => "1.5"
        map('[1]') => type
        map('x') => decode
        is_empty('') => true
        is_empty('[]') => type
        is_empty('{}') => true
        is_empty(payload.e) => true
        is_null(payload.n) => false
        is_null_var(payload.n) => true
        is_null(nosuch) => true
        is_map(payload) => false
        coalesce(nosuch, payload.n, 1) => null
        coalesce([nosuch, 2]) => 2
        coalesce_ne(payload.n, '', 3) => 3
        upper(nosuch) => type
        upper(payload.n) => type
        substr('abc', -1) => domain
        substr('abc', 9) => ""
        strlen('👨‍👩‍👧é') => 2
        reverse('éa') => "aé"
        pad('a', 3, 'both', 'xy') => "xyaxy"
        pad('a', 99999999) => limit
        concat('a', payload.n) => "anull"
        concat('a', nosuch) => "aundefined"
        split('a,b,,c', ',', 'notrim') => ["a","b","","c"]
        split('a,b,c', ',', 'trailing') => ["a,b","c"]
        find('abc', 'x') => ""
        find('a.b.c', '.', 'trailing') => ".c"
        replace('a.b.c', '.', '-', 'trailing') => "a.b-c"
        rm_prefix('abc', 'x') => "abc"
        ascii('') => domain
        trim('xax', 'x') => "a"
        unescape('\q') => decode
        unescape('\x4') => decode
        unescape('a\\nb') => "a\\nb"
        sprintf('~p ~p', 'a', payload.n) => "\"a\" null"
        sprintf('~b~~~n~c', 5, 65) => "5~\nA"
        sprintf('~e', 1.5) => "1.50000e+0"
        sprintf('~ts ~tp~n', 'é', 1) => "é 1\n"
        map_to_range(13, 0, 9) => 3
        map_to_range('ab', 5, 14) => 5
        map_to_range(1, 2, 1) => domain
        hash_to_range('', 1, 256) => 86
        sprintf('~s', 1) => type
        sprintf_s('~s', []) => domain
        regex_extract('abc', 'x(.)') => []
        regex_extract('abc', 'b') => []
        regex_extract('abc', '(b)(z)?') => ["b",""]
        regex_replace('abab', '(a)b', '<\1&>') => "<aab><aab>"
        map_get('a.b', payload.o) => null
        map_get('a.c', payload.o) => 2
        map_get('x', payload.no, 7) => 7
        map_get('x', nosuch) => null
        mget('x', payload.no) => decode
        mget('a.b', payload.d) => 5
        map_put('a.b.c', 1, payload.d) => {"a.b":5,"a":{"b":{"c":1}}}
        map_put('a.b', 1, nosuch) => {"a":{"b":1}}
        mput('a.b', 1, nosuch) => {"a.b":1}
        map_put('a', 1, 7) => type
        map_keys('{"b":1,"a":2}') => ["a","b"]
        nth(0, payload.l) => domain
        nth(4, payload.l) => domain
        first(payload.e) => domain
        sublist(2, payload.l) => [1,2]
        sublist(5, 2, payload.l) => []
        payload.l[0] => null
        payload.l[-1] => 3
        payload.l[4] => null
        payload.l[2..9] => [2,3]
        payload.l[-2..-1] => [2,3]
        [1..3] => [1,2,3]
        [3..1] => []
        [1..99999999] => limit
        hash('sha512', '') => "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e"
        hash('x', '') => domain
        gunzip('x') => decode
        bitsl(1, 70) => limit
        bitsl(1, 63) => limit
        bitsr(-16, 2) => -4
        subbits('abc', 8) => 97
        subbits('abc', 100, 8) => null
        subbits('abc', 17, 16) => 99
        subbits('abc', 1, 16, 'bits') => "ab"
        subbits(hexstr2bin('FF'), 1, 8, 'integer', 'signed') => -1
        subbits(hexstr2bin('C500'), 1, 16, 'float') => -5.0
        subbits(hexstr2bin('003C'), 1, 16, 'float', 'unsigned', 'little') => 1.0
        subbits(hexstr2bin('0200'), 1, 16, 'float') * 32768 => 1.0
        subbits(hexstr2bin('7C00'), 1, 16, 'float') => domain
        hexstr2bin('4') => "\u0004"
        hexstr2bin('41', '0x') => decode
        base64_encode('a?>', 'urlsafe') => "YT8-"
        base64_decode('YQ', 'no_padding') => "a"
        base64_decode('?') => decode
        base64_decode(base64_encode(pad('', 2000))) = pad('', 2000) => true
        json_decode('{bad') => decode
        json_encode(1.0) => "1.0"
        topic(4) => domain
        topic(0) => domain
        payload('l') => [1,2,3]
        format_date('second', '+08:00:30', '%d/%m %:::z %N %6N %::z', 1) => "01/01 %:::z 000000000 000000 +08:00:30"
        format_date('millisecond', 0, '%Y-%m-%dT%H:%M:%S.%3N%z', 1654770000123) => "2022-06-09T10:20:00.123+0000"
        format_date('second', '08:00', '%Y', 1) => decode
        date_to_unix_ts('second', '+08:00', '%Y%m%d', '19700102') => 57600
        date_to_unix_ts('millisecond', '%Y-%m-%d %H:%M:%S.%3N%z', '1970-01-01 00:00:01.005+0000') => 1005
        date_to_unix_ts('second', '%Y', 'x') => decode
        date_to_unix_ts('second', '%Y-%m-%d %H:%M:%S%:z', '1970-01-01 00:00:05') => 5
        date_to_unix_ts('second', '+01:00', '%Y%m%d%:z', '19700102') => 82800
        unix_ts_to_rfc3339(1654770000) => "2022-06-09T10:20:00+00:00"
        unix_ts_to_rfc3339(1654770000123, 'millisecond') => "2022-06-09T10:20:00.123+00:00"
        unix_ts_to_rfc3339(1.5) => type
        rfc3339_to_unix_ts('2022-06-09T10:20:00+08:00', 'millisecond') => 1654741200000
        now_timestamp('millisecond') => 1700000000123
        now_rfc3339('microsecond') => "2023-11-14T22:13:20.123456+00:00"
        getenv('KAFKA_TOPIC') => "testtopic-in"
        getenv('EMQXVAR_KAFKA_TOPIC') => "testtopic-in"
        getenv('HOME') => ""
        "#,
    );
}

#[test]
fn names_and_targets() {
    for (sql, payload, want) in [
        // The payload in WHERE is the column that the list has written.
        ("SELECT payload.x FROM \"t\" WHERE is_null(payload.y)", r#"{"x":1,"y":2}"#, r#"{"payload":{"x":1}}"#),
        ("SELECT payload.x, payload.y FROM \"t\"", r#"{"x":1,"y":2}"#, r#"{"payload":{"y":2,"x":1}}"#),
        ("SELECT payload, payload.x FROM \"t\"", r#"{"x":1,"y":2}"#, r#"{"payload":{"y":2,"x":1}}"#),
        ("SELECT payload, 2 as payload.ind FROM \"t\"", r#"{"a":1}"#, r#"{"payload":{"ind":2,"a":1}}"#),
        ("SELECT payload, 2 as payload.ind FROM \"t\"", "no", "decode"),
        ("SELECT 1 AS a.b, 2 AS a.c FROM \"t\"", "", r#"{"a":{"c":2,"b":1}}"#),
        ("SELECT [1,2] AS l, 9 AS l[2], 0 AS l[0], 3 AS l[-0], 5 AS l[9] FROM \"t\"", "", r#"{"l":[0,1,9,3]}"#),
        ("SELECT 1 AS l[1].x FROM \"t\"", "", r#"{"l":[{"x":1}]}"#),
        ("SELECT clientid, 1 AS clientid.x FROM \"t\"", "", r#"{"clientid":{"x":1}}"#),
        ("SELECT payload.x AS qos, qos AS q FROM \"t\" WHERE qos = 9", r#"{"x":9}"#, r#"{"qos":9,"q":9}"#),
        ("SELECT nosuch AS qos, qos AS q FROM \"t\"", "", r#"{"qos":null,"q":1}"#),
        ("SELECT 1 + 1, 'x' FROM \"t\"", "", r#"{"_2":"x","_1":2}"#),
        ("SELECT 1 AS b, 2 AS b FROM \"t\" WHERE b = 2", "", r#"{"b":2}"#),
        ("SELECT payload.a AS a, a + 1 AS b, 1 / 0 AS c FROM \"t\" WHERE b = 9", r#"{"a":1}"#, ""),
        ("SELECT qos FROM \"t\" WHERE topic() = 't/a/b' AND clientid() = 'c1'", "", r#"{"qos":1}"#),
        ("SELECT payload.x FROM \"t\"", "[1", "decode"),
        // A text within the payload need not be JSON.
        ("SELECT payload.s.x AS x FROM \"t\"", r#"{"s":""}"#, r#"{"x":null}"#),
        ("SELECT payload FROM \"t\"", "[1", r#"{"payload":"[1"}"#),
        (
            "SELECT flags.retain AS r, pub_props.'User-Property'.k AS k, \"topic\" AS t FROM \"t\"",
            "",
            r#"{"t":"t/a/b","r":false,"k":"v"}"#,
        ),
        ("SELECT payload.x.y AS a, payload.s.z AS b FROM \"t\"", r#"{"x":1,"s":"{\"z\":2}"}"#, r#"{"b":2,"a":null}"#),
        ("SELECT qos FROM \"t\" WHERE 1", "", "type"),
        ("SELECT qos FROM \"t\" WHERE nosuch", "", "type"),
        (
            "SELECT getenv(`EMQXVAR_KAFKA_TOPIC`) as kafka_topic, payload FROM \"t/#\"",
            "payload string",
            r#"{"payload":"payload string","kafka_topic":"testtopic-in"}"#,
        ),
    ] {
        let found = first_output(sql, payload).unwrap_or_else(|code| code);
        assert_eq!(found, want, "{sql} {payload}");
    }
}

#[test]
fn foreach() {
    for (sql, payload, want) in [
        (
            "FOREACH payload.s AS s DO s.n AS n, clientid AS c INCASE s.n > 1 FROM \"t\"",
            r#"{"s":[{"n":1},{"n":2},{"n":3}]}"#,
            vec![r#"{"n":2,"c":"c1"}"#, r#"{"n":3,"c":"c1"}"#],
        ),
        ("FOREACH payload.s DO item.n AS n FROM \"t\"", r#"{"s":[{"n":1}]}"#, vec![r#"{"n":1}"#]),
        ("FOREACH payload.s DO item FROM \"t\"", r#"{"s":[1,"a"]}"#, vec![r#"{"item":1}"#, r#"{"item":"a"}"#]),
        ("FOREACH payload DO item AS i FROM \"t\"", "[1,2]", vec![r#"{"i":1}"#, r#"{"i":2}"#]),
        (
            "FOREACH payload.d AS d, payload.s AS s DO d, s AS n FROM \"t\" WHERE d = 4",
            r#"{"d":4,"s":[1]}"#,
            vec![r#"{"n":1,"d":4}"#],
        ),
        ("FOREACH payload.s AS s DO s FROM \"t\"", r#"{"s":7}"#, vec![]),
        ("FOREACH payload.s AS s DO s FROM \"t\"", r#"{}"#, vec![]),
        ("FOREACH payload.s AS s DO s FROM \"t\"", r#"{"s":"[5]"}"#, vec![r#"{"s":5}"#]),
        ("FOREACH [1..2] AS n DO n, n * 2 AS m FROM \"t\"", "", vec![r#"{"n":1,"m":2}"#, r#"{"n":2,"m":4}"#]),
        ("FOREACH payload.s AS s INCASE s > 1 FROM \"t\" WHERE qos = 0", r#"{"s":[1]}"#, vec![]),
        // A column of one item does not stay for the next one.
        (
            "FOREACH payload.s AS s DO CASE WHEN s = 1 THEN 'x' END AS a.b, 1 AS a.c FROM \"t\"",
            r#"{"s":[1,2]}"#,
            vec![r#"{"a":{"c":1,"b":"x"}}"#, r#"{"a":{"c":1,"b":null}}"#],
        ),
    ] {
        assert_eq!(
            outputs(sql, payload),
            Ok(want.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()),
            "{sql} {payload}"
        );
    }
    let all = outputs("FOREACH payload.s AS s FROM \"t\"", r#"{"s":[1,2]}"#).expect("outputs");
    assert!(
        all.len() == 2
            && all[0].contains(r#""topic":"t/a/b""#)
            && all[0].contains(r#""s":1,"#)
            && all[1].contains(r#""s":2,"#),
        "{all:?}"
    );
    let long = format!("[{}1]", "1,".repeat(1_000));
    assert_eq!(outputs("FOREACH payload AS s DO s FROM \"t\"", &long), Err("limit".to_owned()));
}

#[test]
fn what_a_rule_may_cost() {
    let wide = format!("[{}1]", "1,".repeat(900));
    // Each item looks through all items.
    let sql = "FOREACH payload AS s DO contains(0, json_decode(payload)) AS c FROM \"t\"";
    assert_eq!(outputs(sql, &wide), Err("limit".to_owned()));
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(80), "]".repeat(80));
    assert_eq!(outputs("SELECT payload.a AS a FROM \"t\"", &deep), Err("limit".to_owned()));
    let bomb = "SELECT gunzip(gzip(pad('', 20000))) AS a FROM \"t\"";
    assert_eq!(outputs(bomb, "").map(|outputs| outputs.len()), Ok(1));
    let doubled = "SELECT pad('', 100000) AS a, a + a AS b, b + b AS c, c + c AS d, d + d AS e, e + e AS f FROM \"t\"";
    assert_eq!(outputs(doubled, ""), Err("limit".to_owned()));
}

#[test]
fn values_nest_as_deep_as_json() {
    let nested =
        |levels: usize| format!("SELECT 1 AS a, {} json_encode(a) = '' AS b FROM \"t\"", "[a] AS a, ".repeat(levels));
    assert!(first_output(&nested(100), "").is_ok());
    assert_eq!(outputs(&nested(1_000), ""), Err("limit".to_owned()));
    let compared = format!("SELECT 1 AS a, {} a = [a] AS b FROM \"t\" WHERE b", "[a] AS a, ".repeat(1_000));
    assert_eq!(outputs(&compared, ""), Err("limit".to_owned()));
}

#[test]
fn programs_are_shared_by_threads() {
    fn is_shared<T: Send + Sync>(_: &T) {}
    is_shared(&crate::program::Program::compile("SELECT * FROM t", "r").expect("a rule"));
}

#[test]
fn rules_that_are_none() {
    for (sql, what) in [
        ("SELECT nosuchfn(1) AS a FROM \"t\"", "there is no function `nosuchfn`"),
        ("SELECT uper('a') FROM \"t\"", "did you mean `upper`?"),
        ("SELECT upper('a', 'b') FROM \"t\"", "upper takes 1 argument, here are 2 (upper(text))"),
        ("SELECT term_encode(1) FROM \"t\"", "json_encode"),
        ("SELECT kv_store_put('a', 1) FROM \"t\"", "shards share nothing"),
        ("SELECT schema_decode('x', payload) FROM \"t\"", "schemas"),
        ("SELECT regex_match(payload, '(?=a)') FROM \"t\"", "the pattern cannot be used: look-around"),
        ("SELECT regex_match(payload, '(a)\\1') FROM \"t\"", "the pattern cannot be used: backreferences"),
        (
            "SELECT regex_match(payload, topic) FROM \"t\"",
            "the pattern of regex_match is a text that stands in the rule",
        ),
        ("SELECT sprintf('~q', 1) FROM \"t\"", "`~q` is no directive"),
        ("SELECT sprintf('~s~s', 'a') FROM \"t\"", "the format takes 2 values, here are 1"),
        ("SELECT sprintf(topic, 'a') FROM \"t\"", "the format of sprintf"),
        ("SELECT 1 FROM \"$share/g/t\"", "shared subscription"),
        ("SELECT 1 FROM \"a#\"", "`a#` is no topic filter"),
        ("SELECT 1 FROM \"$events/message_delivered\"", "is not supported yet"),
        ("FOREACH * FROM \"t\"", "ends with an array"),
        ("FOREACH payload AS a.b FROM \"t\"", "has a name, not a path"),
    ] {
        let error = outputs(sql, "").expect_err(sql);
        assert!(error.starts_with("sql: ") && error.contains(what), "{sql}: {error}");
    }
}

#[test]
fn warnings() {
    let warned = |sql: &str| -> Vec<String> {
        let program = crate::program::Program::compile(sql, "r").expect("a rule");
        program.warnings().iter().map(|warning| format!("{}: {warning}", warning.place.of(sql))).collect()
    };
    assert_eq!(
        warned("SELECT payload.x AS x, clientid FROM \"t\" WHERE x > 1 AND payload.y = 2"),
        Vec::<String>::new()
    );
    for (sql, want) in [
        ("SELECT clientId FROM \"t\"", "clientId: `clientId` is always absent (did you mean `clientid`?)"),
        ("SELECT qos FROM \"t\" WHERE payload.x = null", "null: `null` is always absent (is_null(x) asks"),
        ("SELECT qos + 1 FROM \"t\"", "qos + 1: this column has no name and becomes `_1` (name it with AS)"),
        ("SELECT sqrt(-1) AS a FROM \"t\"", "sqrt(-1): this always fails: the result is no number"),
        ("SELECT 1 AS a, 2 AS a FROM \"t\"", "a: `a` is written twice (the last one counts)"),
        ("SELECT payload.x FROM \"t\" WHERE payload.y > 1", "payload.y: `payload.y` is absent here"),
        (
            "SELECT now_timestamp AS n FROM \"t\"",
            "now_timestamp: `now_timestamp` is always absent (a function has brackets",
        ),
    ] {
        let found = warned(sql);
        assert!(found.len() == 1 && found[0].starts_with(want), "{sql}: {found:?}");
    }
}

/// Work at each of many places in a text costs steps for each of them, and not only for the text.
#[test]
fn each_place_that_is_worked_with_costs_a_step() {
    for (what, few, many) in [
        ("strlen(replace(payload, 'a', 'bb'))", "a".repeat(1_000), "a".repeat(60_000)),
        ("strlen(unescape(payload))", "\\\\".repeat(1_000), "\\\\".repeat(60_000)),
    ] {
        let sql = format!("SELECT {what} AS n FROM \"t\"");
        let [few, many] = [few, many].map(|payload| outputs(&sql, &payload).map(|made| made.len()));
        assert_eq!((few, many), (Ok(1), Err("limit".to_owned())), "{what}");
    }
}

/// Quoted texts are valid JSON of the same value, at all lengths of the pieces that are written at once.
#[test]
fn texts_are_quoted_as_json_has_them() {
    for length in (0..90).chain([119, 120, 121, 255, 256, 257, 1_000]) {
        for chars in ["a", "\"", "\\", "\u{1}", "\n\r\t\u{8}\u{c}\u{1f}", "é\"\u{1}x\\", "\u{7f}\u{10ffff}"] {
            let text: String = chars.chars().cycle().take(length).collect();
            let json = first_output("SELECT payload FROM \"t\"", &text).expect("an output");
            let read: serde_json::Value = serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json}"));
            assert_eq!(read["payload"], text, "{json}");
            assert_eq!(json, serde_json::json!({ "payload": text }).to_string());
        }
    }
}

/// An array that does not exist yet gets its first element, whatever the index; one that does has no new one.
#[test]
fn finding_q50_an_index_into_what_is_not_there_makes_the_first_element() {
    for (sql, want) in [
        ("SELECT payload.x[2]", r#"{"payload":{"x":[3]}}"#),
        ("SELECT payload.x[-1]", r#"{"payload":{"x":[3]}}"#),
        ("SELECT payload.o[2].y", r#"{"payload":{"o":[{"y":5}]}}"#),
        ("SELECT 7 AS payload.x[2]", r#"{"payload":{"x":[7]}}"#),
        ("SELECT payload.x AS a, 7 AS a[5]", r#"{"a":[1,3]}"#),
        ("SELECT payload.e AS a, 7 AS a[1]", r#"{"a":[]}"#),
    ] {
        let payload = r#"{"x":[1,3],"o":[{"y":4},{"y":5}],"e":[]}"#;
        assert_eq!(first_output(&format!("{sql} FROM \"t/#\""), payload).as_deref(), Ok(want), "{sql}");
    }
}
