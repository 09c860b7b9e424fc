// Events.

import { html, useEffect, useState } from '../vendor/preact.js';
import { get } from '../api.js';
import { anew, events as live } from '../live.js';
import { AsCommand, Head, Panel, State, Table, Text } from '../parts.js';
import { dateTime } from '../text.js';

const PAGE = 200;

/** Matching events, new ones included. `older` requests more. */
export function useEvents(query) {
  const [found, setFound] = useState({ list: [], next: null, problem: null, loaded: false });
  const key = JSON.stringify(query);
  const ask = (more) => get(`events?${new URLSearchParams({ limit: PAGE, ...query, ...more })}`);
  useEffect(() => {
    let ended = false;
    ask().then(
      ({ events, next }) => ended || setFound({ list: events, next, problem: null, loaded: true }),
      (problem) => ended || setFound({ list: [], next: null, problem, loaded: true }),
    );
    return () => (ended = true);
  }, [key, anew.value]);
  const older = async () => {
    const { events, next } = await ask({ before: found.next });
    setFound((before) => ({ ...before, list: [...before.list, ...events], next }));
  };
  const newest = found.list[0]?.id ?? 0;
  const fresh = live.value.filter((event) => event.id > newest && fits(event, query));
  return { ...found, list: [...fresh, ...found.list], older };
}

const ORDER = ['info', 'warn', 'error'];
function fits(event, { kind, class: of, severity, sink, source, client }) {
  return (!kind || event.kind === kind) && (!of || event.class === of) && (!sink || event.sink === sink) && (!client || event.client === client)
    && (!source || event.source === source) && (!severity || ORDER.indexOf(event.severity) >= ORDER.indexOf(severity));
}

const OWN = ['id', 'at', 'kind', 'class', 'severity', 'message', 'shard'];
const Fields = ({ event }) => html`<span class="why fields">${Object.entries(event)
  .filter(([name, value]) => !OWN.includes(name) && value !== null)
  .map(([name, value]) => html`<span><i>${name}</i> <${Text} of=${typeof value === 'object' ? JSON.stringify(value) : value} max=${200} /></span>`)}</span>`;

const COLUMNS = [
  { title: 'Time', cell: (event) => html`<span class="num">${dateTime(Date.parse(event.at))}</span>` },
  { title: '', cell: (event) => html`<${State} word=${event.severity} />` },
  { title: 'Kind', cell: (event) => html`<code>${event.kind}</code>` },
  { title: 'What happened', cell: (event) => html`${event.message}<${Fields} event=${event} />` },
];

export const EventList = ({ list }) => html`
  <${Table} label="Events" columns=${COLUMNS} rows=${list} id=${(event) => event.id}>Nothing that fits has happened since the start. Events are kept in memory, the newest of each class.<//>`;

const CLASSES = ['administration', 'lifecycle', 'error', 'client', 'connection', 'statistics'];
const NAMES = { class: 'Class', severity: 'At least', kind: 'Kind', sink: 'Sink', client: 'Client' };

export function Events({ query, set }) {
  const wanted = Object.fromEntries(Object.keys(NAMES).filter((key) => query[key]).map((key) => [key, query[key]]));
  const { list, next, older, problem, loaded } = useEvents(wanted);
  const choice = (key, options) => html`<label>${NAMES[key]} <select value=${query[key] ?? ''} onChange=${(event) => set({ [key]: event.target.value })}>
    <option value="">${key === 'severity' ? 'info' : 'all'}</option>${options.map((option) => html`<option>${option}</option>`)}</select></label>`;
  const field = (key) => html`<label>${NAMES[key]} <input type="search" spellcheck=${false} value=${query[key] ?? ''} onChange=${(event) => set({ [key]: event.target.value.trim() })} /></label>`;
  const words = Object.entries(wanted).flatMap(([key, value]) => [`--${key}`, value]);
  return html`
    <${Head} title="Events"><${AsCommand} path=${`events?${new URLSearchParams(wanted)}`} words=${['events', ...words]} /><//>
    <${Panel} title=${!loaded ? 'Events' : `${list.length} ${list.length === 1 ? 'event' : 'events'}${next ? ', and older ones' : ''}`} right=${query.class !== 'connection' && !query.client && html`<span class="dim">Clients that come and go: class connection</span>`}>
      <div class="filters">${choice('class', CLASSES)}${choice('severity', ['warn', 'error'])}${field('kind')}${field('sink')}${field('client')}</div>
      ${problem ? html`<div class="empty" role="alert">${problem.message}</div>` : loaded && html`<${EventList} list=${list} />`}
      ${next && html`<div class="filters"><button type="button" onClick=${older}>Older</button></div>`}
    <//>`;
}
