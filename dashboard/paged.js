// Lists of the API, by pages: they may have millions of rows.

import { html, useEffect, useState } from './vendor/preact.js';
import { get } from './api.js';
import { Table, Text } from './parts.js';

/** A search field: it takes effect a moment after the last key. */
export function Search({ label, value, found, placeholder = '' }) {
  const [text, setText] = useState(value ?? '');
  useEffect(() => setText(value ?? ''), [value]);
  useEffect(() => {
    const timer = setTimeout(() => text !== (value ?? '') && found(text), 300);
    return () => clearTimeout(timer);
  }, [text]);
  return html`<label>${label} <input type="search" spellcheck=${false} placeholder=${placeholder} value=${text} onInput=${(event) => setText(event.target.value)} /></label>`;
}

const PAGE = 100;
/** Pages may be short, or empty, if few of many rows match: this many are read. */
const ASKED_MAX = 8;

async function rowsOf(list, key, query, cursor, signal) {
  const rows = [];
  let next = cursor;
  let answer = null;
  for (let asked = 0; asked < ASKED_MAX; asked++) {
    answer = await get(`${list}?${new URLSearchParams({ ...query, limit: PAGE - rows.length, ...(next && { cursor: next }) })}`, { signal });
    rows.push(...answer[key]);
    next = answer.next;
    if (!next || rows.length >= PAGE) break;
  }
  return { rows, next, answer };
}

/** A list of the API, by pages: it may have millions of rows. `of`: the list's field in the answer; `answer`: the last one. */
export function usePages(list, query, of = list) {
  const key = JSON.stringify(query);
  const [at, setAt] = useState({ key, cursor: null, page: 1, round: 0 });
  const now = at.key === key ? at : { key, cursor: null, page: 1, round: 0 };
  const [found, setFound] = useState({ rows: [], next: null, answer: null, problem: null, loaded: false });
  useEffect(() => {
    const stop = new AbortController();
    rowsOf(list, of, query, now.cursor, stop.signal).then(
      (page) => stop.signal.aborted || setFound({ ...page, problem: null, loaded: true }),
      (problem) => stop.signal.aborted || setFound({ rows: [], next: null, answer: null, problem, loaded: true }),
    );
    return () => stop.abort();
  }, [key, now.cursor, now.round]);
  return {
    ...found,
    page: now.page,
    first: () => setAt({ ...now, cursor: null, page: 1, round: now.round + 1 }),
    forward: () => setAt({ ...now, cursor: found.next, page: now.page + 1 }),
    again: () => setAt({ ...now, round: now.round + 1 }),
  };
}

/** The lines below a paged list. */
export const Pager = ({ pages }) => html`<div class="filters">
  <button type="button" onClick=${pages.again}>Read again</button>
  <button type="button" disabled=${pages.page === 1} onClick=${pages.first}>First page</button>
  <button type="button" disabled=${!pages.next} onClick=${pages.forward}>Next page</button>
  <span class="dim num">page ${pages.page}${pages.next ? '' : ', the last'}</span>
</div>`;

/** A list with its pages. */
export const PagedTable = ({ pages, children, ...table }) => html`<section class="panel">
  ${pages.problem && html`<div class="empty" role="alert"><${Text} of=${pages.problem.message} max=${400} /></div>`}
  ${pages.loaded && !pages.problem && html`<${Table} ...${table} rows=${pages.rows}>${pages.next ? 'None among those that were looked at: the next page goes on.' : children}<//>`}
  <${Pager} pages=${pages} />
</section>`;
