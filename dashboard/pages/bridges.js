// Bridges: the list, and one with its remote, the remote's grants, and queues.

import { html, useState } from '../vendor/preact.js';
import { get, name as escaped } from '../api.js';
import { RANGES } from '../history.js';
import { layout, objects, value, word } from '../live.js';
import { AsCommand, Big, Facts, Head, Panel, Segments, State, Table, Text, Tile, or, usePolled } from '../parts.js';
import { Plot, useColumns } from '../plot.js';
import { byteRate, bytes, count, many, rate, seconds } from '../text.js';
import { Actions, Gone, PartList, liveOr } from './actions.js';
import { Edit } from './edit.js';
import { EventList, useEvents } from './events.js';
import { Test } from './trial.js';

/** @param {any} props */
export const Bridges = (props) => (props.query.new ? html`<${Edit} part="bridges" />` : html`<${List} ...${props} />`);

function List({ query, set }) {
  layout.value;
  const states = objects('bridge').map(({ name }) => word('bridge', name)).join();
  const { value: found, problem } = usePolled(() => get('bridges'), states, 5000);
  const cell = liveOr('bridge');
  const columns = [
    { title: 'Bridge', cell: ({ name, description }) => html`<a href=${`#/bridges/${escaped(name)}`}><${Text} of=${name} max=${80} /></a>${description && html`<span class="why"><${Text} of=${description} /></span>`}` },
    { title: 'State', cell: ({ state, reason, since_seconds: since }) => html`<${State} word=${state} /> <span class="dim num">for ${seconds(since)}</span>${reason && html`<span class="why"><${Text} of=${reason} max=${400} /></span>`}` },
    { title: 'Remote', cell: ({ remote }) => html`<code class="cut"><${Text} of=${remote} max=${160} /></code>` },
    { title: 'In', number: true, cell: cell('received_per_second', rate, (of) => of.rate.received_per_second) },
    { title: 'Out', number: true, cell: cell('delivered_per_second', rate, () => null) },
    { title: 'Wait', number: true, cell: ({ queued_messages: n }) => count(n) },
    { title: 'Not acknowledged', number: true, cell: ({ unacknowledged_messages: n, unacknowledged_messages_max: max }) => `${count(n)} of ${count(max)}` },
    { title: 'Dropped', number: true, cell: ({ dropped: n }) => count(n) },
  ];
  return html`<${PartList} part="bridges" title="Bridges" one="bridge" all=${found?.bridges} problem=${problem} columns=${columns} query=${query} set=${set}>There is no bridge to another MQTT broker. In the configuration, one begins like this:<pre tabindex="0">[bridge.plant]
url = "mqtt://broker.example:1883"
[[bridge.plant.in]]
filters = "plant/#"</pre><//>`;
}

/** @param {any} props */
export const Bridge = (props) => (props.query.edit ? html`<${Edit} part="bridges" name=${props.name} />` : html`<${One} ...${props} />`);

function One({ name, query, set }) {
  const range = RANGES[query.range] ? query.range : '5m';
  layout.value;
  const isLive = objects('bridge').some((one) => one.name === name);
  const state = isLive && word('bridge', name);
  const [changes, setChanges] = useState(0);
  const { value: bridge, problem } = usePolled(() => get(`bridges/${escaped(name)}`), `${name} ${state} ${changes}`, 2000);
  if (problem?.status === 404) return html`<${Gone} part="bridges" title="Bridges" one="Bridge" name=${name} problem=${problem} />`;
  const isPaused = bridge?.state === 'paused';
  const waiting = bridge ? bridge.queued_messages + bridge.unacknowledged_messages : 0;
  return html`
    <${Head} title=${html`<a href="#/bridges">Bridges</a> / <${Text} of=${name} max=${80} />`} sub=${bridge && html`<${State} word=${bridge.state} />`}>
      <${Segments} label="Range" options=${Object.keys(RANGES)} value=${range} choose=${(next) => set({ range: next })} />
      <${Actions} part="bridges" one="bridge" name=${name} isPaused=${isPaused} set=${set} done=${() => setChanges(changes + 1)}
        pause="Its connection ends. Messages for the remote wait, up to the bounds of its queue."
        resume="It connects, and sends the remote what has waited."
        remove=${html`Its session here goes with it. ${many(waiting, 'message')} for the remote ${waiting === 1 ? 'waits' : 'wait'}.`} lose="Messages that wait for the remote may be lost" />
      <${AsCommand} path=${`bridges/${escaped(name)}`} words=${['bridges', name]} />
    <//>
    ${problem && !bridge && html`<div class="banner bad" role="alert"><${Text} of=${problem.message} max=${400} /></div>`}
    ${bridge?.reason && html`<div class=${isPaused ? 'banner' : 'banner bad'} role="status"><${Text} of=${bridge.reason} max=${600} /></div>`}
    ${bridge?.last_trouble && html`<p class="panel ledger"><span class="dim">Last trouble, ${seconds(bridge.last_trouble.age_seconds)} ago</span> <${Text} of=${bridge.last_trouble.reason} max=${400} /></p>`}
    <${Numbers} name=${name} bridge=${bridge} isLive=${isLive} />
    ${isLive && html`<${Plots} name=${name} range=${range} />`}
    ${bridge && html`<div class="grid two"><${In} of=${bridge} /><${Out} of=${bridge} /></div>
      <div class="grid two"><${Remote} of=${bridge} /><${Fates} of=${bridge} /></div>`}
    <div class="grid"><${Panel} title="Trial"><div class="inside"><p class="dim">A connection of its own, under another client ID: what the remote grants, and whether it takes the filters. The bridge goes on meanwhile.</p><div class="buttons"><${Test} part="bridges" name=${name} /></div></div><//></div>
    <${BridgeEvents} name=${name} />`;
}

function Numbers({ name, bridge, isLive }) {
  const big = (series, as, field) => (isLive ? html`<${Big} get=${() => value('bridge', name, series)} as=${as} />` : html`<span class="num">${as(bridge && field(bridge))}</span>`);
  const now = (text) => html`<span class="num">${bridge ? text(bridge) : or(null)}</span>`;
  return html`<dl class="tiles">
    <${Tile} label="In" more=${bridge ? `${count(bridge.received)} since the start` : ''}>${big('received_per_second', rate, (one) => one.rate.received_per_second)}<//>
    <${Tile} label="Bytes in" more=${bridge ? `${bytes(bridge.received_bytes)} since the start` : ''}>${big('received_bytes_per_second', byteRate, (one) => one.rate.received_bytes_per_second)}<//>
    <${Tile} label="Out" more=${bridge ? `${count(bridge.delivered)} since the start` : ''}>${big('delivered_per_second', rate, () => null)}<//>
    <${Tile} label="Not acknowledged" more=${bridge ? `of ${count(bridge.unacknowledged_messages_max)}; oldest ${seconds(bridge.oldest_unacknowledged_seconds)}` : ''}>${now((one) => count(one.unacknowledged_messages))}<//>
    <${Tile} label="Wait" more=${bridge ? `of ${count(bridge.queued_messages_max)}; oldest ${seconds(bridge.oldest_queued_seconds)}` : ''}>${now((one) => count(one.queued_messages))}<//>
    <${Tile} label="Their memory" more=${bridge ? `of ${bytes(bridge.queued_bytes_max)}` : ''}>${now((one) => bytes(one.queued_bytes))}<//>
    <${Tile} label="Connections" more=${bridge ? `${count(bridge.failures)} failed or lost, ${count(bridge.refused)} refused` : ''}>${now((one) => count(one.connects))}<//>
    <${Tile} label="Dropped" more="for the remote">${now((one) => count(one.dropped))}<//>
  </dl>`;
}

const SERIES = ['received_per_second', 'delivered_per_second', 'queued_messages', 'open_messages'];
function Plots({ name, range }) {
  const columns = useColumns('bridge', name, SERIES, range);
  return html`<div class="grid two">
    <${Plot} title="Messages" unit="rate" series=${[{ name: 'received_per_second', label: 'in' }, { name: 'delivered_per_second', label: 'out' }]} columns=${columns} range=${range} />
    <${Plot} title="Messages for the remote" unit="count" series=${[{ name: 'queued_messages', label: 'wait' }, { name: 'open_messages', label: 'not acknowledged' }]} columns=${columns} range=${range} /></div>`;
}

const In = ({ of }) => html`<${Panel} title="From the remote"><${Table} label="Filters of the remote" columns=${[
  { title: 'Filter', cell: ({ filter }) => html`<code class="cut"><${Text} of=${filter} max=${200} /></code>` },
  { title: 'Of', cell: ({ name }) => html`<${Text} of=${name} max=${60} />` },
  { title: 'State', cell: ({ state, reason }) => html`<${State} word=${state} />${reason && html`<span class="why"><${Text} of=${reason} max=${200} /></span>`}` },
  { title: 'QoS', number: true, cell: ({ qos, granted_qos: granted }) => (granted === null ? qos : `${granted} of ${qos}`) },
]} rows=${of.in.flatMap(({ name, filters }) => filters.map((filter) => ({ name, ...filter })))} id=${({ name, filter }) => `${name} ${filter}`}>Nothing comes from the remote.<//><//>`;

const Out = ({ of }) => html`<${Panel} title="To the remote"><${Table} label="Filters of messages for the remote" columns=${[
  { title: 'Filters', cell: ({ filters }) => html`<code class="cut"><${Text} of=${filters.join(', ')} max=${300} /></code>` },
  { title: 'Of', cell: ({ name }) => html`<${Text} of=${name} max=${60} />` },
  { title: 'Sent', number: true, cell: ({ sent }) => count(sent) },
]} rows=${of.out} id=${({ name }) => name}>Nothing goes to the remote.<//><//>`;

const yesNo = (is) => (is ? 'yes' : 'no');
const Remote = ({ of }) => html`<${Panel} title="The remote"><${Facts} rows=${[
  ['Address', html`<${Text} of=${of.remote} max=${200} />`],
  ['Shard that has its session', of.shard],
  ...(of.granted === null ? [['Granted', 'it is not connected']] : [
    ['MQTT', of.granted.protocol],
    ['It had the session', yesNo(of.granted.session_present)],
    ['Maximum QoS', of.granted.maximum_qos],
    ['Messages on their way', count(of.granted.unacknowledged_messages_max)],
    ['Largest packet', of.granted.packet_bytes_max === null ? null : bytes(of.granted.packet_bytes_max)],
    ['Keep-alive', of.granted.keep_alive_seconds ? seconds(of.granted.keep_alive_seconds) : 'off'],
    ['It keeps the session for', of.granted.session_expiry_seconds === null ? null : seconds(of.granted.session_expiry_seconds)],
    ['Retained messages, wildcards, shares', [of.granted.retain_available, of.granted.wildcard_subscriptions_available, of.granted.shared_subscriptions_available].map(yesNo).join(', ')],
  ]),
]} /><//>`;

const FATES = [
  ['unasked', 'from the remote: no filter matches'],
  ['unfit', 'from the remote: no topic can be made of it'],
  ['looped', 'from the remote: it has come through here before'],
  ['retained_left_out', 'from the remote: retained, and left out'],
  ['sent_again', 'for the remote: sent again, as it had no room'],
  ['dead_lettered', 'for the remote: refused, and a dead letter'],
  ['dropped', 'for the remote: dropped'],
  ['protocol_errors', 'violations of the standard by the remote'],
];
const Fates = ({ of }) => html`<${Panel} title="What became of other messages"><${Table} label="What became of other messages" columns=${[
  { title: 'What', cell: ([, what]) => what },
  { title: 'Since the start', number: true, cell: ([field]) => count(of[field]) },
]} rows=${FATES.filter(([field]) => of[field] > 0)} id=${([field]) => field}>There were none.<//><//>`;

function BridgeEvents({ name }) {
  const { list, loaded } = useEvents({});
  const events = list.filter((event) => event.bridge === name);
  return html`<${Panel} title="Events" right=${html`<a href="#/events">All</a>`}>${loaded && html`<${EventList} list=${events.slice(0, 8)} />`}<//>`;
}
