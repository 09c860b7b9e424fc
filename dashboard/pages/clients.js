// Clients and their sessions: the paged list, and one with its queue, subscriptions and events.

import { html, useState } from '../vendor/preact.js';
import { get, name as escaped } from '../api.js';
import { tick, value as live } from '../live.js';
import { AsCommand, Facts, Head, Panel, State, Table, Text, Tile, WriteButton, or, show, usePolled } from '../parts.js';
import { PagedTable, Search, usePages } from '../paged.js';
import { bytes, count, many, seconds } from '../text.js';
import { Change } from './change.js';
import { EventList, useEvents } from './events.js';

export const linkTo = ({ client_id: id, auth }) => `#/clients/${escaped(id)}?${new URLSearchParams({ auth: auth ?? '' })}`;
const stateOf = ({ connected, paused }) => (connected ? (paused ? 'not read' : 'connected') : 'away');
const age = (at) => (at === null ? or(null) : seconds(at));

const COLUMNS = [
  { title: 'Client', cell: (client) => html`<a href=${linkTo(client)}><${Text} of=${client.client_id} max=${80} /></a>${client.auth !== null && html`<span class="why">auth <${Text} of=${client.auth} max=${40} /></span>`}` },
  { title: 'User', cell: ({ username }) => (username === null ? or(null) : html`<${Text} of=${username} max=${60} />`) },
  { title: 'State', cell: (client) => html`<${State} word=${stateOf(client)} />` },
  { title: 'Address', cell: ({ address, listener }) => html`${or(address)}${listener && html`<span class="why">at <${Text} of=${listener} max=${60} /></span>`}` },
  { title: 'MQTT', number: true, cell: ({ protocol }) => protocol },
  { title: 'Subscriptions', number: true, cell: ({ subscriptions }) => count(subscriptions) },
  { title: 'Queued', number: true, cell: ({ queued_messages: n }) => count(n) },
  { title: 'Unacknowledged', number: true, cell: ({ unacknowledged_messages: n }) => count(n) },
  { title: 'Oldest', number: true, cell: ({ oldest_queued_seconds: a, oldest_unacknowledged_seconds: b }) => (a === null && b === null ? or(null) : seconds(Math.max(a ?? 0, b ?? 0))) },
];

function Sub() {
  tick.value;
  return html`<span class="num">${many(live('totals', '', 'connections'), 'connection')}, ${many(live('totals', '', 'sessions'), 'session')}</span>`;
}

const CONNECTED = { all: {}, connected: { connected: true }, away: { connected: false } };

export function Clients({ query, set }) {
  const which = CONNECTED[query.show] ? query.show : 'all';
  const { listener } = query;
  const wanted = { ...(query.search && { search: query.search }), ...CONNECTED[which], ...(listener && { listener }) };
  const { value: found } = usePolled(() => get('listeners'), 'listeners', 60_000);
  // A removed listener stays in the choice while the address of the page names it.
  const listeners = [...new Set([...(found?.listeners ?? []).map(({ address }) => address), ...(listener ? [listener] : [])])];
  const words = Object.entries(wanted).flatMap(([key, is]) => [`--${key}`, String(is)]);
  const pages = usePages('clients', wanted);
  return html`
    <${Head} title="Clients" sub=${html`<${Sub} />`}>
      <${Search} label="Search" placeholder="ID, user, auth or address" value=${query.search} found=${(search) => set({ search })} />
      <label>Show <select value=${which} onChange=${(event) => set({ show: event.target.value })}>
        <option value="all">all</option><option value="connected">connected</option><option value="away">not connected</option></select></label>
      <label>Listener <select value=${listener ?? ''} onChange=${(event) => set({ listener: event.target.value })}>
        <option value="">any</option>${listeners.map((address) => html`<option value=${address}>${address}</option>`)}</select></label>
      <${AsCommand} path=${`clients?${new URLSearchParams(wanted)}`} words=${['clients', ...words]} />
    <//>
    <${PagedTable} label="Clients" columns=${COLUMNS} id=${({ client_id: id, auth }) => `${auth} ${id}`} pages=${pages}>
      ${query.search || listener || which !== 'all' ? 'No client fits.' : 'No client has connected, and no session is kept.'}<//>`;
}

const FILTERS = [
  { title: 'Topic filter', cell: ({ filter }) => html`<code class="cut"><${Text} of=${filter} max=${200} /></code>` },
  { title: 'QoS', number: true, cell: ({ qos }) => qos },
  { title: 'No local', cell: ({ no_local: is }) => (is ? 'yes' : 'no') },
  { title: 'Retain as published', cell: ({ retain_as_published: is }) => (is ? 'yes' : 'no') },
  { title: 'Identifier', number: true, cell: ({ identifier }) => or(identifier) },
  { title: 'Replay', cell: ({ replay }) => (replay ? html`<${State} word=${replay.state} /><span class="why num">${count(replay.partitions_live)} of ${count(replay.partitions)} partitions live</span>` : or(null)) },
];

const expiry = (left) => (left === null ? 'never' : left === 0 ? 'with its connection' : `${seconds(left)} after its connection`);

export function Client({ name, query }) {
  const which = query.auth === undefined ? '' : `?${new URLSearchParams({ auth: query.auth })}`;
  const path = `clients/${escaped(name)}${which}`;
  const [changes, setChanges] = useState(0);
  const { value: client, problem } = usePolled(() => get(path), `${path} ${changes}`, 2000);
  const of = { ...(query.auth ? { auth: query.auth } : {}) };
  const { list, next, older, loaded } = useEvents({ client: name, ...of });
  const title = html`<a href="#/clients">Clients</a> / <${Text} of=${name} max=${80} />`;
  const words = ['clients', name, ...(query.auth === undefined ? [] : ['--auth', query.auth])];
  const again = () => setChanges(changes + 1);
  const open = (props) => show(html`<${Change} name=${name} lasting=${false} danger done=${again} ...${props} />`);
  return html`
    <${Head} title=${title} sub=${client && html`<${State} word=${stateOf(client)} />`}>
      <${WriteButton} ...${client?.connected ? {} : { disabled: true }} onClick=${() => open({
        what: 'disconnect client', path: `clients/${escaped(name)}/disconnect${which}`, button: 'Disconnect',
        children: html`Its connection ends, and its will is published. ${client.session_expiry_seconds === 0 ? 'Its session ends, too.' : 'Its session stays.'} It may connect again.` })}>Disconnect<//>
      <${WriteButton} ...${client ? {} : { disabled: true }} onClick=${() => open({
        what: 'end the session of client', path, method: 'DELETE', button: 'End the session',
        children: html`Its connection ends, and its session: ${many(client.subscriptions, 'subscription')}, and ${many(client.queued_messages + client.unacknowledged_messages, 'message')} that it has not had, are lost.` })}>End session<//>
      <a class="button" href=${`#/traces?${new URLSearchParams({ client: name, auth: query.auth ?? '' })}`}>Trace</a>
      <a class="button" href=${`#/bans?${new URLSearchParams({ client: name })}`}>Ban</a>
      <${AsCommand} path=${path} words=${words} />
    <//>
    ${problem && html`<div class=${client ? 'banner' : 'banner bad'} role="alert"><${Text} of=${problem.message} max=${400} />${problem.status === 404 && ': it has gone, or was never here. Its events follow.'}</div>`}
    ${client && html`<dl class="tiles">
      <${Tile} label="Queued messages" more=${`of ${count(client.queued_messages_max)}; oldest ${age(client.oldest_queued_seconds)}`}><span class="num">${count(client.queued_messages)}</span><//>
      <${Tile} label="Their size" more=${`of ${bytes(client.queued_bytes_max)}`}><span class="num">${bytes(client.queued_bytes)}</span><//>
      <${Tile} label="Unacknowledged by it" more=${`of ${count(client.unacknowledged_messages_max)}; oldest ${age(client.oldest_unacknowledged_seconds)}`}><span class="num">${count(client.unacknowledged_messages)}</span><//>
      <${Tile} label="Its publishes without an answer" more=${`${many(client.open_packet_ids, 'open packet identifier')}`}><span class="num">${count(client.unanswered_publishes)}</span><//>
    </dl>
    <div class="grid side"><${Panel} title="Session"><${Facts} rows=${[
      ['User', client.username === null ? null : html`<${Text} of=${client.username} />`],
      ['Auth', client.auth === null ? null : html`<${Text} of=${client.auth} />`],
      ['Address', client.address],
      ['Listener', client.listener],
      ['MQTT', client.protocol],
      ['Session ends', expiry(client.session_expiry_seconds)],
      ['On disk', client.stored ? 'yes: it survives a restart' : 'no'],
      ['Shard', client.shard],
    ]} /><//>
    <${Panel} title="Subscriptions" right=${html`<span class="dim num">${count(client.subscriptions)}</span>`}>
      <${Table} label="Subscriptions" columns=${FILTERS} rows=${client.filters.slice(0, 500)} id=${({ filter }) => filter}>It has none.<//>
      ${client.filters.length > 500 && html`<div class="empty">And ${count(client.filters.length - 500)} more.</div>`}<//></div>`}
    <${Panel} title="Events" right=${html`<a href=${`#/events?${new URLSearchParams({ client: name })}`}>All</a>`}>${loaded && html`<${EventList} list=${list.slice(0, 50)} />`}
      ${next && list.length < 50 && html`<div class="filters"><button type="button" onClick=${older}>Older</button></div>`}<//>`;
}
