// Flow: which messages go through which rule and sink to which topic of Kafka, and how each of them stands.

import { html } from '../vendor/preact.js';
import { get, name as escaped } from '../api.js';
import { ways } from '../flow.js';
import { AsCommand, Head, State, Table, Text, usePolled } from '../parts.js';
import { rate } from '../text.js';

const arrow = html`<span class="dim" aria-hidden="true"> → </span>`;
const COLUMNS = [
  { title: 'MQTT topics', cell: ({ from }) => html`<code class="cut"><${Text} of=${from} max=${120} /></code>` },
  { title: 'Rule', cell: ({ rule }) => html`${arrow}${rule ? html`<${Text} of=${rule.name} max=${80} /> <${State} word=${rule.state} />` : html`<span class="dim">none</span>`}` },
  { title: 'Sink', cell: ({ sink }) => html`${arrow}<a href=${`#/sinks/${escaped(sink.name)}`}><${Text} of=${sink.name} max=${80} /></a> <${State} word=${sink.state} />${sink.reason && html`<span class="why"><${Text} of=${sink.reason} max=${300} /></span>`}` },
  { title: 'Kafka topic', cell: ({ sink }) => html`${arrow}<code class="cut"><${Text} of=${sink.topic ?? 'a template'} max=${120} /></code>` },
  { title: 'Cluster', cell: ({ sink }) => html`<a href=${`#/clusters/${escaped(sink.kafka)}`}><${Text} of=${sink.kafka} max=${80} /></a>` },
  { title: 'Delivered by the sink', number: true, cell: ({ sink }) => rate(sink.rate.delivered_per_second) },
];

async function all() {
  const [{ sinks }, { rules }] = await Promise.all([get('sinks'), get('rules')]);
  return ways(sinks, rules);
}

export function Flow({ query, set }) {
  const { value: found, problem } = usePolled(all, 'flow', 2000);
  const text = (query.search ?? '').toLowerCase();
  const rows = (found ?? []).filter(({ from, rule, sink }) => [from, rule?.name ?? '', sink.name, sink.topic ?? '', sink.kafka].some((one) => one.toLowerCase().includes(text)));
  return html`<${Head} title="Flow">
      <label><span class="hidden">Search the flow</span><input type="search" placeholder="Any name" spellcheck=${false} value=${query.search ?? ''} onInput=${(event) => set({ search: event.target.value })} /></label>
      <${AsCommand} path="sinks" words=${['sinks']} /><//>
    ${problem && html`<div class="banner bad" role="alert"><${Text} of=${problem.message} max=${400} /></div>`}
    ${found && html`<section class="panel"><${Table} label="Ways of messages" columns=${COLUMNS} rows=${rows.slice(0, 500)} id=${({ from, rule, sink }) => `${from} ${rule?.name ?? ''} ${sink.name}`}>
      ${text ? 'Nothing has this in its name.' : 'No message goes to Kafka: there is no sink.'}<//>
      ${rows.length > 500 && html`<div class="empty">And ${rows.length - 500} more: search for their names.</div>`}</section>`}`;
}
