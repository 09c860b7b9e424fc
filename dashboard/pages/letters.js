// Dead letters in Kafka topics: the newest first, with their reasons; their records can be sent again. The letters stay there.

import { html, useEffect, useState } from '../vendor/preact.js';
import { get, mayWrite, name as escaped } from '../api.js';
import { AsCommand, Facts, Head, Panel, Table, Text, WriteButton, close, or, show, usePolled } from '../parts.js';
import { NeedsWrite } from './change.js';
import { Search } from '../paged.js';
import { bytes, count, dateTime, visible } from '../text.js';

const pathOf = ({ kafka, topic }) => `clusters/${escaped(kafka)}/dead-letters/${escaped(topic)}`;
const linkOf = ({ kafka, topic }) => `#/letters?${new URLSearchParams({ kafka, topic })}`;
const placeOf = ({ partition, offset }) => `${partition}:${offset}`;
const time = (at) => (at ? dateTime(Date.parse(at)) : null);

const KINDS = { sinks: 'sink', sources: 'source', bridges: 'bridge' };
const writers = (of) => Object.entries(KINDS).flatMap(([key, kind]) => (of[key] ?? []).map((name) => html`<div>${kind} <a href=${`#/${key}/${escaped(name)}`}><${Text} of=${name} max=${80} /></a></div>`));
const PLACES = [
  { title: 'Topic or file', cell: (of) => (of.topic === undefined ? html`<code class="cut"><${Text} of=${of.file} max=${200} /></code>` : html`<a href=${linkOf(of)}><${Text} of=${of.topic} max=${120} /></a>`) },
  { title: 'Cluster', cell: ({ kafka }) => (kafka === undefined ? or(null) : html`<${Text} of=${kafka} max=${60} />`) },
  { title: 'Of', wide: true, cell: writers },
];

export function Letters({ query, set }) {
  if (query.kafka !== undefined && query.topic !== undefined) return html`<${OfTopic} key=${linkOf(query)} query=${query} set=${set} />`;
  return html`<${Places} />`;
}

function Places() {
  const { value, problem } = usePolled(() => get('dead-letters'), 0, 10_000);
  return html`
    <${Head} title="Dead letters"><${AsCommand} path="dead-letters" words=${['dead-letters', 'list']} /><//>
    ${problem && html`<div class="banner bad" role="alert"><${Text} of=${problem.message} max=${400} /></div>`}
    <section class="panel">${value && html`<${Table} label="Where dead letters go" columns=${PLACES} rows=${[...value.topics, ...value.files]} id=${(of) => of.file ?? linkOf(of)}>
      Nowhere: no sink, source or bridge has a topic or a file for them.<//>`}</section>
    <p class="dim">Those in a file are shown on the page of their sink.</p>`;
}

/** Bytes of the API. */
const Content = ({ of, max }) => (of === null || of === undefined ? or(null) : html`<code class="cut"><${Text} of=${of.text ?? of.base64} max=${max} /></code>${of.base64 !== undefined && html`<span class="why">base64</span>`}`);
const Writer = ({ of }) => ['sink', 'source', 'bridge'].filter((kind) => of[kind] !== null).map((kind) => html`${kind} <${Text} of=${of[kind]} max=${60} />`);

function columns(chosen, choose, whole) {
  return [
    { title: 'Letter', cell: (of) => html`<label class="row"><input type="checkbox" aria-label=${`Letter ${placeOf(of)}`} disabled=${of.cannot !== null} checked=${chosen.has(placeOf(of))} onChange=${(event) => choose(of, event.target.checked)} /><span class="num">${placeOf(of)}</span></label>` },
    { title: '', cell: (of) => html`<button type="button" class="plain" onClick=${() => whole(of)}>Show</button>` },
    { title: 'Time', cell: ({ at }) => html`<span class="num">${time(at)}</span>` },
    { title: 'Of', cell: (of) => html`<${Writer} of=${of} />${of.rule !== null && html`<span class="why">rule <${Text} of=${of.rule} max=${24} /></span>`}` },
    { title: 'Reason', cell: ({ reason, sent_before: n }) => html`<${Text} of=${reason ?? ''} max=${60} />${n > 0 && html`<span class="why">sent again ${count(n)} ${n === 1 ? 'time' : 'times'} before</span>`}` },
    { title: 'Kafka topic', cell: ({ kafka_topic: topic, kafka_partition: at }) => (topic === null ? or(null) : html`<${Text} of=${topic} max=${80} />${at !== null && ` ${at}`}`) },
    { title: 'Sent again', cell: ({ sent_again: is, cannot }) => (is ? 'yes' : cannot === null ? 'no' : 'cannot be') },
    { title: 'Value', wide: true, cell: ({ value }) => html`<${Content} of=${value} max=${120} />` },
  ];
}

function OfTopic({ query, set }) {
  const { kafka, topic, reason = '', since = '' } = query;
  const [at, setAt] = useState({ cursors: [null], round: 0 });
  const [found, setFound] = useState(/** @type {any} */ (null));
  const [chosen, setChosen] = useState(/** @type {Map<string, any>} */ (new Map()));
  const cursor = at.cursors.at(-1);
  const wanted = { ...(reason && { reason }), ...(since && { since }), ...(cursor && { cursor }) };
  const path = pathOf(query);
  const may = mayWrite();
  const key = JSON.stringify(wanted);
  useEffect(() => {
    let ended = false;
    if (may) get(`${path}?${new URLSearchParams(wanted)}`).then((page) => ended || setFound({ page }), (problem) => ended || setFound({ problem }));
    return () => (ended = true);
  }, [path, key, at.round, may]);
  useEffect(() => setAt((before) => ({ ...before, cursors: [null] })), [reason, since]);
  const again = () => (setChosen(new Map()), setAt({ ...at, round: at.round + 1 }));
  const choose = (of, is) => {
    const next = new Map(chosen);
    if (is) next.set(placeOf(of), of);
    else next.delete(placeOf(of));
    setChosen(next);
  };
  const whole = (of) => show(html`<${Whole} topic=${query} of=${of} again=${again} />`);
  const page = found?.page;
  const body = { letters: [...chosen.values()].map(({ partition, offset }) => ({ partition, offset })), repeat: [...chosen.values()].some((of) => of.sent_again) };
  return html`
    <${Head} title=${html`<a href="#/letters">Dead letters</a> / <${Text} of=${topic} max=${80} />`} sub=${html`<${Text} of=${kafka} max=${60} />`}>
      <${Search} label="Reason" value=${reason} found=${(next) => set({ reason: next })} />
      <${Search} label="Since" placeholder="-1h" value=${since} found=${(next) => set({ since: next })} />
      <${AsCommand} path=${`${path}?${new URLSearchParams(wanted)}`} words=${['dead-letters', 'list', kafka, topic, ...(reason ? ['--reason', reason] : []), ...(since ? [`--since=${since}`] : [])]} />
    <//>
    ${found?.problem && html`<div class="banner bad" role="alert"><${Text} of=${found.problem.message} max=${400} /></div>`}
    <${Panel} title="Letters" right=${html`<${WriteButton} ...${chosen.size === 0 ? { disabled: true } : {}} onClick=${() => show(html`<${Send} topic=${query} body=${body} again=${again} />`)}>Send ${chosen.size || ''} again<//>`}>
      ${!may && html`<${NeedsWrite}>They show what is in messages:<//>`}
      ${page && html`<${Table} label="Dead letters" columns=${columns(chosen, choose, whole)} rows=${page.letters} id=${placeOf}>${page.next ? 'None among those that were looked at: older ones come next.' : 'There is none.'}<//>`}
      ${may && html`<div class="filters"><button type="button" onClick=${again}>Read again</button>
        <button type="button" disabled=${at.cursors.length === 1} onClick=${() => setAt({ ...at, cursors: [null] })}>Newest</button>
        <button type="button" disabled=${!page?.next} onClick=${() => setAt({ ...at, cursors: [...at.cursors, page.next] })}>Older</button></div>`}
    <//>`;
}

/** An uncut letter. */
function Whole({ topic, of, again }) {
  const [found, setFound] = useState(/** @type {any} */ ({}));
  const path = `${pathOf(topic)}/${of.partition}/${of.offset}`;
  useEffect(() => {
    get(path).then((letter) => setFound({ letter }), (problem) => setFound({ problem }));
  }, [path]);
  const letter = found.letter ?? of;
  const text = (value) => (value === null ? null : html`<${Text} of=${value} max=${400} />`);
  const rows = [
    ['Letter', placeOf(letter)], ['Time', time(letter.at)], ['Of', html`<${Writer} of=${letter} />`], ['Rule', text(letter.rule)], ['Reason', text(letter.reason)],
    ['Kafka topic', text(letter.kafka_topic)], ['Partition', letter.kafka_partition], ['Offset', letter.kafka_offset], ['Received', time(letter.received)],
    ['MQTT topic', text(letter.mqtt_topic)], ['Client', text(letter.client_id)], ['QoS', letter.qos], ['Bytes', bytes(letter.value_bytes)],
    ['Key', letter.key && html`<${Content} of=${letter.key} max=${1000} />`], ['Sent again', letter.sent_again ? 'yes' : 'no'],
    ['Cannot be sent again', text(letter.cannot)],
    ...letter.headers.map(({ name, value }) => [html`Header <${Text} of=${name} max=${100} />`, html`<${Content} of=${value} max=${1000} />`]),
  ];
  const send = (body) => show(html`<${Send} topic=${topic} body=${body} again=${again} />`);
  const place = { partition: of.partition, offset: of.offset };
  return html`<div class="inside"><h2 id="dialog-title">Dead letter</h2>
    ${found.problem && html`<div class="banner bad" role="alert"><${Text} of=${found.problem.message} max=${400} /></div>`}
    <${Facts} rows=${rows.filter(([, value]) => value !== null && value !== undefined)} />
    <pre class="payload" tabindex="0" aria-label="Value">${letter.value === null ? 'null' : html`<${Text} of=${letter.value.text ?? letter.value.base64} max=${16_384} />`}</pre>
    <div class="buttons"><button type="button" onClick=${close}>Close</button>
      <${WriteButton} onClick=${() => send({ up_to: place })}>Send all up to it<//>
      <${WriteButton} kind="first" ...${letter.cannot === null ? {} : { disabled: true }} onClick=${() => send({ letters: [place], repeat: letter.sent_again })}>Send again<//></div></div>`;
}

const RESULTS = [
  { title: 'Letter', cell: (of) => html`<span class="num">${placeOf(of)}</span>` },
  { title: 'Result', cell: ({ result }) => result.replaceAll('_', ' ') },
  { title: 'To', cell: ({ to_topic: topic, to_partition: at, to_offset: offset }) => (topic === null ? or(null) : html`<${Text} of=${topic} max=${80} />${at !== null && ` ${at}`}${offset !== null && `:${offset}`}`) },
  { title: 'Why', wide: true, cell: ({ why }) => (why === null ? or(null) : html`<${Text} of=${why} max=${400} />`) },
];
/** Letters of one request. */
const ASKED_MAX = 1000;
/** Results that are counted and shown. */
const RESULTS_MAX = 100_000;

/**
 * Sends all letters, request by request. `pace`: limit per second; `tell` gets the results so far; `stop` ends it after a request.
 * @param {string} path
 * @param {object} body
 * @param {{ pace?: number | null, tell?: (letters: any[]) => void, stop?: AbortSignal }} [how]
 */
async function sendAll(path, body, { pace = null, tell = (_) => {}, stop = undefined } = {}) {
  const letters = [];
  let [from, note] = [undefined, null];
  do {
    const begun = Date.now();
    const answer = await get(`${path}/send`, { method: 'POST', body: { ...body, ...(from !== undefined && { from }), limit: pace ?? ASKED_MAX } });
    letters.push(...answer.letters);
    note = answer.not_noted ?? note;
    from = answer.from ?? undefined;
    tell([...letters]);
    if (from === undefined || letters.length >= RESULTS_MAX || answer.letters.some(({ result }) => result === 'unknown')) break;
    if (pace) await new Promise((done) => setTimeout(done, Math.max(0, 1000 - (Date.now() - begun))));
  } while (!stop?.aborted);
  return { letters, note, isStopped: from !== undefined && Boolean(stop?.aborted) };
}

/** The number of letters by result. */
function counted(letters) {
  const counts = new Map();
  letters.forEach(({ result }) => counts.set(result, (counts.get(result) ?? 0) + 1));
  return [...counts].map(([result, n]) => `${count(n)} ${result.replaceAll('_', ' ')}`).join(', ');
}

/** Shows the letters to send, sends them, and shows each result. */
function Send({ topic, body, again }) {
  const [state, setState] = useState(/** @type {any} */ ({}));
  const [pace, setPace] = useState(100);
  const [stop] = useState(() => new AbortController());
  // A closed dialog sends no more.
  useEffect(() => () => stop.abort(), []);
  const path = pathOf(topic);
  const during = async (work) => setState(await work().catch((problem) => ({ problem })));
  useEffect(() => void during(async () => ({ would: await sendAll(path, { ...body, dry_run: true }) })), []);
  const send = (event) => {
    event.preventDefault();
    setState({ ...state, busy: true });
    return during(async () => {
      const done = await sendAll(path, body, { pace: body.up_to ? pace : null, tell: (letters) => setState({ ...state, busy: true, so_far: letters }), stop: stop.signal });
      again();
      return { done };
    });
  };
  const shown = state.done ?? (state.so_far ? { letters: state.so_far } : state.would);
  const some = state.would?.letters.some(({ result }) => result === 'would_be_sent');
  return html`<form class="inside" onSubmit=${send}>
    <h2 id="dialog-title">Send dead letters again</h2>
    <p>Their records are written to the Kafka topic that each was for, with a header that says so: whoever reads it gets them, once more if it has had them. The letters stay in <code><${Text} of=${topic.topic} max=${120} /></code>, where nothing can be deleted.
      ${body.up_to && html` All of partition ${body.up_to.partition} up to ${body.up_to.offset} that were not sent again.`}</p>
    ${state.problem && html`<div class="banner bad" role="alert">${visible(state.problem.message, 600)}</div>`}
    ${shown && html`<div role="status"><p><b>${counted(shown.letters) || 'none: all of them were sent again before'}</b></p>
      ${shown.letters.length > 0 && html`<${Table} label="Results" columns=${RESULTS} rows=${shown.letters.slice(0, 500)} id=${placeOf} />`}
      ${state.done?.isStopped && html`<p>It was stopped: the others were not sent again.</p>`}
      ${state.done?.note && html`<p>It could not be noted which were sent again: <${Text} of=${state.done.note} max=${400} /></p>`}</div>`}
    ${body.up_to && !state.done && html`<label>At most in a second <input type="number" min="1" max=${ASKED_MAX} required disabled=${state.busy} value=${pace} onInput=${(event) => setPace(Number(event.target.value))} /></label>`}
    <div class="buttons"><button type="button" onClick=${close}>${state.done ? 'Close' : 'Cancel'}</button>
      ${body.up_to && state.busy && html`<button type="button" onClick=${() => stop.abort()}>Stop</button>`}
      ${!state.done && html`<button class="first" disabled=${state.busy || !some}>Send</button>`}</div>
  </form>`;
}
