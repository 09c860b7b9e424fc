// Tries a statement on past records of a Kafka topic, and compares it.

import { html, useEffect, useRef, useState } from '../vendor/preact.js';
import { ask, get } from '../api.js';
import { Facts, Panel, State, Table, Text, WriteButton, usePolled } from '../parts.js';
import { count, many, visible } from '../text.js';

const LOOK_MS = 500;
const clean = (of) => Object.fromEntries(Object.entries(of).filter(([, value]) => value !== '' && value !== null && value !== undefined));

export function Past({ sql, rule, rules }) {
  const { value: places } = usePolled(() => Promise.all([get('sinks'), get('sources'), get('clusters')]), 'places', 10_000);
  const [form, setForm] = useState({ topic: '', kafka: '', since: '', limit: '1000', topic_from: '', against: null });
  const [state, setState] = useState(/** @type {any} */ ({}));
  const timer = useRef(0);
  useEffect(() => () => clearTimeout(timer.current), []);
  const [sinks, sources, clusters] = [places?.[0].sinks ?? [], places?.[1].sources ?? [], places?.[2].clusters ?? []];
  // A rule's statement is compared with that rule unless another is chosen.
  const against = form.against ?? rule ?? '';
  const set = (key) => (event) => setForm({ ...form, [key]: event.target.value });
  const topics = [...new Set([...sinks.map(({ topic }) => topic), ...sources.flatMap((source) => Object.keys(source.topics))].filter(Boolean))].sort();
  const clusterOf = (topic) => sinks.find((one) => one.topic === topic)?.kafka ?? sources.find((one) => topic in one.topics)?.kafka ?? '';
  const look = (id) => {
    timer.current = setTimeout(async () => {
      try {
        const now = await get(`sql/past/${id}`);
        setState({ run: now });
        if (now.state === 'running') look(id);
      } catch (error) {
        setState({ problem: error.message });
      }
    }, LOOK_MS);
  };
  const run = async (event) => {
    event.preventDefault();
    clearTimeout(timer.current);
    setState({ run: { state: 'running', records: 0 } });
    const { topic, kafka, since, limit, topic_from: from } = form;
    try {
      const begun = await get('sql/past', { method: 'POST', body: clean({ sql, topic, kafka: kafka || clusterOf(topic), since, limit: Number(limit), topic_from: from, against }) });
      setState({ run: begun });
      look(begun.id);
    } catch (error) {
      setState({ problem: error.message.split('\n')[0] });
    }
  };
  const cancel = () => ask(`sql/past/${state.run.id}`, { method: 'DELETE' }).catch(() => {});
  const isRunning = state.run?.state === 'running';
  const list = (id, names) => html`<datalist id=${id}>${names.map((one) => html`<option value=${one}></option>`)}</datalist>`;
  return html`<div class="grid"><${Panel} title="On past records"><form class="inside" onSubmit=${run}>
      <p class="dim">Records of a Kafka topic, as the messages that they came from: the value is the payload, the key the MQTT topic, unless another place has it. Nothing is published or written.</p>
      <div class="fields-of">
        <label>Kafka topic <input required spellcheck=${false} list="past-topics" value=${form.topic} onInput=${set('topic')} />${list('past-topics', topics)}</label>
        <label>Cluster <select value=${form.kafka} onChange=${set('kafka')}><option value="">that of the topic</option>${clusters.map(({ name }) => html`<option value=${name}>${visible(name, 80)}</option>`)}</select></label>
        <label>Since <input spellcheck=${false} placeholder="-1h, earliest, a time; else the newest" value=${form.since} onInput=${set('since')} /></label>
        <label>Records at most <input type="number" min="1" max="10000" required value=${form.limit} onInput=${set('limit')} /></label>
        <label>MQTT topic from <input spellcheck=${false} placeholder="key, header:NAME, json:PATH, a template" value=${form.topic_from} onInput=${set('topic_from')} /></label>
        <label>Compare with <select value=${against} onChange=${set('against')}><option value="">nothing</option>${rules.map(({ name }) => html`<option value=${name}>rule ${visible(name, 80)}</option>`)}</select></label>
      </div>
      <div class="buttons"><${WriteButton} type="submit" disabled=${isRunning}>Run on past records<//>
        ${isRunning && state.run.id && html`<button type="button" onClick=${cancel}>Cancel</button>`}</div>
      ${state.problem && html`<div class="banner bad" role="alert"><${Text} of=${state.problem} max=${800} /></div>`}
      <div role="status">${isRunning ? html`<div class="banner">${many(state.run.records, 'record')} read</div>` : state.run?.reason && html`<div class="banner bad"><${Text} of=${state.run.reason} max=${600} /></div>`}</div>
    </form>
    ${state.run?.result && html`<${Result} of=${state.run.result} />`}<//></div>`;
}

const reasons = (of) => Object.entries(of).map(([why, n]) => `${why} ${count(n)}`).join(', ');
const Fate = ({ of }) => html`<${State} word=${of.result} />${of.outputs.map((one) => html`<code class="cut"><${Text} of=${one} max=${600} /></code>`)}${of.failure && html`<span class="why"><${Text} of=${of.failure} max=${300} /></span>`}`;
function Result({ of }) {
  const rows = [
    ['Passed', (side) => `${count(side.passed)}, outputs ${count(side.outputs)}`],
    ['Filtered', (side) => count(side.filtered)],
    ['Failed', (side) => `${count(side.failed)}${side.failed > 0 ? ` (${reasons(side.failures)})` : ''}`],
    ['Not matching', (side) => count(side.not_matching)],
  ];
  const columns = [
    { title: 'Messages', cell: ([what]) => what },
    { title: 'What is written', number: true, cell: ([, as]) => as(of) },
    ...(of.against ? [{ title: 'What it is compared with', number: true, cell: ([, as]) => as(of.against) }] : []),
  ];
  const examples = [
    { title: 'Message', cell: ({ mqtt_topic: topic, partition, offset }) => html`<code class="cut"><${Text} of=${topic} max=${120} /></code><span class="why num">partition ${partition}, offset ${offset}</span>` },
    { title: 'What is written makes', wide: true, cell: ({ here }) => html`<${Fate} of=${here} />` },
    ...(of.against ? [{ title: 'The other makes', wide: true, cell: ({ there }) => there && html`<${Fate} of=${there} />` }] : []),
  ];
  return html`<${Facts} rows=${[
      ['Records read', `${count(of.records)} of ${many(of.partitions, 'partition')}`],
      ...(Object.keys(of.no_message).length ? [['That cannot be a message', reasons(of.no_message)]] : []),
      ...(of.first_failure ? [['First failure', html`<${Text} of=${of.first_failure} max=${400} />`]] : []),
      ...(of.against ? [['Equal, different', `${count(of.against.equal)}, ${count(of.against.different)}`], ['Only here, only there', `${count(of.against.only_here)}, ${count(of.against.only_there)}`]] : []),
    ]} />
    <${Table} label="Result on past records" columns=${columns} rows=${rows} id=${([what]) => what} />
    <${Table} label="Messages of them" columns=${examples} rows=${of.examples} id=${({ partition, offset }) => `${partition} ${offset}`}>${of.against ? 'The rules make the same of all of them.' : 'None passes, and none fails.'}<//>`;
}
