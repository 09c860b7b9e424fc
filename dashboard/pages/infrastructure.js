// Sources and destinations of messages: listeners, Kafka clusters, the spool.

import { html, useState } from '../vendor/preact.js';
import { get, name as escaped } from '../api.js';
import { RANGES } from '../history.js';
import { layout, objects, tick, value } from '../live.js';
import { AsCommand, Big, Facts, Head, New, Panel, Segments, State, Table, Text, Tile, WriteButton, or, show, usePolled } from '../parts.js';
import { Heat, Plot, useColumns } from '../plot.js';
import { byteRate, bytes, count, many, rate, seconds } from '../text.js';
import { Change } from './change.js';
import { Edit } from './edit.js';
import { EventList, useEvents } from './events.js';

const Failed = ({ problem }) => problem && html`<div class="banner bad" role="alert"><${Text} of=${problem.message} max=${400} /></div>`;

const LISTENERS = [
  { title: 'Listener', cell: ({ address }) => html`<${Text} of=${address} max=${120} />` },
  { title: 'Transport', cell: ({ transport }) => transport },
  { title: 'Admits', cell: ({ config }) => (config?.auth ? html`auth <${Text} of=${config.auth} max=${60} />` : config ? 'everyone' : or(null)) },
  { title: 'Connections', number: true, cell: ({ address, connections, config }) => html`<a href=${`#/clients?${new URLSearchParams({ listener: address })}`}>${count(connections)}</a>${config?.connections_max ? ` of ${count(config.connections_max)}` : ''}` },
  { title: 'Publishes', number: true, cell: ({ rate: of }) => rate(of.received_per_second) },
  { title: 'Received', number: true, cell: ({ received }) => count(received) },
  { title: 'For a sink', number: true, cell: ({ matched }) => count(matched) },
  { title: 'For none', number: true, cell: ({ unmatched }) => count(unmatched) },
  { title: 'Refused', number: true, cell: ({ refused }) => count(refused) },
];

/** Actions on a listener; one with a free port has no address of its own in the configuration. */
const ofListener = (again) => ({ config, address }) => {
  const change = () => (location.hash = `#/listeners/${escaped(address)}?edit=yes`);
  const remove = () => show(html`<${Change} what="delete listener" name=${address} path=${`listeners/${escaped(address)}`} method="DELETE" danger button="Delete" done=${again}>
    Its clients are disconnected; their sessions stay.<//>`);
  return config ? html`<${WriteButton} kind="plain" onClick=${change}>Change<//> <${WriteButton} kind="plain" onClick=${remove}>Delete<//>` : or(null);
};

async function listeners() {
  const [{ listeners: all }, config] = await Promise.all([get('listeners'), get('config')]);
  return all.map((one) => ({ ...one, config: config.listener?.find(({ bind }) => bind === one.address) }));
}

/** @param {any} props */
export const Listeners = ({ name, query }) => (query.new || (name && query.edit) ? html`<${Edit} part="listeners" name=${name ?? undefined} />` : html`<${ListenerList} />`);

function ListenerList() {
  const [changes, setChanges] = useState(0);
  const { value: found, problem } = usePolled(listeners, `listeners ${changes}`, 2000);
  const columns = [...LISTENERS, { title: '', cell: ofListener(() => setChanges(changes + 1)) }];
  return html`<${Head} title="Listeners"><${New} part="listeners" one="listener" /><${AsCommand} path="listeners" words=${['listeners']} /><//>
    <${Failed} problem=${problem} />
    ${found && html`<section class="panel"><${Table} label="Listeners" columns=${columns} rows=${found} id=${(row) => row.address}>There is none.<//></section>`}
    <${Acknowledgements} />`;
}

/** Times to publishers' acknowledgements, by listener and by level. */
function Acknowledgements() {
  const { value: found } = usePolled(() => get('histograms?name=forebay_publish_ack_seconds'), 'acks', 5000);
  const rows = (found?.histograms ?? []).filter((one) => one.count > 0);
  const columns = [
    { title: 'Listener', cell: ({ labels }) => html`<${Text} of=${labels.listener} max=${120} />` },
    { title: 'Acknowledged', cell: ({ labels }) => labels.acknowledge },
    { title: 'Publishes', number: true, cell: (one) => count(one.count) },
    { title: 'Mean', number: true, cell: (one) => seconds(one.sum / one.count) },
    ...[0.5, 0.99, 0.999].map((part) => ({ title: `p${part * 100}, at most`, number: true, cell: (one) => bound(one, part) })),
  ];
  return html`<div class="grid">${found && html`<${Panel} title="Times to the acknowledgement, since the start"><${Table} label="Times" columns=${columns} rows=${rows} id=${({ labels }) => `${labels.listener} ${labels.acknowledge}`}>No publish has been acknowledged yet.<//><//>`}</div>`;
}

/** The bound of a histogram below which this share of values lies. */
export function bound({ bounds, counts, count: all }, part) {
  let below = 0;
  const place = counts.findIndex((n) => (below += n) >= part * all);
  return place < bounds.length ? seconds(bounds[place]) : `> ${seconds(bounds.at(-1))}`;
}

const CLUSTERS = [
  { title: 'Cluster', cell: ({ name, description }) => html`<a href=${`#/clusters/${escaped(name)}`}><${Text} of=${name} max=${80} /></a>${description && html`<span class="why"><${Text} of=${description} /></span>`}` },
  { title: 'State', cell: ({ reachable }) => html`<${State} word=${reachable ? 'reachable' : 'unreachable'} />` },
  { title: 'Bootstrap', cell: ({ bootstrap }) => html`<code class="cut"><${Text} of=${bootstrap.join(', ')} max=${200} /></code>` },
  { title: 'Connections', number: true, cell: ({ connections }) => count(connections) },
  { title: 'In flight', number: true, cell: ({ requests_in_flight: n }) => count(n) },
  { title: 'Requests', number: true, cell: ({ rate: of }) => rate(of.requests_per_second) },
  { title: 'Sent', number: true, cell: ({ rate: of }) => byteRate(of.sent_bytes_per_second) },
  { title: 'Memory', number: true, cell: ({ buffer_bytes: is, buffer_bytes_max: max }) => `${bytes(is)} of ${bytes(max)}` },
  { title: 'Throttled', number: true, cell: ({ throttled_seconds: s }) => seconds(s) },
];

/** @param {any} props */
export const Clusters = ({ query }) => (query.new ? html`<${Edit} part="clusters" />` : html`<${ClusterList} />`);

function ClusterList() {
  const { value: found, problem } = usePolled(() => get('clusters'), 'clusters', 2000);
  return html`<${Head} title="Clusters"><${New} part="clusters" one="cluster" /><${AsCommand} path="clusters" words=${['clusters']} /><//>
    <${Failed} problem=${problem} />
    ${found && html`<section class="panel"><${Table} label="Kafka clusters" columns=${CLUSTERS} rows=${found.clusters} id=${(row) => row.name}>There is none.<//></section>`}`;
}

const CLUSTER_PLOTS = [
  { title: 'Requests', unit: 'rate', series: [{ name: 'requests_per_second', label: 'requests' }] },
  { title: 'Bytes to Kafka', unit: 'byteRate', series: [{ name: 'sent_bytes_per_second', label: 'sent' }] },
  { title: 'Requests in flight', unit: 'count', series: [{ name: 'requests_in_flight', label: 'requests' }] },
];
const CLUSTER_SERIES = ['requests_per_second', 'sent_bytes_per_second', 'requests_in_flight', 'produce_buckets', 'produce_p50_seconds', 'produce_p99_seconds'];

/** @param {any} props */
export const Cluster = (props) => (props.query.edit ? html`<${Edit} part="clusters" name=${props.name} />` : html`<${OneCluster} ...${props} />`);

function OneCluster({ name, query, set }) {
  const range = RANGES[query.range] ? query.range : '5m';
  layout.value;
  const isLive = objects('cluster').some((one) => one.name === name);
  const { value: cluster, problem } = usePolled(() => get(`clusters/${escaped(name)}`), name, 2000);
  const { value: all } = usePolled(() => get('sinks'), 'sinks', 10_000);
  const [tried, setTried] = useState(null);
  const test = async () => {
    setTried({ busy: true });
    setTried(await get(`clusters/${escaped(name)}/test`, { method: 'POST', body: {} }).catch((failed) => ({ failed })));
  };
  const { list, loaded } = useEvents({ class: 'error' });
  const events = list.filter((event) => event.kafka === name);
  const sinks = all?.sinks.filter((sink) => sink.kafka === name) ?? [];
  return html`
    <${Head} title=${html`<a href="#/clusters">Clusters</a> / <${Text} of=${name} max=${80} />`} sub=${cluster && html`<${State} word=${cluster.reachable ? 'reachable' : 'unreachable'} />`}>
      <${Segments} label="Range" options=${Object.keys(RANGES)} value=${range} choose=${(next) => set({ range: next })} />
      <${WriteButton} onClick=${test} disabled=${tried?.busy}>Try to connect<//>
      ${name !== 'embedded' && html`<${WriteButton} onClick=${() => set({ edit: 'yes' })}>Change<//>
        <${WriteButton} onClick=${() => show(html`<${Change} what="delete cluster" name=${name} path=${`clusters/${escaped(name)}`} method="DELETE" danger button="Delete" done=${() => (location.hash = '#/clusters')}>
          Its connections end. One that a sink or source uses is not deleted.<//>`)}>Delete<//>`}
      <${AsCommand} path=${`clusters/${escaped(name)}`} words=${['clusters', name]} />
    <//>
    <${Failed} problem=${problem} />
    <div role="status">${tried && html`<${Tried} of=${tried} />`}</div>
    ${isLive && html`<${ClusterPlots} name=${name} range=${range} />`}
    ${cluster && html`<div class="grid side"><${Panel} title="Now"><${Facts} rows=${[
      ['Bootstrap', html`<${Text} of=${cluster.bootstrap.join(', ')} max=${400} />`],
      ['Shards with an answer', count(cluster.reachable_shards)],
      ['Connections', count(cluster.connections)],
      ['Memory of records', `${bytes(cluster.buffer_bytes)} of ${bytes(cluster.buffer_bytes_max)}`],
      ['Kept back of it', bytes(cluster.buffer_bytes_reserved)],
      ['Throttled', seconds(cluster.throttled_seconds)],
    ]} /><//>
    <${Panel} title="Sinks"><${Table} label="Sinks" rows=${sinks} id=${(sink) => sink.name} columns=${[
      { title: 'Sink', cell: (sink) => html`<a href=${`#/sinks/${escaped(sink.name)}`}><${Text} of=${sink.name} max=${80} /></a>` },
      { title: 'State', cell: (sink) => html`<${State} word=${sink.state} />` },
      { title: 'Wait', number: true, cell: (sink) => count(sink.buffered_records) },
    ]}>No sink writes to it.<//><//></div>`}
    <${Panel} title="Errors">${loaded && html`<${EventList} list=${events.slice(0, 8)} />`}<//>`;
}

/** Results of connections to a cluster, and of the topic's lookup. */
export function Tried({ of }) {
  if (of.busy) return html`<div class="banner">Connecting</div>`;
  if (of.failed) return html`<${Failed} problem=${of.failed} />`;
  const columns = [
    { title: 'Broker', cell: ({ broker }) => html`<${Text} of=${broker} max=${120} />` },
    { title: '', cell: ({ failed }) => html`<${State} word=${failed === null ? 'works' : 'fails'} />` },
    { title: 'Why', cell: ({ failed, reason }) => (failed === null ? or(null) : html`${failed}: <${Text} of=${reason ?? ''} max=${400} />`) },
  ];
  return html`<div class="grid"><${Panel} title=${of.works ? 'It can be reached' : 'It cannot be reached'}><${Table} label="Bootstrap brokers" columns=${columns} rows=${of.brokers} id=${(row) => row.broker}>There is none.<//>
    ${of.topic && html`<div class="empty">Topic <code><${Text} of=${of.topic.name} max=${200} /></code>: ${of.topic.reason === null ? html`<${State} word="works" /> ${many(of.topic.partitions, 'partition')}` : html`<${State} word="topic_missing" /> <${Text} of=${of.topic.reason} max=${400} />. A sink creates it where the cluster allows that; <code>forebay topics create</code> does in any case.`}</div>`}
    ${of.members.length > 0 && html`<div class="empty">Its brokers: <${Text} of=${of.members.join(', ')} max=${1000} /></div>`}<//></div>`;
}

function ClusterPlots({ name, range }) {
  const columns = useColumns('cluster', name, CLUSTER_SERIES, range);
  tick.value;
  const percentiles = ['p50', 'p99'].map((label) => ({ label, value: value('cluster', name, `produce_${label}_seconds`), error: '' }));
  return html`<div class="grid two">
    <${Heat} title="Time to Kafka's response" columns=${columns} series="produce_buckets" range=${range} percentiles=${percentiles} />
    ${CLUSTER_PLOTS.map((plot) => html`<${Plot} key=${plot.title} ...${plot} columns=${columns} range=${range} />`)}</div>`;
}

async function spoolNow() {
  const [spool, { sinks }, { histograms }, config] = await Promise.all([get('spool'), get('sinks'), get('histograms'), get('config')]);
  return { spool, sinks, syncs: histograms.filter((one) => one.name.startsWith('forebay_spool')), config: config.spool };
}

const SHARDS = [
  { title: 'Shard', number: true, cell: ({ shard }) => shard },
  { title: 'State', cell: (of) => html`<${State} word=${stateOf(of)} />` },
  { title: 'On disk', number: true, cell: ({ bytes: is, bytes_max: max }) => `${bytes(is)} of ${bytes(max)}` },
  { title: 'Not in Kafka yet', number: true, cell: ({ live_bytes: is }) => bytes(is) },
  { title: 'Segments', number: true, cell: ({ segments }) => count(segments) },
  { title: 'Sessions', number: true, cell: ({ sessions }) => count(sessions) },
  { title: 'Written', number: true, cell: ({ records_written: n }) => count(n) },
  { title: 'Failed writes', number: true, cell: ({ io_errors: n }) => count(n) },
  { title: 'Damaged places', number: true, cell: ({ corruptions: n }) => count(n) },
];
const stateOf = ({ write_failing: fails, full }) => (fails ? 'error' : full ? 'full' : 'good');

export function Spool({ query, set }) {
  const range = RANGES[query.range] ? query.range : '5m';
  const { value: found, problem } = usePolled(spoolNow, 'spool', 2000);
  const columns = useColumns('totals', '', ['spool_bytes', 'lag_seconds'], range);
  const { spool, sinks, syncs, config } = found ?? {};
  return html`
    <${Head} title="Spool" sub=${spool?.configured && html`<${State} word=${stateOf(spool)} />`}>
      <${Segments} label="Range" options=${Object.keys(RANGES)} value=${range} choose=${(next) => set({ range: next })} />
      <${AsCommand} path="spool" words=${['spool', 'status']} />
    <//>
    <${Failed} problem=${problem} />
    ${spool && !spool.configured && html`<div class="panel"><div class="empty">There is no spool: records wait in memory, and publishers wait for Kafka. In the configuration, one begins like this:<pre>[spool]
bytes_max = "8GiB"</pre></div></div>`}
    ${spool?.configured && html`
      ${spool.write_failing && html`<div class="banner bad" role="alert">A shard cannot write to its disk: nothing new is acknowledged there.</div>`}
      ${spool.corruptions > 0 && html`<div class="banner bad">${many(spool.corruptions, 'damaged place')} ${spool.corruptions === 1 ? 'was' : 'were'} found: <a href="#/events?kind=spool_damaged">events</a> say where.</div>`}
      <dl class="tiles">
        <${Tile} label="On disk" more=${`of ${bytes(spool.bytes_max)}`}><${Big} get=${() => value('totals', '', 'spool_bytes')} as=${bytes} /><//>
        <${Tile} label="Not in Kafka yet" more="bytes of records"><span class="num">${bytes(spool.live_bytes)}</span><//>
        <${Tile} label="Oldest" more="of all records that wait"><${Big} get=${() => value('totals', '', 'lag_seconds')} as=${seconds} /><//>
        <${Tile} label="Segments" more=${many(spool.sessions, 'session')}><span class="num">${count(spool.segments)}</span><//>
        <${Tile} label="Written" more="records since the start"><span class="num">${count(spool.records_written)}</span><//>
        <${Tile} label="Failed writes" more="and syncs"><span class="num">${count(spool.io_errors)}</span><//>
        <${Tile} label="Damaged places" more="found"><span class="num">${count(spool.corruptions)}</span><//>
        <${Tile} label="When it is full" more="when_full of [spool]"><span>${config?.when_full ?? or(null)}</span><//>
      </dl>
      <div class="grid two">
        <${Plot} title="Bytes on disk" unit="bytes" series=${[{ name: 'spool_bytes', label: 'spool' }]} columns=${columns} range=${range} />
        <${Plot} title="Oldest record that waits" unit="seconds" series=${[{ name: 'lag_seconds', label: 'age' }]} columns=${columns} range=${range} />
      </div>
      <div class="grid side"><${Panel} title="Times, since the start"><${Facts} rows=${syncs.filter((one) => one.name.endsWith('_seconds') && one.count > 0).map((one) => [one.name.replace('forebay_', '').replaceAll('_', ' '), `mean ${seconds(one.sum / one.count)}, p99 at most ${bound(one, 0.99)}`])} /><//>
      <${Panel} title="By sink"><${Table} label="Sinks" rows=${sinks} id=${(sink) => sink.name} columns=${[
        { title: 'Sink', cell: (sink) => html`<a href=${`#/sinks/${escaped(sink.name)}`}><${Text} of=${sink.name} max=${80} /></a>` },
        { title: 'Acknowledged when', cell: (sink) => sink.acknowledge },
        { title: 'In the spool', number: true, cell: (sink) => count(sink.spooled_records) },
        { title: 'Oldest', number: true, cell: (sink) => seconds(sink.lag_seconds) },
      ]}>There is no sink.<//><//></div>
      <div class="grid"><${Panel} title="By shard"><${Table} label="Shards" columns=${SHARDS} rows=${spool.shards} id=${({ shard }) => shard}>There is none.<//><//></div>`}`;
}
