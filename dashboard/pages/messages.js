// Subscriptions, shared subscriptions, retained messages.

import { html, useEffect, useState } from '../vendor/preact.js';
import { get, name as escaped } from '../api.js';
import { indent } from '../json.js';
import { AsCommand, Facts, Head, Lines, Segments, State, Text, WriteButton, close, or, show } from '../parts.js';
import { PagedTable, Search, usePages } from '../paged.js';
import { bytes, count, seconds } from '../text.js';
import { Change } from './change.js';
import { linkTo } from './clients.js';

const Topic = ({ of }) => html`<code class="cut"><${Text} of=${of} max=${200} /></code>`;
const yes = (is) => (is ? 'yes' : 'no');

const SUBSCRIPTIONS = [
  { title: 'Topic filter', cell: ({ filter }) => html`<${Topic} of=${filter} />` },
  { title: 'Client', cell: (row) => html`<a href=${linkTo(row)}><${Text} of=${row.client_id} max=${80} /></a>` },
  { title: 'State', cell: ({ connected }) => html`<${State} word=${connected ? 'connected' : 'away'} />` },
  { title: 'QoS', number: true, cell: ({ qos }) => qos },
  { title: 'May read', cell: ({ may_read: may }) => (may === undefined ? or(null) : yes(may)) },
  { title: 'No local', cell: ({ no_local: is }) => yes(is) },
];

/** Texts of empty lists, by the query. */
const NO_SUBSCRIPTION = {
  '': 'No session has a subscription.',
  topic: 'Nobody gets messages of this topic.',
  filter: 'Nobody has subscribed to this filter.',
  'topic filter': 'Nobody gets messages of this topic by a subscription to this filter. Others may get them: one of the two fields alone shows them.',
};

export function Subscriptions({ query, set }) {
  const wanted = Object.fromEntries(['topic', 'filter'].filter((key) => query[key]).map((key) => [key, query[key]]));
  const pages = usePages('subscriptions', wanted);
  const words = ['subscriptions', ...Object.entries(wanted).flatMap(([key, of]) => [`--${key}`, of])];
  return html`
    <${Head} title="Subscriptions">
      <${Search} label="Who gets topic" value=${query.topic} found=${(topic) => set({ topic })} />
      <${Search} label="Topic filter" value=${query.filter} found=${(filter) => set({ filter })} />
      <${AsCommand} path=${`subscriptions?${new URLSearchParams(wanted)}`} words=${words} />
    <//>
    <${PagedTable} label="Subscriptions" columns=${SUBSCRIPTIONS} id=${({ client_id: id, auth, filter }) => `${auth} ${id} ${filter}`} pages=${pages}>
      ${NO_SUBSCRIPTION[Object.keys(wanted).join(' ')]}<//>`;
}

const SHARES = [
  { title: 'Share', cell: ({ name, filter }) => html`<a href=${`#/subscriptions?${new URLSearchParams({ filter: `$share/${name}/${filter}` })}`}><${Text} of=${name} max=${80} /></a>` },
  { title: 'Topic filter', cell: ({ filter }) => html`<${Topic} of=${filter} />` },
  { title: 'Strategy', cell: ({ strategy }) => strategy },
  { title: 'Members', number: true, cell: ({ members }) => count(members) },
  { title: 'Connected', number: true, cell: ({ online }) => count(online) },
  { title: 'Queued', number: true, cell: ({ queued_messages: n, queued_bytes: size }) => html`${count(n)}${size > 0 && html`<span class="why">${bytes(size)}</span>`}` },
  { title: 'Oldest', number: true, cell: ({ oldest_queued_seconds: age }) => (age === null ? or(null) : seconds(age)) },
];

export function Shares({ query, set }) {
  const wanted = query.search ? { search: query.search } : {};
  const pages = usePages('shares', wanted);
  return html`
    <${Head} title="Shares">
      <${Search} label="Search" placeholder="Name or filter" value=${query.search} found=${(search) => set({ search })} />
      <${AsCommand} path=${`shares?${new URLSearchParams(wanted)}`} words=${['shares', ...(query.search ? ['--search', query.search] : [])]} />
    <//>
    <${PagedTable} label="Shared subscriptions" columns=${SHARES} id=${({ name, filter }) => `${name} ${filter}`} pages=${pages}>
      ${query.search ? 'No share has this in its name or filter.' : html`There is none. Clients make one by subscribing to <code>$share/NAME/FILTER</code>: each message then goes to one of them.`}<//>`;
}

const retainedColumns = (again) => [
  { title: 'Topic', cell: ({ topic }) => html`<${Topic} of=${topic} />` },
  { title: 'Size', number: true, cell: ({ payload_bytes: size }) => bytes(size) },
  { title: 'QoS', number: true, cell: ({ qos }) => qos },
  { title: 'Age', number: true, cell: ({ age_seconds: age }) => seconds(age) },
  { title: 'Expires in', number: true, cell: ({ expires_in_seconds: left }) => (left === null ? 'never' : seconds(left)) },
  { title: 'On disk', cell: ({ stored }) => yes(stored) },
  { title: '', cell: ({ topic }) => html`<${WriteButton} kind="plain" onClick=${() => show(html`<${Payload} topic=${topic} again=${again} />`)}>Payload<//>` },
];

export function Retained({ query, set }) {
  const filter = query.filter || '#';
  const pages = usePages('retained', { filter });
  return html`
    <${Head} title="Retained">
      <${Search} label="Topic filter" placeholder="#" value=${query.filter} found=${(next) => set({ filter: next })} />
      <${AsCommand} path=${`retained?${new URLSearchParams({ filter })}`} words=${['retained', filter]} />
    <//>
    <${PagedTable} label="Retained messages" columns=${retainedColumns(pages.again)} id=${({ topic }) => topic} pages=${pages}>
      ${filter === '#' ? 'No message is retained.' : 'No retained message has a topic that this filter matches.'}<//>`;
}

const SHOWN_MAX = 16_384;
const bytesOf = ({ payload, payload_base64: base64 }) =>
  base64 === undefined ? new TextEncoder().encode(payload ?? '') : Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
const hex = (all) => Array.from({ length: Math.ceil(Math.min(all.length, SHOWN_MAX / 4) / 16) }, (_, row) => {
  const line = [...all.slice(row * 16, row * 16 + 16)];
  const chars = line.map((byte) => (byte > 31 && byte < 127 ? String.fromCharCode(byte) : '.')).join('');
  return `${(row * 16).toString(16).padStart(6, '0')}  ${line.map((byte) => byte.toString(16).padStart(2, '0')).join(' ').padEnd(47)}  ${chars}`;
}).join('\n');
/** A retained message's payload as text, JSON or bytes; can be deleted here. */
function Payload({ topic, again }) {
  const [found, setFound] = useState(null);
  const [as, setAs] = useState(null);
  const path = `retained/${escaped(topic)}`;
  useEffect(() => {
    get(path).then((message) => setFound({ message }), (problem) => setFound({ problem }));
  }, [path]);
  const message = found?.message;
  const text = message && message.payload_base64 === undefined ? (message.payload ?? '') : null;
  const lines = text === null ? null : indent(text, SHOWN_MAX);
  const forms = message && { ...(text !== null && { text }), ...(lines !== null && { JSON: lines }), hex: hex(bytesOf(message)) };
  const shown = forms && (forms[as] !== undefined ? as : Object.keys(forms)[0]);
  return html`<div class="inside"><h2 id="dialog-title">Retained message</h2>
    <${Topic} of=${topic} />
    ${found?.problem && html`<div class="banner bad" role="alert"><${Text} of=${found.problem.message} max=${400} /></div>`}
    ${message && html`<${Facts} rows=${[['Size', bytes(message.payload_bytes)], ['QoS', message.qos], ['Age', seconds(message.age_seconds)]]} />
      <${Segments} label="As" options=${Object.keys(forms)} value=${shown} choose=${setAs} />
      ${shown === 'text' ? html`<pre class="payload" tabindex="0"><${Text} of=${text} max=${SHOWN_MAX} /></pre>` : html`<${Lines} of=${forms[shown].slice(0, SHOWN_MAX)} max=${SHOWN_MAX} />`}`}
    <div class="buttons">
      ${message && html`<${WriteButton} kind="danger" onClick=${() => show(html`<${Change} what="delete the retained message of" name=${topic} path=${path} method="DELETE" lasting=${false} danger button="Delete" done=${again}>
        Clients that subscribe from now on do not get it. Those that have it are not told.<//>`)}>Delete<//>`}
      <button type="button" onClick=${close}>Close</button></div></div>`;
}
