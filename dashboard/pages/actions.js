// What is done with a part of the configuration on its own page: paused and resumed, changed, deleted.

import { html } from '../vendor/preact.js';
import { name as escaped } from '../api.js';
import { objects, value } from '../live.js';
import { Head, Live, Text, WriteButton, dialog } from '../parts.js';
import { Change } from './change.js';

/** `pause`, `resume` and `remove` say what will happen; `lose`: a removal may lose messages, which a choice has to allow. */
export function Actions({ part, one, name, isPaused, set, done, pause, resume, remove, lose = null }) {
  const path = `${part}/${escaped(name)}`;
  const action = isPaused ? 'resume' : 'pause';
  const ask = (what) => () => (dialog.value = what);
  return html`
    <${WriteButton} onClick=${ask(html`<${Change} what=${`${action} ${one}`} name=${name} path=${`${path}/${action}`} button=${isPaused ? 'Resume' : 'Pause'} done=${done}>${isPaused ? resume : pause}<//>`)}>${isPaused ? 'Resume' : 'Pause'}<//>
    <${WriteButton} onClick=${() => set({ edit: 'yes' })}>Change<//>
    <${WriteButton} onClick=${ask(html`<${Change} what=${`delete ${one}`} name=${name} path=${path} method="DELETE" danger button="Delete" lose=${lose} done=${() => (location.hash = `#/${part}`)}>${remove}<//>`)}>Delete<//>`;
}

/** The page of a part that is not there. */
export const Gone = ({ part, title, one, name, problem }) => html`<${Head} title=${html`${one} <${Text} of=${name} />`} />
  <div class="panel"><div class="empty" role="alert"><${Text} of=${problem.message} />. <a href=${`#/${part}`}>All ${title.toLowerCase()}</a></div></div>`;

/** Cells with a number of now: of the stream for what it has, else of the API. */
export const liveOr = (kind) => {
  const live = new Set(objects(kind).map(({ name }) => name));
  return (series, as, field) => (row) => live.has(row.name) ? html`<${Live} get=${() => value(kind, row.name, series)} as=${as} />` : html`<span class="num">${as(field(row))}</span>`;
};
