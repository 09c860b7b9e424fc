// Modules of the dashboard that need no browser.

import { strict as assert } from 'node:assert';
import { test } from 'node:test';
import { readFileSync } from 'node:fs';
import { diff, hunks, mistakes, toml } from '../../../dashboard/diff.js';
import { PRESETS, kindOf, read, show } from '../../../dashboard/fields.js';
import { ways } from '../../../dashboard/flow.js';
import { bytes, count, parts, rate, seconds, visible } from '../../../dashboard/text.js';

test('keys as TOML', () => {
  assert.equal(
    toml({ topic: 'a "b"\n', filters: ['#'], qos: 1, on: true, none: null, headers: { site: 'x', 'a.b': '${c}', no: null }, empty: {} }),
    'topic = "a \\"b\\"\\n"\nfilters = ["#"]\nqos = 1\non = true\nheaders = { site = "x", "a.b" = "${c}" }\nempty = {}\n',
  );
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
    [{ enum: ['raw', 'json'] }, 'json', 'json'],
  ]) {
    const kind = kindOf(schema);
    assert.equal(show(kind, value), text);
    assert.deepEqual(read(kind, text), value);
    assert.equal(read(kind, ' \n'), null);
    assert.equal(show(kind, null), '');
  }
  assert.equal(kindOf({ type: 'object', properties: {} }), 'group');
});

test('a way of messages for each filter of a sink, and for each FROM of a rule', () => {
  const sinks = [{ name: 'a', filters: ['x/#', 'y'] }, { name: 'b', filters: [] }];
  const rules = [{ name: 'r', from: ['z/#'], sinks: ['b', 'gone'] }];
  assert.deepEqual(ways(sinks, rules).map(({ from, rule, sink }) => [from, rule?.name ?? null, sink.name]), [['x/#', null, 'a'], ['y', null, 'a'], ['z/#', 'r', 'b']]);
});

test('mistakes stand at their line', () => {
  const text = 'topic = "x y"\n# lingr = 2\n"lingr" = "1s"\nheaders.a = "${n}"\n';
  const at = (detail) => mistakes(text, detail).map(({ line }) => line);
  assert.deepEqual(at('line 3, column 5: extra `=`'), [3]);
  assert.deepEqual(at('configuration: sink[3].topic: "x y" is not: valid\nconfiguration: sink[3].lingr: unknown key'), [1, 3]);
  assert.deepEqual(at('configuration: sink[0].headers.a: unknown variable `${n}`'), [4]);
  assert.deepEqual(at('configuration: sink[0].kafka: is required\nsomething else'), [0, 0]);
  assert.equal(mistakes(text, 'line 3, column 5: extra `=`')[0].what, 'extra `=`');
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
  assert.deepEqual([count(1234), count(undefined), rate(0), rate(12.34), rate(2e7)], ['1,234', '–', '0/s', '12.3/s', '20 M/s']);
});
