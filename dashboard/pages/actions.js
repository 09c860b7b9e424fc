// Common to the pages of all parts of the configuration: the list, actions (pause, resume, change, delete), and the page of a missing part.

import { html } from '../vendor/preact.js';
import { name as escaped } from '../api.js';
import { objects, value } from '../live.js';
import { AsCommand, Head, Live, New, Table, Text, WriteButton, show } from '../parts.js';
import { count } from '../text.js';
import { Change } from './change.js';

/** Rows shown of a list. */
const SHOWN = 500;

/** The list of the parts of a kind, with a search by name. `all`: from the API; `children`: text of an empty list. */
export function PartList({ part, title, one, all, problem, columns, query, set, children }) {
  const text = (query.search ?? '').toLowerCase();
  const rows = (all ?? []).filter(({ name }) => name.toLowerCase().includes(text));
  return html`
    <${Head} title=${title} sub=${all && `${count(all.length)} in the configuration`}>
      <label><span class="hidden">Search ${part}</span><input type="search" placeholder="Name" spellcheck=${false} value=${query.search ?? ''} onInput=${(event) => set({ search: event.target.value })} /></label>
      <${New} part=${part} one=${one} />
      <${AsCommand} path=${part} words=${[part]} />
    <//>
    ${problem && html`<div class="banner bad" role="alert"><${Text} of=${problem.message} max=${400} /></div>`}
    ${all && html`<section class="panel"><${Table} label=${title} columns=${columns} rows=${rows.slice(0, SHOWN)} id=${(row) => row.name}>
      ${text ? `No ${one} has this in its name.` : children}<//>
      ${rows.length > SHOWN && html`<div class="empty">And ${count(rows.length - SHOWN)} more: search for their names.</div>`}</section>`}`;
}

/** `pause`, `resume` and `remove`: their effects; `lose`: a removal may lose messages, which a choice has to allow; `children`: further actions. */
export function Actions({ part, one, name, isPaused, set, done, pause, resume, remove, lose = null, children = null }) {
  const path = `${part}/${escaped(name)}`;
  const action = isPaused ? 'resume' : 'pause';
  const ask = (what) => () => show(what);
  return html`
    <${WriteButton} onClick=${ask(html`<${Change} what=${`${action} ${one}`} name=${name} path=${`${path}/${action}`} button=${isPaused ? 'Resume' : 'Pause'} done=${done}>${isPaused ? resume : pause}<//>`)}>${isPaused ? 'Resume' : 'Pause'}<//>
    ${children}
    <${WriteButton} onClick=${() => set({ edit: 'yes' })}>Change<//>
    <${WriteButton} onClick=${ask(html`<${Change} what=${`delete ${one}`} name=${name} path=${path} method="DELETE" danger button="Delete" lose=${lose} done=${() => (location.hash = `#/${part}`)}>${remove}<//>`)}>Delete<//>`;
}

/** The page of a missing part. */
export const Gone = ({ part, title, one, name, problem }) => html`<${Head} title=${html`${one} <${Text} of=${name} />`} />
  <div class="panel"><div class="empty" role="alert"><${Text} of=${problem.message} />. <a href=${`#/${part}`}>All ${title.toLowerCase()}</a></div></div>`;

/** Cells with a live number: of the stream if it has it, else of the API. */
export const liveOr = (kind) => {
  const live = new Set(objects(kind).map(({ name }) => name));
  return (series, as, field) => (row) => live.has(row.name) ? html`<${Live} get=${() => value(kind, row.name, series)} as=${as} />` : html`<span class="num">${as(field(row))}</span>`;
};
