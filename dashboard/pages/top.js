// The topics and clients with the most publishes, unmatched topics, and the receivers of a topic's messages.

import { html, useEffect, useState } from '../vendor/preact.js';
import { get, name as escaped } from '../api.js';
import { AsCommand, Facts, Head, Panel, Segments, Table, Text, WriteButton, or, show, usePolled } from '../parts.js';
import { Search } from '../paged.js';
import { byteRate, count, many, rate, visible } from '../text.js';
import { tree } from '../tree.js';
import { linkTo } from './clients.js';
import { Publish } from './publish.js';

const OF = ['topics', 'clients', 'unmatched'];
const BY = ['messages', 'bytes'];
const AS = ['list', 'tree'];

const columns = (of, by, set) => [
  of === 'clients'
    ? { title: 'Client', cell: (row) => html`<a href=${linkTo(row)}><${Text} of=${row.client_id} max=${80} /></a>${row.auth !== null && html`<span class="why">auth <${Text} of=${row.auth} max=${40} /></span>`}` }
    : { title: 'Topic', cell: ({ topic }) => html`<button type="button" class="plain" onClick=${() => set({ topic })}><code class="cut"><${Text} of=${topic} max=${200} /></code></button>` },
  { title: by === 'bytes' ? 'Bytes' : 'Messages', number: true, cell: ({ per_second: n }) => (by === 'bytes' ? byteRate(n) : rate(n)) },
  { title: 'Of that, at most others', number: true, cell: ({ error_per_second: n }) => (n === 0 ? or(null) : by === 'bytes' ? byteRate(n) : rate(n)) },
];

export function Top({ query, set }) {
  const of = OF.includes(query.of) ? query.of : 'topics';
  const by = BY.includes(query.by) ? query.by : 'messages';
  const as = of !== 'clients' && query.as === 'tree' ? 'tree' : 'list';
  const path = `top?${new URLSearchParams({ of, by, limit: '100' })}`;
  const { value: found, problem } = usePolled(() => get(path), path, 2000);
  return html`
    <${Head} title="Top" sub=${found && html`<span class="num">${found.sampled_one_of === 1 ? 'all are counted' : `sampled: one of about ${count(found.sampled_one_of)} is counted`}</span>`}>
      <${Search} label="Who gets topic" value=${query.topic} found=${(topic) => set({ topic })} />
      <${WriteButton} onClick=${() => show(html`<${Publish} topic=${query.topic} />`)}>Publish a message<//>
      <${AsCommand} path=${path} words=${['top', '--of', of, '--by', by]} />
    <//>
    ${query.topic && html`<${Matching} topic=${query.topic} />`}
    <section class="panel">
      <header><${Segments} label="Of" options=${OF} value=${of} choose=${(next) => set({ of: next })} />
        <${Segments} label="By" options=${BY} value=${by} choose=${(next) => set({ by: next })} />
        ${of !== 'clients' && html`<${Segments} label="As" options=${AS} value=${as} choose=${(next) => set({ as: next })} />`}</header>
      ${problem && html`<div class="empty" role="alert"><${Text} of=${problem.message} max=${400} /></div>`}
      ${found && as === 'tree' && found.top.length > 0 ? html`<div class="inside"><${Levels} of=${tree(found.top)} by=${by} set=${set} /></div>` : found && html`<${Table} label="Top" columns=${columns(of, by, set)} rows=${found.top} id=${({ topic, client_id: id, auth }) => topic ?? `${auth} ${id}`}>
        ${of === 'unmatched' ? 'All messages of the last minutes had a sink, a rule or a subscriber.' : 'No client has published in the last minutes.'}<//>`}
    </section>`;
}

/** A tree of topics, as far as they are among the busiest. An only level is open. */
const Levels = ({ of, by, set }) => html`<ul class="levels">${of.map((level) => html`<li key=${level.path}>
  ${level.below.length > 0
    ? html`<details open=${of.length === 1}><summary><code><${Text} of=${level.name} max=${80} /></code> <${Sum} of=${level} by=${by} /> <span class="dim">${many(level.topics, 'topic')}</span></summary>
        ${level.is_topic && html`<${Leaf} level=${level} set=${set} what="itself" />`}<${Levels} of=${level.below} by=${by} set=${set} /></details>`
    : html`<${Leaf} level=${level} set=${set} /> <${Sum} of=${level} by=${by} />`}</li>`)}</ul>`;
const Sum = ({ of, by }) => html`<span class="num">${by === 'bytes' ? byteRate(of.per_second) : rate(of.per_second)}</span>`;
const Leaf = ({ level, set, what = null }) => html`<button type="button" class="plain" aria-label=${visible(level.path, 200)} onClick=${() => set({ topic: level.path })}><code class="cut">${what ?? html`<${Text} of=${level.name} max=${80} />`}</code></button>`;

/** Receivers of a topic's messages. */
function Matching({ topic }) {
  const [found, setFound] = useState({ value: null, problem: null });
  const path = `topics/match?${new URLSearchParams({ topic })}`;
  useEffect(() => {
    let ended = false;
    get(path).then((value) => ended || setFound({ value, problem: null }), (problem) => ended || setFound({ value: null, problem }));
    return () => (ended = true);
  }, [path]);
  const { value, problem } = found;
  const named = (list, of) => (list.length === 0 ? null : list.map((one, at) => html`${at > 0 && ', '}${of ? html`<a href=${`#/${of}/${escaped(one)}`}><${Text} of=${one} max=${80} /></a>` : html`<${Text} of=${one} max=${80} />`}`));
  return html`<${Panel} title="Who gets it" right=${html`<${AsCommand} path=${path} words=${['topics', 'match', topic]} />`}>
    ${problem && html`<div class="empty" role="alert"><${Text} of=${problem.message} max=${400} /></div>`}
    ${value && html`${value.unmatched && html`<div class="empty">Nobody gets messages of this topic: they are acknowledged, and counted as unmatched.</div>`}<${Facts} rows=${[
      ['Topic', html`<${Text} of=${value.topic} max=${200} />`],
      ['Sinks', named(value.sinks, 'sinks')],
      ['Rules', named(value.rules, 'rules')],
      ['Subscriptions', html`<a href=${`#/subscriptions?${new URLSearchParams({ topic })}`}>${count(value.subscriptions)}${value.more_subscriptions ? ' and more' : ''}</a>`],
    ]} />`}
  <//>`;
}
