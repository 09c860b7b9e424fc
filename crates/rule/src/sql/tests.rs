//! Statements and their errors; the property tests of the round trip are in `rule/tests`.

use super::parse;

#[test]
fn precedence_and_shapes() {
    for (sql, want) in [
        ("select a+b*c from t", "SELECT (a + (b * c)) FROM \"t\""),
        ("select 1 - 2 - 3 x from 't/#'", "SELECT ((1 - 2) - 3) AS x FROM \"t/#\""),
        ("SELECT 2 * 3 mod 4 as c FROM \"t\"", "SELECT ((2 * 3) mod 4) AS c FROM \"t\""),
        ("select * from t where not a = 1 and b or c", "SELECT * FROM \"t\" WHERE (((NOT (a = 1)) AND b) OR c)"),
        ("select * from t where a and b and c or d", "SELECT * FROM \"t\" WHERE ((a AND b AND c) OR d)"),
        ("select * from t where a and (b and c)", "SELECT * FROM \"t\" WHERE (a AND (b AND c))"),
        ("select -a.b, - 1, +x, -(-1) from t", "SELECT -(a.b), -1, +(x), -(-1) FROM \"t\""),
        ("select a not in (1,2), b in ('x') from t", "SELECT (a NOT IN (1, 2)), (b IN ('x')) FROM \"t\""),
        ("select a[1..-2].'x-y'.0[-1] from t", "SELECT a[1..-2].\"x-y\".\"0\"[-1] FROM \"t\""),
        ("select [1..5], [1, a, f(x)], [] from t", "SELECT [1..5], [1, a, f(x)], [] FROM \"t\""),
        ("select f(x)[1].y, (a).b from t", "SELECT (f(x))[1].y, (a).b FROM \"t\""),
        ("select `b``t` as payload.data[-0] from t", "SELECT 'b`t' AS payload.data[-0] FROM \"t\""),
        ("select case x when 1 then 2 else 3 end y from t", "SELECT CASE x WHEN 1 THEN 2 ELSE 3 END AS y FROM \"t\""),
        ("select 1e3, 2.5e-3, 7.0 from t -- end", "SELECT 1000.0, 0.0025, 7.0 FROM \"t\""),
        ("select /* a */ mod(7, 2), 7 mod 2 from t", "SELECT mod(7, 2), (7 mod 2) FROM \"t\""),
        (
            "foreach p.s as s do s.n as n incase s.n > 1 from a, \"b/#\" where true",
            "FOREACH p.s AS s DO s.n AS n INCASE (s.n > 1) FROM \"a\", \"b/#\" WHERE true",
        ),
        (
            "select payload.from, \"from\", -9223372036854775808 from t;",
            "SELECT payload.\"from\", \"from\", -9223372036854775808 FROM \"t\"",
        ),
    ] {
        let tree = parse(sql).unwrap_or_else(|error| panic!("{}", error.show(sql)));
        assert_eq!(tree.to_string(), want, "{sql}");
        assert_eq!(parse(want).expect("what is printed parses"), tree, "{want}");
    }
}

#[test]
fn errors_show_the_place() {
    for (sql, caret, what) in [
        ("SELEC * FROM t", "^^^^^", "`SELEC` where SELECT or FOREACH is needed (did you mean `SELECT`?)"),
        ("SELECT a FORM \"t\"", "         ^^^^", "`FORM` where `,`, AS or FROM is needed (did you mean `FROM`?)"),
        ("SELECT a", "        ^", "the end where FROM is needed (FROM \"t/#\" says which topics the rule is for)"),
        (
            "SELECT a,\n  b ! c FROM t",
            "    ^",
            "`!` is no part of the language (not equal is `!=` or `<>`, negation is `NOT`)",
        ),
        (
            "SELECT a FROM t/1",
            "               ^",
            "`/` where `,`, WHERE or the end is needed (a topic stands in quotes: \"t/…\")",
        ),
        ("SELECT 'a FROM t", "       ^", "a text without its closing '"),
        (
            "SELECT a FROM t WHERE 1 < b < 2",
            "                            ^",
            "comparisons are not chained (write `a < b AND b < c`)",
        ),
        ("SELECT f(1 2) FROM t", "           ^", "`2` where `,` or `)` is needed"),
        ("SELECT 99999999999999999999 FROM t", "       ^^^^^^^^^^^^^^^^^^^^", "whole numbers have 64 bits"),
        ("SELECT a[x] FROM t", "         ^", "`x` where a whole number is needed"),
        (
            "SELECT select FROM t",
            "       ^^^^^^",
            "`select` where a value is needed (a keyword is a name only in double quotes)",
        ),
        (
            "SELECT a FROM \"t\" WHERE a => 1",
            "                          ^^",
            "`=>` where the end of the statement is needed (at least is `>=`)",
        ),
        ("SELECT case a end FROM t", "              ^^^", "`end` where WHEN is needed"),
        ("SELECT 1 as a[1..2] FROM t", "            ^^^^^^^", "a column is not put into a slice"),
    ] {
        let error = parse(sql).expect_err(sql);
        assert!(error.to_string().starts_with(what), "{sql}: {error}");
        let shown = error.place.caret(sql);
        assert_eq!(shown.lines().last(), Some(caret), "{shown}");
    }
}

#[test]
fn bounds_hold() {
    let deep = |open: &str, close: &str, n: usize| format!("SELECT {}1{} FROM t", open.repeat(n), close.repeat(n));
    for (open, close) in
        [("(", ")"), ("f(", ")"), ("[", "]"), ("- ", ""), ("NOT ", ""), ("1 + (", ")"), ("case when ", " then 1 end")]
    {
        assert!(parse(&deep(open, close, 30)).is_ok(), "{open}");
        for n in [70, 9_000] {
            let error = parse(&deep(open, close, n)).expect_err(open);
            assert!(error.what.contains("at most"), "{error}");
        }
    }
    let chain = |word: &str, n: usize| format!("SELECT 1 FROM t WHERE a{}", format!(" {word} a").repeat(n));
    assert!(parse(&chain("AND", 2_000)).is_ok());
    assert!(parse(&chain("+", 60)).is_ok());
    assert!(parse(&chain("+", 64)).expect_err("too deep").what.contains("nest at most"));
    assert!(parse(&chain("OR", 5_000)).expect_err("too many").what.contains("at most 4096 parts"));
    assert!(
        parse(&format!("SELECT '{}' FROM t", "x".repeat(70_000))).expect_err("too long").what.contains("65536 bytes")
    );
}
