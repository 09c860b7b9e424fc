// Sinks: the list, and one with its plots, its partitions and its events.

import { html, useState } from '../vendor/preact.js';
import { get, mayWrite, name as escaped } from '../api.js';
import { RANGES } from '../history.js';
import { layout, objects, peek, tick, value, word } from '../live.js';
import { AsCommand, Big, Head, Live, Panel, Segments, State, Table, Text, Tile, WriteButton, or, show, usePolled } from '../parts.js';
import { Heat, Plot, tick as mark, useColumns } from '../plot.js';
import { bytes, count, dateTime, many, rate, seconds } from '../text.js';
import { Actions, Gone, PartList, liveOr } from './actions.js';
import { EventList, useEvents } from './events.js';
import { Edit } from './edit.js';
import { Try } from './try.js';

const of = (name, series) => () => value('sink', name, series);
const Now = ({ name, series, as }) => html`<${Live} get=${of(name, series)} as=${as} />`;

export const Sinks = (props) => (props.query.new ? html`<${Edit} />` : html`<${List} ...${props} />`);

function List({ query, set }) {
  layout.value;
  const states = objects('sink').map(({ name }) => word('sink', name)).join();
  // Fields outside the stream are requested again when a state changes.
  const { value: found, problem } = usePolled(() => get('sinks'), states, 10_000);
  const live = new Set(objects('sink').map(({ name }) => name));
  const cell = liveOr('sink');
  const columns = [
    { title: 'Sink', cell: ({ name, description }) => html`<a href=${`#/sinks/${escaped(name)}`}><${Text} of=${name} max=${80} /></a>${description && html`<span class="why"><${Text} of=${description} /></span>`}` },
    { title: 'State', cell: ({ name, state, reason }) => html`<${State} word=${live.has(name) ? word('sink', name) : state} />${reason && html`<span class="why"><${Text} of=${reason} max=${400} /></span>`}` },
    { title: 'From', cell: ({ filters }) => html`<code class="cut"><${Text} of=${filters.join(', ') || 'rules'} max=${120} /></code>` },
    { title: 'To', cell: ({ kafka, topic }) => html`<code class="cut"><${Text} of=${topic ?? 'a template'} max=${120} /></code><span class="why"><${Text} of=${kafka} /></span>` },
    { title: 'In', number: true, cell: cell('records_in_per_second', rate, (sink) => sink.rate.records_in_per_second) },
    { title: 'Delivered', number: true, cell: cell('delivered_per_second', rate, (sink) => sink.rate.delivered_per_second) },
    { title: 'Wait', number: true, cell: cell('waiting_records', count, (sink) => sink.buffered_records) },
    { title: 'Oldest', number: true, cell: cell('lag_seconds', seconds, (sink) => sink.lag_seconds) },
    { title: 'Failed', number: true, cell: cell('failed', count, (sink) => sink.failed) },
    { title: 'Refused', number: true, cell: cell('refused', count, (sink) => Object.values(sink.refused_publishes).reduce((a, b) => a + b, 0)) },
  ];
  return html`<${PartList} part="sinks" title="Sinks" one="sink" all=${found?.sinks} problem=${problem} columns=${columns} query=${query} set=${set}>There is no sink, so nothing goes to Kafka. In the configuration, one begins like this:<pre>[[sink]]
name = "all"
filters = ["#"]
topic = "mqtt"</pre><//>`;
}

const SERIES = [
  'records_in_per_second', 'delivered_per_second', 'failed_per_second', 'refused_per_second', 'waiting_records', 'lag_seconds',
  'batch_records', 'batch_bytes', 'retries_per_second', 'waiting_bytes',
];
const PLOTS = [
  { title: 'Records', unit: 'rate', series: [['records_in_per_second', 'in'], ['delivered_per_second', 'delivered'], ['failed_per_second', 'failed'], ['refused_per_second', 'refused']] },
  { title: 'Oldest record that waits', unit: 'seconds', series: [['lag_seconds', 'age']] },
  { title: 'Records that wait', unit: 'count', series: [['waiting_records', 'records']] },
  { title: 'Records of a batch', unit: 'count', series: [['batch_records', 'mean']] },
  { title: 'Bytes of a batch', unit: 'bytes', series: [['batch_bytes', 'mean']] },
  { title: 'Batches sent again', unit: 'rate', series: [['retries_per_second', 'batches']] },
];

export const Sink = (props) => (props.query.edit ? html`<${Edit} name=${props.name} />` : html`<${One} ...${props} />`);

function One({ name, query, set }) {
  const range = RANGES[query.range] ? query.range : '5m';
  layout.value;
  const object = objects('sink').find((one) => one.name === name);
  const state = object && word('sink', name);
  const { value: sink, problem } = usePolled(() => get(`sinks/${escaped(name)}`), `${name} ${state}`, object ? 5000 : 1000);
  const [changes, setChanges] = useState(0);
  if (problem?.status === 404) return html`<${Gone} part="sinks" title="Sinks" one="Sink" name=${name} problem=${problem} />`;
  if (!sink && !object) return html`<${Head} title=${html`<a href="#/sinks">Sinks</a> / <${Text} of=${name} max=${80} />`} />`;
  const paused = (state ?? sink?.state) === 'paused';
  const waiting = `${many(sink?.buffered_records, 'record')} ${sink?.buffered_records === 1 ? 'waits' : 'wait'}`;
  return html`
    <${Head} title=${html`<a href="#/sinks">Sinks</a> / <${Text} of=${name} max=${80} />`} sub=${html`<${State} word=${state ?? sink?.state ?? 'unknown'} />`}>
      <${Segments} label="Range" options=${Object.keys(RANGES)} value=${range} choose=${(next) => set({ range: next })} />
      ${(sink || problem) && html`<${Actions} part="sinks" one="sink" name=${name} isPaused=${paused} set=${set} done=${() => setChanges(changes + 1)}
        pause=${html`Nothing new is sent to Kafka. ${waiting} now; it takes more while its buffer has room, and what is on its way is finished.`}
        resume="It sends what waits, in order, and goes on."
        remove=${html`It accepts no more messages. ${waiting}; ${sink?.buffered_records === 1 ? 'it is' : 'they are'} still delivered.`}>
        <${WriteButton} onClick=${() => show(html`<${Try} name=${name} />`)}>Test<//><//>`}
      <${AsCommand} path=${`sinks/${escaped(name)}`} words=${['sinks', name]} />
    <//>
    ${sink?.reason && html`<div class=${state === 'paused' ? 'banner' : 'banner bad'} role="status"><${Text} of=${sink.reason} max=${600} /></div>`}
    ${layout.value && !object && sink && html`<div class="banner">This sink is not among the first ${layout.value.objects.filter((one) => one.kind === 'sink').length}, which have live numbers and a history: it is asked for once a second.</div>`}
    <${Numbers} name=${name} sink=${sink} live=${Boolean(object)} />
    ${object && html`<${Plots} name=${name} kafka=${object.kafka} range=${range} history=${object.history} />`}
    <${Partitions} name=${name} />
    <div class="grid side"><${Facts} sink=${sink} /><${SinkEvents} name=${name} /></div>
    <${Letters} name=${name} kafka=${sink?.kafka ?? ''} />`;
}

const LETTERS = [
  { title: 'Time', cell: ({ time }) => html`<span class="num">${time ? dateTime(Date.parse(time)) : or(null)}</span>` },
  { title: 'Reason', cell: ({ reason, bytes: size }) => (size ? `a letter of ${bytes(size)}, too long to be shown` : html`<${Text} of=${reason ?? ''} max=${80} />`) },
  { title: 'MQTT topic', cell: ({ mqtt_topic: topic }) => (topic == null ? or(null) : html`<code class="cut"><${Text} of=${topic} max=${120} /></code>`) },
  { title: 'Client', cell: ({ client_id: id }) => (id == null ? or(null) : html`<a href=${`#/clients/${escaped(id)}`}><${Text} of=${id} max=${80} /></a>`) },
  { title: 'Kafka topic', cell: ({ kafka_topic: topic, kafka_partition: partition }) => (topic == null ? or(null) : html`<${Text} of=${topic} max=${80} />${partition != null && ` ${partition}`}`) },
  { title: 'Value', cell: ({ value, value_encoding: of }) => (value == null ? or(null) : html`<code class="cut"><${Text} of=${value} max=${200} /></code>${of === 'base64' && html`<span class="why">base64</span>`}`) },
];

/** Dead letters of the sink from its file, the newest first. */
function Letters({ name, kafka }) {
  const [before, setBefore] = useState(null);
  const path = `dead-letters/${escaped(name)}`;
  const key = `${name} ${before} ${mayWrite()}`;
  const { value: found, problem } = usePolled(() => (mayWrite() ? get(`${path}?${new URLSearchParams({ limit: '20', ...(before && { before }) })}`) : Promise.resolve(null)), key, 10_000);
  const none = !mayWrite() ? 'They show what is in messages: this needs a token with the role write.' : 'There is none in its file.';
  return html`<${Panel} title="Dead letters" right=${html`<${AsCommand} path=${path} words=${['sinks', name, 'dead-letters']} />`}>
    ${problem ? html`<div class="empty"><${Text} of=${problem.message} max=${400} /></div>` : html`<${Table} label="Dead letters" columns=${LETTERS} rows=${(found?.letters ?? []).filter(Boolean).map((letter, place) => ({ ...letter, place }))} id=${({ place }) => place}>${none}<//>`}
    ${found?.topic && html`<div class="empty"><a href=${`#/letters?${new URLSearchParams({ kafka, topic: found.topic })}`}>Those in the topic <code><${Text} of=${found.topic} /></code></a> have a page of their own.</div>`}
    ${(found?.next || before) && html`<div class="filters"><button type="button" disabled=${!before} onClick=${() => setBefore(null)}>Newest</button><button type="button" disabled=${!found?.next} onClick=${() => setBefore(found.next)}>Older</button></div>`}
  <//>`;
}

function Numbers({ name, sink, live }) {
  const big = (series, as, field) => (live ? html`<${Big} get=${of(name, series)} as=${as} />` : html`<span class="num">${as(sink && field(sink))}</span>`);
  const failures = sink && Object.entries({ ...sink.failures, ...sink.refused_publishes }).filter(([, n]) => n > 0).map(([why, n]) => `${why.replaceAll('_', ' ')} ${count(n)}`).join(', ');
  return html`<dl class="tiles">
    <${Tile} label="In" more=${live ? html`<${Now} name=${name} series="records_in" as=${count} /> since the start` : ''}>${big('records_in_per_second', rate, (one) => one.rate.records_in_per_second)}<//>
    <${Tile} label="Delivered" more=${live ? html`<${Now} name=${name} series="delivered" as=${count} /> in Kafka` : ''}>${big('delivered_per_second', rate, (one) => one.rate.delivered_per_second)}<//>
    <${Tile} label="Records that wait" more=${live ? html`<${Now} name=${name} series="spooled_records" as=${count} /> in the spool` : ''}>${big('waiting_records', count, (one) => one.buffered_records)}<//>
    <${Tile} label="Their memory" more="">${big('waiting_bytes', bytes, (one) => one.buffered_bytes)}<//>
    <${Tile} label="Oldest" more="that is not in Kafka">${big('lag_seconds', seconds, (one) => one.lag_seconds)}<//>
    <${Tile} label="Failed" more=${failures || 'nothing'}>${big('failed', count, (one) => one.failed)}<//>
    <${Tile} label="Refused" more="publishes">${big('refused', count, (one) => Object.values(one.refused_publishes).reduce((a, b) => a + b, 0))}<//>
    <${Tile} label="Batches sent again" more="">${big('retries', count, (one) => one.batch_retries)}<//>
  </dl>`;
}

/** The bounds of a value in the histogram. */
function error(at) {
  const bounds = layout.value?.bounds ?? [];
  if (typeof at !== 'number') return '';
  const above = bounds.findIndex((bound) => at <= bound);
  return above < 0 ? `more than ${mark(seconds(bounds.at(-1)))}` : `between ${mark(seconds(above ? bounds[above - 1] : 0))} and ${mark(seconds(bounds[above]))}`;
}

function Plots({ name, kafka, range, history }) {
  const columns = useColumns('sink', name, SERIES, range);
  const cluster = useColumns('cluster', kafka, ['produce_buckets', 'produce_p50_seconds', 'produce_p99_seconds'], range);
  tick.value;
  const percentiles = ['p50', 'p99'].map((label) => {
    const at = peek('cluster', kafka, `produce_${label}_seconds`);
    return { label, value: at, error: error(at) };
  });
  return html`
    ${!history && html`<div class="banner">There is no memory for the history of this sink: its plots begin now.</div>`}
    <div class="grid two">
      ${PLOTS.slice(0, 1).map((plot) => draw(plot, columns, range))}
      <${Heat} title=${`Time to Kafka's response, cluster ${kafka}`} columns=${cluster} series="produce_buckets" range=${range} percentiles=${percentiles} />
      ${PLOTS.slice(1, 3).map((plot) => draw(plot, columns, range))}
    </div>
    <div class="grid three">${PLOTS.slice(3).map((plot) => draw(plot, columns, range))}</div>`;
}
const draw = (plot, columns, range) => html`<${Plot} key=${plot.title} ...${plot} series=${plot.series.map(([name, label]) => ({ name, label }))} columns=${columns} range=${range} />`;

const WORST = ['refused', 'no_leader', 'no_partition', 'backing_off', 'sent_again', 'sending', 'waiting', 'idle'];
const SHOWN_MAX = 256;

/** Rows of all shards together, by partition. */
function together(rows) {
  const found = new Map();
  for (const row of rows) {
    const key = `${row.topic} ${row.partition ?? -1}`;
    const one = found.get(key);
    if (!one) {
      found.set(key, { ...row, shards: 1 });
      continue;
    }
    for (const sum of ['waiting_records', 'waiting_bytes', 'disk_only_records', 'batches', 'requests_in_flight']) one[sum] += row[sum];
    one.shards += 1;
    one.oldest_seconds = Math.max(one.oldest_seconds ?? -1, row.oldest_seconds ?? -1);
    if (one.oldest_seconds < 0) one.oldest_seconds = null;
    if (row.acknowledged_offset !== null) one.acknowledged_offset = Math.max(one.acknowledged_offset ?? -1, row.acknowledged_offset);
    if (one.leader === null) [one.leader, one.leader_address] = [row.leader, row.leader_address];
    if (WORST.indexOf(row.state) < WORST.indexOf(one.state)) one.state = row.state;
  }
  return [...found.values()].sort((a, b) => (a.topic < b.topic ? -1 : a.topic > b.topic ? 1 : (a.partition ?? -1) - (b.partition ?? -1)));
}

const PARTITIONS = [
  { title: 'Topic', cell: ({ topic }) => html`<code class="cut"><${Text} of=${topic} max=${120} /></code>` },
  { title: 'Partition', number: true, cell: ({ partition }) => or(partition) },
  { title: 'State', cell: ({ state }) => html`<${State} word=${state} />` },
  { title: 'Leader', cell: ({ leader, leader_address: address }) => (leader === null ? or(null) : html`<span class="num">${leader}${address && html` <span class="dim"><${Text} of=${address} /></span>`}</span>`) },
  { title: 'Wait', number: true, cell: ({ waiting_records: records }) => count(records) },
  { title: 'Memory', number: true, cell: ({ waiting_bytes: size }) => bytes(size) },
  { title: 'On disk only', number: true, cell: ({ disk_only_records: records }) => count(records) },
  { title: 'In flight', number: true, cell: ({ requests_in_flight: requests }) => count(requests) },
  { title: 'Oldest', number: true, cell: ({ oldest_seconds: age }) => (age === null ? or(null) : seconds(age)) },
  { title: 'Acknowledged offset', number: true, cell: ({ acknowledged_offset: offset }) => count(offset) },
];

function Partitions({ name }) {
  const { value: found, problem } = usePolled(() => get(`sinks/${escaped(name)}/partitions?limit=1000`), name, 2000);
  const rows = found ? together(found.partitions) : [];
  const more = found?.next ? 'the first of many' : count(rows.length);
  return html`<div class="grid"><${Panel} title="Partitions" right=${html`<span class="dim num">${found && more}</span>`}>
    ${problem && html`<div class="empty" role="alert">${problem.message}</div>`}
    ${found && html`<${Table} label="Partitions" columns=${PARTITIONS} rows=${rows.slice(0, SHOWN_MAX)} id=${(row) => `${row.topic} ${row.partition}`}>No record has come for this sink since the start.<//>`}
    ${rows.length > SHOWN_MAX && html`<div class="empty">And ${count(rows.length - SHOWN_MAX)} more.</div>`}
  <//></div>`;
}

const ACKNOWLEDGE = {
  received: 'a message is taken',
  stored: 'it is on the disk',
  leader: "the partition's leader has it",
  replicated: 'all in-sync replicas have it',
};

function Facts({ sink }) {
  if (!sink) return html`<${Panel} title="Configuration" />`;
  const rows = [
    ['Topic filters', sink.filters.length ? html`<code><${Text} of=${sink.filters.join(', ')} max=${600} /></code>` : 'none: rules feed it'],
    ['Kafka topic', sink.topic ? html`<code><${Text} of=${sink.topic} /></code>` : 'a template makes it of each message'],
    ['Cluster', html`<${Text} of=${sink.kafka} />`],
    ['Acknowledges when', ACKNOWLEDGE[sink.acknowledge] ?? sink.acknowledge],
  ];
  return html`<${Panel} title="Configuration" right=${html`<${AsCommand} path="config" words=${null} />`}>
    <dl class="facts">${rows.map(([what, text]) => html`<dt>${what}</dt><dd>${text}</dd>`)}</dl><//>`;
}

function SinkEvents({ name }) {
  const { list, loaded } = useEvents({ sink: name });
  return html`<${Panel} title="Events" right=${html`<a href=${`#/events?${new URLSearchParams({ sink: name })}`}>All</a>`}>${loaded && html`<${EventList} list=${list.slice(0, 8)} />`}<//>`;
}
