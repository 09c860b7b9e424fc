// Events.

import { html, useEffect, useState } from '../vendor/preact.js';
import { get, needsLogin } from '../api.js';
import { anew } from '../live.js';
import { AsCommand, Head, Panel, State, Table, Text } from '../parts.js';
import { dateTime } from '../text.js';

const PAGE = 200;
/** The largest page that the API gives. New events come in such pages, the oldest first. */
const NEW_MAX = 1000;
/** Events that a list holds; older ones can be requested again. */
const HELD_MAX = 2000;
const LOOK_MS = 1000;
const NONE = { key: null, list: [], next: null, problem: null, loaded: false };

/** A list with new events in front, the oldest of which is first in `more`. */
function longer(before, more) {
  const list = [...more.toReversed(), ...before.list];
  return { ...before, list: list.slice(0, HELD_MAX), next: list.length > HELD_MAX ? list[HELD_MAX - 1].id : before.next };
}

/**
 * Matching events, the newest first. New ones are requested with the same query, so that the list shows what a request for all of it would.
 * `older` requests more.
 */
export function useEvents(query) {
  const [found, setFound] = useState(NONE);
  const key = JSON.stringify(query);
  const ask = (more) => get(`events?${new URLSearchParams({ limit: PAGE, ...query, ...more })}`);
  useEffect(() => {
    let ended = false;
    let timer;
    /** The newest event that is known; null: the list is read anew. */
    let last = null;
    const look = async () => {
      const page = await ask(last === null ? {} : { since: last, limit: NEW_MAX });
      if (ended) return;
      if (last === null) setFound({ key, list: page.events, next: page.next, problem: null, loaded: true });
      else if (page.events.length > 0) setFound((before) => longer(before, page.events));
      // More events than are kept: those in between are gone.
      const isMissing = last !== null && page.oldest > last + 1;
      last = isMissing ? null : page.last;
    };
    const again = async () => {
      if (document.visibilityState === 'visible' && !needsLogin.peek()) {
        await look().catch((problem) => ended || last !== null || setFound({ ...NONE, key, problem, loaded: true }));
        if (ended) return;
      }
      timer = setTimeout(again, LOOK_MS);
    };
    again();
    return () => {
      ended = true;
      clearTimeout(timer);
    };
  }, [key, anew.value]);
  const older = async () => {
    const { events, next } = await ask({ before: found.next });
    setFound((before) => (before.key === key ? { ...before, list: [...before.list, ...events], next } : before));
  };
  return { ...(found.key === key ? found : NONE), older };
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
