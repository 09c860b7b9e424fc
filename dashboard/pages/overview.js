// The service as a whole.

import { html } from '../vendor/preact.js';
import { get, name as escaped } from '../api.js';
import { RANGES } from '../history.js';
import { layout, objects, tick, value, word } from '../live.js';
import { AsCommand, Big, Head, Live, Panel, Segments, State, Table, Text, Tile, usePolled } from '../parts.js';
import { Plot, useColumns } from '../plot.js';
import { byteRate, bytes, cores, count, rate, seconds } from '../text.js';
import { EventList, useEvents } from './events.js';

const of = (series) => () => value('totals', '', series);

const PLOTS = [
  { title: 'Messages', unit: 'rate', series: [['received_per_second', 'received'], ['delivered_per_second', 'to Kafka'], ['sent_per_second', 'to subscribers']] },
  { title: 'Time to the acknowledgement', unit: 'seconds', series: [['ack_p50_seconds', 'p50'], ['ack_p99_seconds', 'p99'], ['ack_p999_seconds', 'p99.9']] },
  { title: 'Bytes', unit: 'byteRate', series: [['received_bytes_per_second', 'from clients'], ['kafka_bytes_per_second', 'to Kafka'], ['sent_bytes_per_second', 'to clients']] },
  { title: 'Records that wait', unit: 'count', series: [['waiting_records', 'records']] },
  { title: 'Refused and failed', unit: 'rate', series: [['refused_per_second', 'refused'], ['failed_per_second', 'failed'], ['unmatched_per_second', 'unmatched']] },
  { title: 'Connections', unit: 'count', series: [['connections', 'connected'], ['sessions', 'sessions'], ['paused_connections', 'paused']] },
  { title: 'CPU', unit: 'cores', series: [['cpu_cores', 'cores']] },
  { title: 'Memory', unit: 'bytes', series: [['resident_bytes', 'resident'], ['waiting_bytes', 'records']] },
];
const NAMES = PLOTS.flatMap((plot) => plot.series.map(([series]) => series));

export function Overview({ query, set }) {
  const range = RANGES[query.range] ? query.range : '5m';
  const columns = useColumns('totals', '', NAMES, range);
  const { value: status } = usePolled(() => get('status'), 'status', 5000);
  const plot = (of) => html`<${Plot} key=${of.title} ...${of} series=${of.series.map(([name, label]) => ({ name, label }))} columns=${columns} range=${range} />`;
  return html`
    <${Head} title="Overview" sub=${status && html`<${State} word=${status.ready ? 'ready' : 'not ready'} />${status.reason && html` ${status.reason}`}`}>
      <${Segments} label="Range" options=${Object.keys(RANGES)} value=${range} choose=${(next) => set({ range: next })} />
      <${AsCommand} path="status" words=${['status']} />
    <//>
    <dl class="tiles">
      <${Tile} label="Received" more=${html`<${Live} get=${of('received_bytes_per_second')} as=${byteRate} />`}><${Big} get=${of('received_per_second')} as=${rate} /><//>
      <${Tile} label="To Kafka" more=${html`<${Live} get=${of('kafka_bytes_per_second')} as=${byteRate} />`}><${Big} get=${of('delivered_per_second')} as=${rate} /><//>
      <${Tile} label="To subscribers" more=${html`<${Live} get=${of('queued_messages')} as=${count} /> wait`}><${Big} get=${of('sent_per_second')} as=${rate} /><//>
      <${Tile} label="PUBACK, p99" more=${html`p50 <${Live} get=${of('ack_p50_seconds')} as=${seconds} />`}><${Big} get=${of('ack_p99_seconds')} as=${seconds} /><//>
      <${Tile} label="Connections" more=${html`<${Live} get=${of('paused_connections')} as=${count} /> paused`}><${Big} get=${of('connections')} as=${count} /><//>
      <${Tile} label="Records that wait" more=${html`oldest <${Live} get=${of('lag_seconds')} as=${seconds} />`}><${Big} get=${of('waiting_records')} as=${count} /><//>
      <${Tile} label="Their memory" more=${html`of <${Live} get=${of('buffer_bytes_max')} as=${bytes} />; <${Spool} />`}><${Big} get=${of('waiting_bytes')} as=${bytes} /><//>
      <${Tile} label="CPU" more=${html`memory <${Live} get=${of('resident_bytes')} as=${bytes} />`}><${Big} get=${of('cpu_cores')} as=${cores} /><//>
    </dl>
    <${Ledger} />
    <div class="grid two">${PLOTS.slice(0, 2).map(plot)}</div>
    <div class="grid two"><${SinkStates} status=${status} /><${OtherStates} status=${status} /></div>
    <div class="grid three">${PLOTS.slice(2).map(plot)}</div>
    <${LastEvents} />`;
}

const Spool = () => {
  tick.value;
  const most = value('totals', '', 'spool_bytes_max');
  return most ? html`spool <span class="num">${bytes(value('totals', '', 'spool_bytes'))} of ${bytes(most)}</span>` : 'no spool';
};

/** Places of all records since the start. */
const Ledger = () => html`<p class="panel ledger"><span class="dim">Since the start</span>
  <b><${Live} get=${of('records_in')} as=${count} /></b> records taken =
  <b><${Live} get=${of('delivered')} as=${count} /></b> in Kafka +
  <b><${Live} get=${of('failed')} as=${count} /></b> failed +
  <b><${Live} get=${of('waiting_records')} as=${count} /></b> that wait</p>`;

const reasonOf = (list, name) => list?.find((one) => one.name === name)?.reason;

function SinkStates({ status }) {
  layout.value;
  const rows = objects('sink');
  const columns = [
    { title: 'Sink', cell: ({ name }) => html`<a href=${`#/sinks/${escaped(name)}`}><${Text} of=${name} max=${80} /></a>` },
    { title: 'State', cell: ({ name }) => html`<${Word} kind="sink" name=${name} /><${Why} text=${reasonOf(status?.sinks, name)} />` },
    { title: 'To Kafka', number: true, cell: ({ name }) => html`<${Live} get=${() => value('sink', name, 'delivered_per_second')} as=${rate} />` },
    { title: 'Wait', number: true, cell: ({ name }) => html`<${Live} get=${() => value('sink', name, 'waiting_records')} as=${count} />` },
  ];
  return html`<${Panel} title="Sinks" right=${html`<a href="#/sinks">All</a>`}>
    <${Table} label="Sinks" columns=${columns} rows=${rows} id=${(row) => row.name}>There is no sink: messages go to subscribers only. A table <code>[[sink]]</code> in the configuration sends them to Kafka.<//><//>`;
}

export const Word = ({ kind, name }) => html`<${State} word=${word(kind, name)} />`;
const Why = ({ text }) => text && html`<span class="why"><${Text} of=${text} max=${400} /></span>`;

const KINDS = { cluster: 'Cluster', source: 'Source', rule: 'Rule', bridge: 'Bridge' };
const RATES = { cluster: 'requests_per_second', source: 'records_per_second', rule: 'passed_per_second', bridge: 'received_per_second' };
const WHAT = { cluster: 'requests', source: 'records', rule: 'messages', bridge: 'messages in' };

function OtherStates({ status }) {
  layout.value;
  const rows = Object.keys(KINDS).flatMap(objects);
  const columns = [
    { title: 'Name', cell: ({ kind, name }) => html`<a href=${`#/${kind}s/${escaped(name)}`}><${Text} of=${name} max=${80} /></a>` },
    { title: 'Kind', cell: ({ kind }) => KINDS[kind] },
    { title: 'State', cell: ({ kind, name }) => html`<${Word} kind=${kind} name=${name} /><${Why} text=${reasonOf(status?.[`${kind}s`], name)} />` },
    { title: 'Rate', number: true, cell: ({ kind, name }) => html`<${Live} get=${() => value(kind, name, RATES[kind])} as=${(n) => rate(n).replace('/s', ` ${WHAT[kind]}/s`)} />` },
  ];
  return html`<${Panel} title="Kafka clusters, sources, rules and bridges"><${Table} label="Clusters, sources, rules and bridges" columns=${columns} rows=${rows} id=${(row) => `${row.kind}/${row.name}`}>There are none.<//><//>`;
}

function LastEvents() {
  const { list } = useEvents({ limit: 12 });
  return html`<${Panel} title="Last events" right=${html`<a href="#/events">All</a>`}><${EventList} list=${list.slice(0, 12)} /><//>`;
}
