// Sources: the list, and one with its plots, its partitions, and its seek.

import { html, useState } from '../vendor/preact.js';
import { ask, get, mayWrite, name as escaped } from '../api.js';
import { RANGES } from '../history.js';
import { layout, objects, value, word } from '../live.js';
import { AsCommand, Big, Head, Panel, Segments, State, Table, Text, Tile, WriteButton, close, closing, or, show, usePolled } from '../parts.js';
import { Plot, useColumns } from '../plot.js';
import { bytes, count, many, rate, visible } from '../text.js';
import { Actions, Gone, PartList, liveOr } from './actions.js';
import { Edit } from './edit.js';
import { EventList, useEvents } from './events.js';
import { Test } from './trial.js';

/** @param {any} props */
export const Sources = (props) => (props.query.new ? html`<${Edit} part="sources" />` : html`<${List} ...${props} />`);

/** Kafka topics with the MQTT topics of their records. */
const Topics = ({ of }) => Object.entries(of).map(([topic, to], at) => html`${at > 0 && html`<br />`}<code class="cut"><${Text} of=${topic} max=${120} /></code>${to && html` → <code class="cut"><${Text} of=${to} max=${120} /></code>`}`);
const dropped = (of) => of.bad + of.expired + of.no_subscriber + of.lost;

function List({ query, set }) {
  layout.value;
  const states = objects('source').map(({ name }) => word('source', name)).join();
  const { value: found, problem } = usePolled(() => get('sources'), states, 5000);
  const cell = liveOr('source');
  const columns = [
    { title: 'Source', cell: ({ name, description }) => html`<a href=${`#/sources/${escaped(name)}`}><${Text} of=${name} max=${80} /></a>${description && html`<span class="why"><${Text} of=${description} /></span>`}` },
    { title: 'State', cell: ({ state, reason }) => html`<${State} word=${state} />${reason && html`<span class="why"><${Text} of=${reason} max=${400} /></span>`}` },
    { title: 'Kafka topics, and what becomes of them', cell: ({ topics, kafka }) => html`<${Topics} of=${topics} /><span class="why"><${Text} of=${kafka} /></span>` },
    { title: 'Group', cell: ({ group }) => (group === null ? or(null) : html`<${Text} of=${group} max=${120} />`) },
    { title: 'Partitions', number: true, cell: ({ assigned_partitions: n, stopped_partitions: stopped }) => `${count(n)}${stopped > 0 ? `, ${count(stopped)} stopped` : ''}` },
    { title: 'Read', number: true, cell: cell('records_per_second', rate, (of) => of.rate.records_per_second) },
    { title: 'Published', number: true, cell: cell('published_per_second', rate, (of) => of.rate.published_per_second) },
    { title: 'Lag', number: true, cell: cell('lag_records', count, (of) => of.lag_records) },
    { title: 'Open', number: true, cell: ({ open_messages: n }) => count(n) },
    { title: 'Dropped', number: true, cell: (of) => count(dropped(of)) },
  ];
  return html`<${PartList} part="sources" title="Sources" one="source" all=${found?.sources} problem=${problem} columns=${columns} query=${query} set=${set}>There is no source: nothing comes from Kafka. In the configuration, one begins like this:<pre tabindex="0">[[source]]
name = "commands"
topic = "commands"
mqtt_topic = "devices/\${key}/commands"</pre><//>`;
}

/** @param {any} props */
export const Source = (props) => (props.query.edit ? html`<${Edit} part="sources" name=${props.name} />` : html`<${One} ...${props} />`);

function One({ name, query, set }) {
  const range = RANGES[query.range] ? query.range : '5m';
  layout.value;
  const isLive = objects('source').some((one) => one.name === name);
  const state = isLive && word('source', name);
  const [changes, setChanges] = useState(0);
  const { value: source, problem } = usePolled(() => get(`sources/${escaped(name)}`), `${name} ${state} ${changes}`, 2000);
  if (problem?.status === 404) return html`<${Gone} part="sources" title="Sources" one="Source" name=${name} problem=${problem} />`;
  const isPaused = source?.state === 'paused';
  return html`
    <${Head} title=${html`<a href="#/sources">Sources</a> / <${Text} of=${name} max=${80} />`} sub=${source && html`<${State} word=${source.state} />`}>
      <${Segments} label="Range" options=${Object.keys(RANGES)} value=${range} choose=${(next) => set({ range: next })} />
      <${Actions} part="sources" one="source" name=${name} isPaused=${isPaused} set=${set} done=${() => setChanges(changes + 1)}
        pause="Nothing more is read. It commits what its subscribers have, and leaves its group, which keeps its offsets."
        resume="It joins its group, and reads on where that stands."
        remove="Nothing more is read. It commits what its subscribers have, and leaves its group, which keeps its offsets." />
      <${WriteButton} onClick=${() => show(html`<${SeekTo} source=${source} done=${() => setChanges(changes + 1)} />`)} disabled=${!source}>Read from<//>
      ${mayWrite() && html`<a class="button" href=${`#/rules?${new URLSearchParams({ new: 'yes', source: name })}`}>New rule</a>`}
      <${AsCommand} path=${`sources/${escaped(name)}`} words=${['sources', name]} />
    <//>
    ${query.made && html`<div class="banner" role="status">It is made. Its records are messages where it has an MQTT topic. <a href=${`#/rules?${new URLSearchParams({ new: 'yes', source: name })}`}>Make a rule of its records</a> filters them, and makes new records or messages.</div>`}
    ${source?.reason && html`<div class=${isPaused ? 'banner' : 'banner bad'} role="status"><${Text} of=${source.reason} max=${600} /></div>`}
    <${Numbers} name=${name} source=${source} isLive=${isLive} />
    ${isLive && html`<${Plots} name=${name} range=${range} />`}
    ${source && html`<${Partitions} of=${source} />
      <div class="grid side"><${Facts} source=${source} /><${Dropped} source=${source} /></div>`}
    <div class="grid"><${Panel} title="Trial"><div class="inside"><p class="dim">What it finds in Kafka, and what becomes of the newest records. Nothing is published, and its group stays as it is.</p><div class="buttons"><${Test} part="sources" name=${name} /></div></div><//></div>
    ${source && html`<${SourceEvents} name=${name} />`}`;
}

function Numbers({ name, source, isLive }) {
  const big = (series, as, field) => (isLive ? html`<${Big} get=${() => value('source', name, series)} as=${as} />` : html`<span class="num">${as(source && field(source))}</span>`);
  const of = (field, as = count) => html`<span class="num">${as(source?.[field])}</span>`;
  return html`<dl class="tiles">
    <${Tile} label="Read" more=${source ? `${count(source.records)} since the start` : ''}>${big('records_per_second', rate, (one) => one.rate.records_per_second)}<//>
    <${Tile} label="Published" more=${source ? `${count(source.published)} since the start` : ''}>${big('published_per_second', rate, (one) => one.rate.published_per_second)}<//>
    <${Tile} label="Lag" more="records in Kafka that were not read">${big('lag_records', count, (one) => one.lag_records)}<//>
    <${Tile} label="Open" more=${source ? `${bytes(source.open_bytes)}, not acknowledged` : ''}>${of('open_messages')}<//>
    <${Tile} label="Partitions" more=${source ? `${count(source.stopped_partitions)} stopped` : ''}>${of('assigned_partitions')}<//>
    <${Tile} label="Commits" more=${source ? `${count(source.commits_failed)} refused` : ''}>${of('commits')}<//>
    <${Tile} label="Assignments" more=${source ? `${many(source.memberships_lost, 'membership')} lost` : ''}>${of('rebalances')}<//>
    <${Tile} label="Dropped" more="since the start">${html`<span class="num">${count(source && dropped(source))}</span>`}<//>
  </dl>`;
}

function Plots({ name, range }) {
  const columns = useColumns('source', name, ['records_per_second', 'published_per_second', 'lag_records'], range);
  return html`<div class="grid two">
    <${Plot} title="Records" unit="rate" series=${[{ name: 'records_per_second', label: 'read' }, { name: 'published_per_second', label: 'published' }]} columns=${columns} range=${range} />
    <${Plot} title="Lag" unit="count" series=${[{ name: 'lag_records', label: 'records' }]} columns=${columns} range=${range} /></div>`;
}

const PARTITIONS = [
  { title: 'Topic', cell: ({ topic }) => html`<code class="cut"><${Text} of=${topic} max=${120} /></code>` },
  { title: 'Partition', number: true, cell: ({ partition }) => partition },
  { title: 'State', cell: ({ state, reason }) => html`<${State} word=${state} />${reason && html`<span class="why"><${Text} of=${reason} max=${300} /></span>`}` },
  { title: 'Shard', number: true, cell: ({ shard }) => or(shard) },
  { title: 'Reads next', number: true, cell: ({ position }) => count(position) },
  { title: 'Committed', number: true, cell: ({ committed }) => count(committed) },
  { title: 'Lag', number: true, cell: ({ lag_records: lag }) => count(lag) },
  { title: 'Open', number: true, cell: ({ open_messages: n }) => count(n) },
  { title: 'Wait for a subscriber', number: true, cell: ({ parked_messages: n }) => count(n) },
];
const Partitions = ({ of }) => html`<div class="grid"><${Panel} title="Partitions" right=${html`<span class="dim num">${count(of.partitions.length)}${of.partitions_left_out > 0 && `, and ${count(of.partitions_left_out)} more`}</span>`}>
  <${Table} label="Partitions" columns=${PARTITIONS} rows=${of.partitions} id=${({ topic, partition }) => `${topic} ${partition}`}>It has none.<//><//></div>`;

function Facts({ source }) {
  const rows = [
    ['Kafka topics', html`<${Topics} of=${source.topics} />`],
    ['Cluster', html`<a href=${`#/clusters/${escaped(source.kafka)}`}><${Text} of=${source.kafka} max=${80} /></a>`],
    ['Consumer group', source.group === null ? 'none: it reads all partitions, and commits nothing' : html`<${Text} of=${source.group} max=${200} />`],
    ['In FROM of a rule', html`<code><${Text} of=${source.from} max=${200} /></code>`],
    ['Rules that name it so', source.rules.length ? source.rules.map((rule, at) => html`${at > 0 && ', '}<a href=${`#/rules/${escaped(rule)}`}><${Text} of=${rule} max=${80} /></a>`) : 'none'],
  ];
  return html`<${Panel} title="Configuration"><dl class="facts">${rows.map(([what, text]) => html`<dt>${what}</dt><dd>${text}</dd>`)}</dl><//>`;
}

const REASONS = [
  ['bad', 'it cannot be a message'],
  ['expired', 'its message had expired'],
  ['no_subscriber', 'nobody had subscribed'],
  ['lost', 'it was published, and nobody has it after all'],
  ['released', 'it was given up after release_after'],
  ['bad_batches', 'its batch cannot be read (batches)'],
];
const Dropped = ({ source }) => html`<${Panel} title="Records that were dropped, by reason"><${Table} label="Dropped records" columns=${[
  { title: 'Reason', cell: ([, why]) => why },
  { title: 'Records', number: true, cell: ([field]) => count(source[field]) },
]} rows=${REASONS.filter(([field]) => source[field] > 0)} id=${([field]) => field}>None since the start.<//><//>`;

function SourceEvents({ name }) {
  const { list, loaded } = useEvents({ source: name });
  return html`<${Panel} title="Events" right=${html`<${AsCommand} path=${`events?${new URLSearchParams({ source: name })}`} words=${['events', '--source', name]} />`}>${loaded && html`<${EventList} list=${list.slice(0, 8)} />`}<//>`;
}

/** The dialog of a seek: where to continue reading. */
function SeekTo({ source, done }) {
  const [to, setTo] = useState('');
  const [which, setWhich] = useState('');
  const [problem, setProblem] = useState('');
  const place = source.partitions[Number(which)];
  const send = async (event) => {
    event.preventDefault();
    const end = closing();
    try {
      await ask(`sources/${escaped(source.name)}/seek`, { method: 'POST', body: { to: to.trim(), ...(which !== '' && { topic: place.topic, partition: place.partition }) } });
      end();
      done();
    } catch (error) {
      setProblem(error.message);
    }
  };
  return html`<form onSubmit=${send}>
    <h2 id="dialog-title">Read from another place</h2>
    <p>Messages that subscribers have not acknowledged are given up, and the place is committed. A partition that has stopped is read again.</p>
    <label>Place <input required spellcheck=${false} placeholder="earliest, latest, -1h, 2026-11-26T10:00:00Z, or an offset" value=${to} onInput=${(event) => setTo(event.target.value)} /></label>
    <label>Partitions <select value=${which} onChange=${(event) => setWhich(event.target.value)}><option value="">all</option>
      ${source.partitions.map(({ topic, partition }, at) => html`<option value=${String(at)}>${visible(topic, 80)} ${partition}</option>`)}</select></label>
    ${problem && html`<div class="banner bad" role="alert">${visible(problem, 600)}</div>`}
    <div class="buttons"><button type="button" onClick=${close}>Cancel</button><button class="first">Read from there</button></div>
  </form>`;
}
