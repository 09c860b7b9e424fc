// SQL: writes a statement, tries it on a message and on past records, compares it with a rule, and puts it into one.

import { html, useEffect, useRef, useState } from '../vendor/preact.js';
import { ask, get, name as escaped } from '../api.js';
import { mistakes } from '../diff.js';
import { Difference, statement } from '../editor.js';
import { Statement } from '../offers.js';
import { AsCommand, Head, Lines, Panel, State, Table, Text, WriteButton, or, usePolled } from '../parts.js';
import { indent, members, object } from '../json.js';
import { visible } from '../text.js';
import { EXAMPLES, SAMPLE, context, kindOf } from '../sql.js';
import { Past } from './sql_past.js';
import { Sample } from './sql_sample.js';

/** Mistakes of a trial, for the editor: the first line has the place. */
const marked = (sql, said) => mistakes(sql, said.split('\n')[0]);

export function Sql({ query, set }) {
  const rule = query.rule ?? null;
  const [brought] = useState(() => (statement.peek()?.name === rule ? statement.peek() : null));
  useEffect(() => {
    if (brought) statement.value = null;
  }, []);
  const { value: known } = usePolled(() => get('rules'), 'rules', 10_000);
  const running = known?.rules.find((one) => one.name === rule);
  const [sql, setSql] = useState(brought?.keys?.sql ?? EXAMPLES[0].sql);
  const [sample, setSample] = useState(SAMPLE);
  const [tried, setTried] = useState(/** @type {any} */ ({}));
  const field = useRef(null);
  const write = (text) => (setSql(text), setTried({}), setSample((before) => ({ ...before, kind: kindOf(text) ?? before.kind })));
  // The statement of the rule in the address, unless one was brought along.
  const [loaded, setLoaded] = useState(brought ? rule : null);
  useEffect(() => {
    if (running && loaded !== rule) (setLoaded(rule), write(running.sql));
  }, [rule, Boolean(running)]);
  useEffect(() => setSample((before) => ({ ...before, kind: kindOf(sql) ?? before.kind })), []);

  const run = async (event) => {
    event.preventDefault();
    setTried({ busy: true });
    try {
      const sinks = brought?.name === rule ? [brought.keys.sinks ?? []].flat() : [];
      const of = { ...(rule !== null && { rule }), ...(sinks.length > 0 && { sinks }) };
      const json = object({ sql, ...of }, [{ name: 'context', text: context(sample) }]);
      const answer = await (await ask('sql/test', { method: 'POST', json })).text();
      const outputs = members(members(answer).find(({ name }) => name === 'outputs').text).map(({ text }) => text);
      setTried({ found: { ...JSON.parse(answer), outputs } });
    } catch (error) {
      setTried(error.status === 422 && error.message.startsWith('line ') ? { wrong: marked(sql, error.message) } : { problem: error.message });
    }
  };
  const example = (place) => {
    const { sql: text, sample: more } = EXAMPLES[place];
    setSql(text);
    setTried({});
    setSample({ ...SAMPLE, kind: 'Message', ...more });
  };
  const insert = (text) => {
    const { selectionStart: from, selectionEnd: to } = field.current;
    setSql(sql.slice(0, from) + text + sql.slice(to));
    field.current.focus();
  };
  const intoRule = () => {
    const before = brought?.name === rule ? brought : null;
    statement.value = { name: rule, to: before?.to, keys: { ...before?.keys, sql } };
    location.hash = rule === null ? '#/rules?new=yes' : `#/rules/${escaped(rule)}?edit=yes`;
  };
  const wrong = tried.wrong ?? (tried.found?.failure ? marked(sql, tried.found.failure.replace(/^failed: /, '')) : []);
  return html`
    <${Head} title="SQL" sub=${rule !== null && html`of the rule <a href=${`#/rules/${escaped(rule)}`}><${Text} of=${rule} max=${80} /></a>`}>
      <label>Rule <select value=${rule ?? ''} onChange=${(event) => (setLoaded(null), set({ rule: event.target.value }))}>
        <option value="">none</option>${(known?.rules ?? []).map(({ name }) => html`<option value=${name}>${visible(name, 80)}</option>`)}</select></label>
      <label>Example <select id="example" value="" onChange=${(event) => event.target.value && example(Number(event.target.value))}>
        <option value="">choose one</option>${EXAMPLES.map(({ title }, place) => html`<option value=${String(place)}>${title}</option>`)}</select></label>
      <${AsCommand} path="sql/test" method="POST" words=${null} />
    <//>
    <form onSubmit=${run}>
      <div class="grid two">
        <div class="stack"><section class="panel editor" aria-label="Statement">
          <${Statement} label="Statement" sample=${sample} text=${sql} change=${write} wrong=${wrong} at=${field} />
          ${(tried.found?.warnings ?? []).map((one) => html`<p class="why">Probably not intended: <${Text} of=${one.split('\n')[0]} max=${600} /></p>`)}
          <${Functions} insert=${insert} />
          <div class="buttons"><${WriteButton} type="submit" kind="first" disabled=${tried.busy}>Run<//>
            <${WriteButton} onClick=${intoRule}>${rule === null ? 'Put into a new rule' : 'Put into the rule'}<//></div>
        </section>
        ${tried.problem && html`<div class="banner bad" role="alert"><${Text} of=${tried.problem} max=${1000} /></div>`}
        <div role="status">${tried.found && html`<${Found} of=${tried.found} />`}</div></div>
        <${Sample} of=${sample} change=${(next) => (setSample(next), setTried((before) => ({ wrong: before.wrong })))} />
      </div>
    </form>
    ${running && running.sql !== sql && html`<div class="grid"><${Panel} title="What runs, and what is written"><div class="inside"><${Difference} before=${running.sql} after=${sql} /></div><//></div>`}
    <${Past} sql=${sql} rule=${rule} rules=${known?.rules ?? []} />`;
}

const content = (of) => (of ? (of.text ?? `${of.base64} (base64)`) : null);
const code = (text) => (text == null ? or(null) : html`<code class="cut"><${Text} of=${text} max=${600} /></code>`);
const RECORDS = [
  { title: 'Sink', cell: ({ sink }) => html`<a href=${`#/sinks/${escaped(sink)}`}><${Text} of=${sink} max=${80} /></a>` },
  { title: 'Kafka topic', cell: ({ topic, refused }) => (refused === null ? code(topic) : html`<${State} word="refused" /><span class="why"><${Text} of=${refused} max=${300} /></span>`) },
  { title: 'Key', cell: ({ key }) => code(content(key)) },
  { title: 'Value', wide: true, cell: ({ value }) => code(content(value)) },
  { title: 'Headers', cell: ({ headers }) => (headers.length ? code(headers.map(({ name, value }) => `${name}: ${content(value)}`).join(', ')) : or(null)) },
];
const MESSAGES = [
  { title: 'MQTT topic', cell: ({ topic }) => code(topic) },
  { title: 'Payload', wide: true, cell: ({ payload }) => code(content(payload)) },
  { title: 'QoS', number: true, cell: ({ qos }) => qos },
  { title: 'Retained', cell: ({ retain }) => (retain ? 'yes' : 'no') },
];

/** The statement's result for the sample. */
function Found({ of }) {
  const result = !of.matches ? 'not matching' : of.failure ? 'failed' : of.outputs.length ? 'passed' : 'filtered';
  const says = { 'not matching': 'FROM does not match the topic.', failed: '', passed: '', filtered: 'WHERE, INCASE or FOREACH leaves nothing of it.' }[result];
  return html`<${Panel} title="Output" right=${html`<${State} word=${result} />`}>
    <div class="inside">${of.failure && html`<p class="wrong"><${Text} of=${of.failure.split('\n')[0]} max=${600} /></p>`}${says && html`<p>${says}</p>`}
      ${of.outputs.map((output) => html`<${Lines} of=${indent(output)} max=${4000} aria-label="Output" />`)}</div>
    ${of.records.length > 0 && html`<${Table} label="Records that its sinks would write" columns=${RECORDS} rows=${of.records.map((one, at) => ({ ...one, at }))} id=${({ at }) => at} />`}
    ${of.messages.length > 0 && html`<${Table} label="Messages that it would publish" columns=${MESSAGES} rows=${of.messages.map((one, at) => ({ ...one, at }))} id=${({ at }) => at} />`}<//>`;
}

const SHOWN_MAX = 12;
/** The functions of SQL; a chosen one is put at the cursor. */
function Functions({ insert }) {
  const [all, setAll] = useState([]);
  const [text, setText] = useState('');
  const open = () => all.length === 0 && get('sql/functions').then(({ functions }) => setAll(functions), () => {});
  const found = all.filter(({ name, family, meaning }) => [name, family, meaning].some((one) => one.toLowerCase().includes(text.toLowerCase())));
  return html`<details onToggle=${open}><summary>Functions</summary>
    <label>Search <input type="search" spellcheck=${false} value=${text} onInput=${(event) => setText(event.target.value)} /></label>
    <ul class="functions">${found.slice(0, SHOWN_MAX).map(({ name, arguments: takes, meaning, example }) => html`<li>
      <button type="button" class="plain" title=${`as in ${example}`} onClick=${() => insert(`${name}()`)}><code>${name}${takes}</code></button> <span class="dim">${meaning}</span></li>`)}</ul>
    ${found.length > SHOWN_MAX && html`<span class="dim">and ${found.length - SHOWN_MAX} more: search for them</span>`}</details>`;
}
