// Modules of the dashboard that need no browser.

import { strict as assert } from 'node:assert';
import { test } from 'node:test';
import { readFileSync } from 'node:fs';
import { diff, hunks, mistakes, toml } from '../../../dashboard/diff.js';
import { PRESETS, kindOf, read, sentence, show } from '../../../dashboard/fields.js';
import { between, graph, seriesOf, steps, way } from '../../../dashboard/flow.js';
import { EXAMPLES, FIELDS, KEYWORDS, SAMPLE, context, fieldsOf, kindOf as kindOfSql, offers } from '../../../dashboard/sql.js';
import { indent, members, object } from '../../../dashboard/json.js';
import { tree } from '../../../dashboard/tree.js';
import { bytes, count, many, parts, rate, seconds, visible } from '../../../dashboard/text.js';

test('keys as TOML', () => {
  assert.equal(
    toml({ topic: 'a "b"\n', filters: ['#'], qos: 1, on: true, none: null, headers: { site: 'x', 'a.b': '${c}', no: null }, empty: {} }),
    'topic = \'\'\'\na "b"\n\'\'\'\nfilters = ["#"]\nqos = 1\non = true\nheaders = { site = "x", "a.b" = "${c}" }\nempty = {}\n',
  );
});

test('statements stand as they are, and what TOML allows no literal text', () => {
  assert.equal(toml({ sql: 'SELECT a\nFROM "t/#"' }), `sql = '''\nSELECT a\nFROM "t/#"'''\n`);
  assert.equal(toml({ sql: 'SELECT 1 FROM "t"' }), `sql = 'SELECT 1 FROM "t"'\n`);
  assert.equal(toml({ sql: `SELECT 'x' FROM "t"` }), `sql = '''SELECT 'x' FROM "t"'''\n`);
  for (const text of [`"'''`, `"x'`, '"\u0000', '"\r\n', '\\']) assert.equal(toml({ text }), `text = ${JSON.stringify(text)}\n`);
});

test('a sentence of the schema stands alone', () => {
  assert.equal(sentence('Templates are over the output of the rule: see below. A `_` is kept.'), 'Templates are over the output of the rule. A `_` is kept.');
  assert.equal(sentence('A JSON object, see below.'), 'A JSON object.');
  assert.equal(sentence('All templates: see [SQL.md](SQL.md#republishing). Not by variables of the environment.'), 'All templates.');
  assert.equal(sentence('All files are PEM. See [KAFKA_SECURITY.md](KAFKA_SECURITY.md). A change holds.'), 'All files are PEM. A change holds.');
  assert.equal(sentence('Clients see below what they may: seen [here](X.md).'), 'Clients see below what they may: seen here.');
});

test('a difference keeps what is the same and has old lines in front of new ones', () => {
  const of = (before, after) => diff(before, after).map(({ kind, text }) => `${kind} ${text}`);
  assert.deepEqual(of('a\nb\nc\n', 'a\nx\nc\nd\n'), ['same a', 'old b', 'new x', 'same c', 'new d']);
  assert.deepEqual(of('', 'a\n'), ['new a']);
  assert.deepEqual(of('a\n', ''), ['old a']);
  assert.deepEqual(of('a\nb', 'a\nb'), ['same a', 'same b']);
  // Whatever changes, the lines make both texts again.
  for (let seed = 1; seed < 200; seed++) {
    const made = (salt) => Array.from({ length: (seed * salt) % 9 }, (_, i) => 'abc'[(seed * salt + i * i) % 3]);
    const [before, after] = [made(3), made(7)];
    const found = diff(before.join('\n'), after.join('\n'));
    assert.deepEqual(found.filter(({ kind }) => kind !== 'new').map(({ text }) => text), before);
    assert.deepEqual(found.filter(({ kind }) => kind !== 'old').map(({ text }) => text), after);
  }
});

test('a long text is compared in time, and what is far from a difference is left out', () => {
  const lines = Array.from({ length: 60_000 }, (_, i) => `line ${i}`);
  const other = [...lines];
  other[30_000] = 'another';
  const found = hunks(diff(lines.join('\n'), other.join('\n')));
  assert.deepEqual(found.map(({ kind }) => kind), ['gap', 'same', 'same', 'same', 'old', 'new', 'same', 'same', 'same', 'gap']);
  assert.deepEqual([found[0].text, found[9].text], ['… 29997 lines', '… 29996 lines']);
  const whole = diff(lines.join('\n'), lines.map((line) => `${line}.`).join('\n'));
  assert.equal(whole.length, 120_000, 'everything differs');
  assert.deepEqual(hunks(diff('a\nb', 'a\nb')), []);
});

test('presets are the set-ups of examples/', () => {
  for (const id of ['tbmq', 'emqx']) {
    const text = readFileSync(new URL(`../../../examples/${id}.toml`, import.meta.url), 'utf8');
    const set = text.split('\n').filter((line) => /^[a-z[]/.test(line)).map((line) => line.replace(/ +#.*$/, ''));
    const { cluster, sink } = PRESETS[id];
    const made = [`[kafka.${cluster.name}]\n${toml(cluster.keys)}[[sink]]\n${toml({ name: sink.name, ...sink.keys })}`].join('').trim().split('\n');
    assert.deepEqual(made, set, id);
  }
});

test('values of fields are read as they are shown, and what is empty is not set', () => {
  const list = { anyOf: [{ type: 'string' }, { type: 'array', items: { type: 'string' } }] };
  const table = { type: 'object', additionalProperties: { type: 'string' } };
  for (const [schema, value, text] of [
    [list, 'a/#', 'a/#'],
    [list, ['a/#', 'b'], 'a/#\nb'],
    [table, { site: 'a = b', 'x.y': '${z}' }, 'site = a = b\nx.y = ${z}\n'],
    [{ type: 'boolean' }, false, 'false'],
    [{ type: 'integer' }, 0, '0'],
    [{ type: 'string' }, '5ms', '5ms'],
    [{ anyOf: [{ enum: [0, 1, 2] }, { type: 'string' }] }, 1, '1'],
    [{ anyOf: [{ enum: [0, 1, 2] }, { type: 'string' }] }, '${qos}', '${qos}'],
    [{ anyOf: [{ type: 'boolean' }, { type: 'string' }] }, true, 'true'],
    [{ enum: ['raw', 'json'] }, 'json', 'json'],
  ]) {
    const kind = kindOf(schema);
    assert.equal(show(kind, value), text);
    assert.deepEqual(read(kind, text), value);
    assert.equal(read(kind, ' \n'), null);
    assert.equal(show(kind, null), '');
  }
  assert.equal(kindOf({ type: 'object', properties: {} }), 'group');
  assert.equal(kindOf({ type: 'array', items: { properties: {} } }), 'tables');
});

test('ways of messages as a picture', () => {
  const step = (kind, name) => ({ kind, name, cluster: kind === 'kafka' ? 'k' : null, state: null, reason: null, in_per_second: 1, out_per_second: null });
  // As `GET /flow` has them: `origin > from > rule > to > at`, `-` where there is none.
  const given = [
    '- > topic x/# > - > sink a > kafka A', '- > topic z/# > rule r > sink b > kafka B', '- > topic z/# > rule r > topic made/${x} > -', 'kafka in > source s > rule r > sink b > kafka B',
    '- > topic q > rule prints > - > -', 'kafka in > source s > - > topic m/1 > -', 'remote mqtt://far > in plant > - > topic p/# > -', '- > topic alarm/# > - > out plant > remote mqtt://far',
  ];
  const made = (text) => (text === '-' ? null : step(...text.split(' ')));
  const all = given.map((text) => Object.fromEntries(text.split(' > ').map((one, i) => [['origin', 'from', 'rule', 'to', 'at'][i], made(one)]))).map(way);
  const shown = all.map((one) => steps(one).map(({ kind, text }) => `${kind} ${text}`).join(' > '));
  assert.deepEqual(shown, given.map((text) => text.split(' > ').filter((one) => one !== '-').join(' > ')));
  assert.deepEqual([all[7].to.page, all[7].to.of, all[7].to.rate, all[0].at.cluster, all[0].from.page], ['bridges', 'bridge', { in: 1, out: null }, 'k', undefined]);
  assert.deepEqual([seriesOf(all[7].to, 'in'), seriesOf(all[1].rule, 'in').length], [['delivered_per_second'], 3]);
  const { nodes, edges, rows } = graph(all);
  assert.equal(nodes.filter(({ kind }) => kind !== 'way').length, new Set(shown.flatMap((way) => way.split(' > '))).size + 1, 'a remote is on both sides');
  assert.equal(rows, Math.max(...[0, 1, 2, 3, 4].map((column) => nodes.filter((one) => one.column === column).length)));
  for (const column of [0, 1, 2, 3, 4]) {
    const places = nodes.filter((one) => one.column === column).map(({ row }) => row).sort((a, b) => a - b);
    assert.deepEqual(places, places.map((_, i) => i), 'no two in one place');
  }
  // What goes along: what a rule leaves, what a sink gets; a rule gets the records of a source.
  const now = (of, which) => `${of.text} ${which}`;
  const rate = (a, b) => edges.filter((path) => path[0].text === a && path.at(-1).text === b).map((path) => between(path[0], path.at(-1), now))[0];
  for (const path of edges) path.slice(1).forEach((one, i) => assert.equal(one.column, path[i].column + 1, 'a line has a place in each column'));
  assert.equal(rate('x/#', 'a'), 'a in');
  assert.equal(rate('r', 'b'), 'r out');
  assert.equal(rate('s', 'r'), 's in');
  assert.equal(rate('s', 'm/1'), 's out');
  assert.equal(rate('z/#', 'r'), 'r in');
  assert.equal(rate('alarm/#', 'plant'), 'plant in');
});

test('finding_q44: JSON is shown and sent as it is written', () => {
  // Numbers that a double rounds or writes otherwise, names that are there twice, and names that an object would put first.
  const written = '{"z":1708703790535904509,"at":2.50,"big":1e400,"z":-0.0,"10":[],"2":{"a":[1,{"b":"\\u00e9 \\" {,:"}], "c" : { } },"é":null}';
  const shown = `{
  "z": 1708703790535904509,
  "at": 2.50,
  "big": 1e400,
  "z": -0.0,
  "10": [],
  "2": {
    "a": [
      1,
      {
        "b": "\\u00e9 \\" {,:"
      }
    ],
    "c": {}
  },
  "é": null
}`;
  assert.equal(indent(written), shown);
  assert.equal(indent(shown), shown);
  assert.deepEqual(['7.10', ' "a b" ', '[]', '[ ]', '[[],{}]', 'true'].map((text) => indent(text)), ['7.10', '"a b"', '[]', '[]', '[\n  [],\n  {}\n]', 'true']);
  assert.deepEqual(['', '{', '{"a":1,}', 'no', '1 2', '"\n"'].map((text) => indent(text)), Array(6).fill(null));
  const deep = '['.repeat(100_000) + ']'.repeat(100_000);
  assert.ok(indent(deep, 20_000).length < 400_000, 'what is shown is made, and no more');
  assert.equal(indent(`"${'x\\\\'.repeat(2_000_000)}"`).length, 6_000_002, 'a long text');

  assert.deepEqual(members('{ "a" : 2.50 ,"b":{"c":[1, 2]},"a":[ ],"d":"},:{"}'), [
    { name: 'a', text: '2.50' }, { name: 'b', text: '{"c":[1, 2]}' }, { name: 'a', text: '[ ]' }, { name: 'd', text: '"},:{"' },
  ]);
  assert.deepEqual(members('[1.0, {"b": 1708703790535904509},[]]').map(({ text }) => text), ['1.0', '{"b": 1708703790535904509}', '[]']);
  assert.deepEqual([members('{}'), members(' [ ]')], [[], []]);
  assert.equal(object({ a: 1, b: 'x' }, members('{"b": 2.50, "c": 1708703790535904509, "b": 3}')), '{"a":1,"b":2.50,"c":1708703790535904509,"b":3}');
  // Other fields of the page SQL, which take the place of those of the form.
  const sent = context({ ...SAMPLE, more: '{"publish_received_at": 1708703790535904509, "client_attrs": {"v": 2.50, "v": 3}, "qos": 1.0}' });
  assert.equal(sent, `{"topic":"t/1","clientid":"c1","payload":${JSON.stringify(SAMPLE.payload)},"retain":false,"publish_received_at":1708703790535904509,"client_attrs":{"v": 2.50, "v": 3},"qos":1.0}`);
});

test('what a statement is tried on is what the API takes', () => {
  const of = (more) => JSON.parse(context({ ...SAMPLE, ...more }));
  assert.deepEqual(of({ topic: 't/1', payload: '{"a":1}', clientid: 'c', username: '', qos: 2, properties: 'site = a = b\n\nx=y\n', more: '{"peerhost":"1.2.3.4"}' }),
    { topic: 't/1', clientid: 'c', payload: '{"a":1}', qos: 2, retain: false, pub_props: { 'User-Property': { site: 'a = b', x: 'y' } }, peerhost: '1.2.3.4' });
  assert.equal(of({ payload: '' }).payload, '', 'an empty payload is one');
  assert.deepEqual(of({ kind: 'Event', event: 'client/ping', clientid: '' }), { event_type: '$events/client/ping' });
  assert.deepEqual(of({ kind: 'Record', kafka_topic: '', key: 'k', value: '' }), { key: 'k', value: '' });
  for (const more of ['[]', '7', 'null', '{']) assert.throws(() => of({ more }));
  for (const { sql, sample } of EXAMPLES) assert.equal(kindOfSql(sql), sample?.kind ?? 'Message', sql);
  assert.deepEqual(['SELECT 1', 'SELECT * FROM `a/b`', 'select 1 from\n$events/message_publish', 'SELECT * FROM "$sources/kafka_consumer:x"'].map(kindOfSql), [null, 'Message', 'Message', 'Record']);
});

test('mistakes stand at their line', () => {
  const text = 'topic = "x y"\n# lingr = 2\n"lingr" = "1s"\nheaders.a = "${n}"\n';
  const at = (detail) => mistakes(text, detail).map(({ line }) => line);
  assert.deepEqual(at('line 3, column 5: extra `=`'), [3]);
  assert.deepEqual(at('configuration: sink[3].topic: "x y" is not: valid\nconfiguration: sink[3].lingr: unknown key'), [1, 3]);
  assert.deepEqual(at('configuration: sink[0].headers.a: unknown variable `${n}`'), [4]);
  assert.deepEqual(at('configuration: sink[0].kafka: is required\nsomething else'), [0, 0]);
  assert.equal(mistakes(text, 'line 3, column 5: extra `=`')[0].what, 'extra `=`');
  assert.equal(mistakes(text, 'configuration: sink[3].lingr: unknown key')[0].what, 'sink[3].lingr: unknown key');
  const of = (detail, name) => mistakes('sasl = {}\n', detail, name).map(({ line, key }) => [line, key])[0];
  assert.deepEqual(of('configuration: kafka.sasl.sasl.username: is required', 'sasl'), [1, 'sasl']);
  assert.deepEqual(of('configuration: kafka.my.own.bootstrap: is required', 'my.own'), [0, 'bootstrap']);
});

test('what is not seen is shown by its code, and what is long is cut', () => {
  assert.equal(visible('a\u202eb\u0000\u200d'), 'a\\u{202e}b\\u{0}\\u{200d}');
  assert.equal(visible('<b>&amp;</b>'), '<b>&amp;</b>', 'markup is text like any other');
  assert.equal(visible('x'.repeat(20), 5), 'xxxxx… (20 characters)');
  assert.deepEqual(parts('a\tb'), [{ text: 'a', hidden: false }, { text: '\\u{9}', hidden: true }, { text: 'b', hidden: false }]);
  assert.equal(visible('\ud83d\ude00'.repeat(3), 2), '\ud83d\ude00\ud83d\ude00… (3 characters)', 'no character is cut in two');
});

test('numbers have their unit, and none is NaN', () => {
  assert.deepEqual([bytes(0), bytes(999), bytes(1000), bytes(1 << 20), bytes(NaN)], ['0 B', '999 B', '0.98 KiB', '1 MiB', '–']);
  assert.deepEqual([seconds(0), seconds(0.0005), seconds(0.05), seconds(1), seconds(90), seconds(3600), seconds(90_061)], ['0 s', '500 µs', '50 ms', '1 s', '90 s', '1 h 0 min', '1 d 1 h']);
  assert.deepEqual([many(1, 'record'), many(1200, 'record'), many(undefined, 'record'), many(1, 'client is', 'clients are')], ['1 record', '1,200 records', '– records', '1 client is']);
  assert.deepEqual([count(1234), count(undefined), rate(0), rate(12.34), rate(2e7)], ['1,234', '–', '0/s', '12.3/s', '20 M/s']);
});

/** What is offered where `|` stands. */
const offered = (text, isAsked = false, sample = SAMPLE) => {
  const known = { fields: fieldsOf(sample), functions: [{ name: 'upper', arguments: '(text)', meaning: 'In capitals.' }], sources: ['orders', 'other'] };
  const found = offers(text.replace('|', ''), text.indexOf('|'), known, isAsked);
  return found && [found.from, ...found.words.map(({ word }) => word)];
};

test('words are offered for what has been begun', () => {
  assert.deepEqual(offered('SELECT us|'), [7, 'username']);
  assert.deepEqual(offered('SELECT up|'), [7, 'upper(']);
  assert.deepEqual(offered('sel|'), [0, 'SELECT']);
  assert.deepEqual(offered('SELECT payload.r| FROM'), [7, 'payload.room']);
  assert.equal(offered('SELECT payload.room| FROM'), null, 'it is all there');
  assert.equal(offered('SELECT pay|load'), null, 'the word goes on');
  assert.equal(offered('SELECT 3|'), null);
  assert.equal(offered('SELECT |'), null);
  assert.equal(offered('SELECT |', true).length, 9, 'unless somebody asks, and then only the first ones');
});

test('in quotes stands what FROM can name, and nothing else', () => {
  assert.deepEqual(offered('SELECT * FROM "$b|'), [15, '$bridges/kafka_consumer:orders', '$bridges/kafka_consumer:other']);
  assert.deepEqual(offered('SELECT * FROM "t/#", "$events/session/s|'), [22, '$events/session/subscribed']);
  assert.equal(offered("SELECT 'sel|"), null);
  assert.equal(offered('SELECT "us|'), null);
  assert.deepEqual(offered(`SELECT 'it' AS a, us|`), [18, 'username'], 'a text that is over');
});

test('fields of a sample are those of its kind, and what its JSON holds', () => {
  const inside = (payload) => fieldsOf({ ...SAMPLE, payload }).filter((one) => one.startsWith('payload.'));
  assert.deepEqual(inside('{"a": {"b": {"c": 1}}, "no name": 1, "list": [{"x": 1}]}'), ['payload.a', 'payload.a.b', 'payload.a.b.c', 'payload.list']);
  assert.deepEqual([inside('no JSON'), inside('null'), inside('[1]'), inside('7')], [[], [], [], []]);
  assert.ok(inside(JSON.stringify(Object.fromEntries(Array.from({ length: 5000 }, (_, n) => [`k${n}`, n])))).length <= 200);
  assert.ok(inside(`${'{"a":'.repeat(5000)}1${'}'.repeat(5000)}`).length <= 5);
  assert.ok(fieldsOf({ ...SAMPLE, kind: 'Record', value: '{"msg": 1}' }).includes('value.msg'));
});

test('words and fields are those of the language', () => {
  const source = readFileSync(new URL('../../../crates/rule/src/sql/ast.rs', import.meta.url), 'utf8');
  assert.deepEqual(KEYWORDS, [...source.match(/KEYWORDS: [^=]*= \[([^\]]*)\]/)[1].matchAll(/"(\w+)"/g)].map(([, word]) => word));
  const described = readFileSync(new URL('../../../docs/SQL.md', import.meta.url), 'utf8').split('\n## Fields\n')[1].split('\n## ')[0];
  const of = (title) => [...described.split('\n### ').filter((part) => title.test(part)).join('\n').matchAll(/^\| `(\w+)` \|/gm)].map(([, name]) => name);
  assert.deepEqual(FIELDS.Message, of(/^Messages/));
  assert.deepEqual(FIELDS.Record, of(/^Records/));
  const events = new Set(of(/^\$events/));
  assert.deepEqual(FIELDS.Event.filter((name) => !events.has(name)), []);
});

test('topics by their levels', () => {
  const rows = [['a/b', 1], ['a/b/c', 2], ['x', 5], ['/y', 1], ['a/__proto__', 4]].map(([topic, per_second]) => ({ topic, per_second }));
  const short = (of) => of.map(({ name, topics, per_second: n, is_topic: is, below }) => [name, topics, n, is, ...short(below)]);
  assert.deepEqual(short(tree(rows)), [['a', 3, 7, false, ['__proto__', 1, 4, true], ['b', 2, 3, true, ['c', 1, 2, true]]], ['x', 1, 5, true], ['', 1, 1, false, ['y', 1, 1, true]]]);
  assert.deepEqual(tree([]), []);
  // As deep as a device likes: the last name has the rest.
  const topic = Array(30_000).fill('x').join('/');
  let [level, levels] = [tree([{ topic, per_second: 1 }])[0], 1];
  for (; level.below.length > 0; [level] = level.below) levels++;
  assert.deepEqual([levels, level.path === topic, level.is_topic], [12, true, true]);
});
