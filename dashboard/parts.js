// Building blocks of the pages.

import { Fragment, html, signal, useComputed, useEffect, useRef, useState } from './vendor/preact.js';
import { curl, forebay, mayWrite, needsLogin } from './api.js';
import { NOTHING, parts } from './text.js';
import { tick } from './live.js';

/** Text chosen by a device or another user. */
export const Text = ({ of, max }) =>
  parts(of, max).map((part) => (part.hidden ? html`<span class="escaped">${part.text}</span>` : part.text));

/** Text of several lines in a box of its own. */
export const Lines = ({ of, max, ...rest }) => html`<pre class="payload" tabindex="0" ...${rest}>${of.split('\n').map((line, i) => html`${i > 0 && '\n'}<${Text} of=${line} max=${max} />`)}</pre>`;

/** A live number. Only its text changes. */
export function Live({ get, as }) {
  const text = useComputed(() => (tick.value, as(get())));
  return html`<span class="num">${text}</span>`;
}

const SHAPES = {
  good: ['running', 'reachable', 'ready', 'sending', 'waiting', 'connected', 'works', 'granted', 'reading', 'passed', 'good'],
  warn: ['joining', 'connecting', 'partial', 'trouble', 'stopped', 'unused', 'sent_again', 'backing_off', 'warn', 'no_partition', 'full', 'window_full', 'no_room', 'topic_missing', 'starting', 'not read'],
  bad: ['stalled', 'unreachable', 'no_leader', 'refused', 'not ready', 'not healthy', 'error', 'failed', 'fails'],
};
const shape = (word) => Object.keys(SHAPES).find((key) => SHAPES[key].includes(word.toLowerCase())) ?? 'off';
export const State = ({ word }) => html`<span class="state ${shape(word)}"><i aria-hidden="true"></i>${word.replaceAll('_', ' ')}</span>`;

export const Panel = ({ title, right, children, ...rest }) => html`
  <section class="panel" aria-label=${title} ...${rest}>
    <header><h2>${title}</h2><div class="right">${right}</div></header>
    ${children}
  </section>`;

export const Tile = ({ label, children, more }) => html`
  <div class="tile"><dt>${label}</dt><dd class="big">${children}</dd>${more !== undefined && html`<dd class="more">${more}</dd>`}</div>`;

/** A number with its unit smaller. */
export function Big({ get, as }) {
  const text = useComputed(() => (tick.value, as(get())));
  const number = useComputed(() => text.value.match(/^[–\d.,]+/)?.[0] ?? text.value);
  const unit = useComputed(() => text.value.slice(number.value.length));
  return html`<span class="num">${number}<small>${unit}</small></span>`;
}

/** Columns: `{ title, number, wide, cell }`. `children`: text of an empty table. */
export const Table = ({ columns, rows, id, label, children }) => rows.length === 0
  ? html`<div class="empty">${children}</div>`
  : html`<div class="scroll" tabindex="0" role="region" aria-label=${label}><table>
      <thead><tr>${columns.map(({ title, number, wide }) => html`<th scope="col" class=${number ? 'n' : wide ? 'wide' : ''}>${title}</th>`)}</tr></thead>
      <tbody>${rows.map((row) => html`<tr key=${id(row)}>
        ${columns.map(({ cell, number }, place) => place === 0
          ? html`<th scope="row" class="cut">${cell(row)}</th>`
          : html`<td class=${number ? 'n' : ''}>${cell(row)}</td>`)}
      </tr>`)}</tbody>
    </table></div>`;

/** A choice of words. */
export const Segments = ({ label, options, value, choose }) => html`
  <div class="segments" role="group" aria-label=${label}>
    ${options.map((option) => html`<button type="button" aria-pressed=${String(option === value)} onClick=${() => choose(option)}>${option}</button>`)}
  </div>`;

const dialog = signal(null);
/** Opens a dialog. Each call opens a new one, even if equal. */
export const show = (what) => (dialog.value = { what });
export const close = () => (dialog.value = null);
/** Closes the dialog that is open now, and none that is opened later. */
export function closing() {
  const mine = dialog.peek();
  return () => dialog.peek() === mine && close();
}

export function Dialog() {
  const element = useRef(null);
  // A login takes precedence, and keeps the dialog.
  const wanted = needsLogin.value ? null : dialog.value;
  const shown = useRef(null);
  useEffect(() => {
    shown.current = wanted;
    if (wanted && !element.current.open) element.current.showModal();
    if (!wanted && element.current.open) element.current.close();
  }, [wanted]);
  // The browser reports a closed dialog later: by then another may be wanted or shown.
  const onClose = () => !element.current.open && dialog.peek() === shown.current && close();
  return html`<dialog ref=${element} aria-labelledby="dialog-title" onClose=${onClose}
    onClick=${(event) => event.target === element.current && close()}>${dialog.value && html`<${Fragment} key=${dialog.value}>${dialog.value.what}<//>`}</dialog>`;
}

function Command({ text }) {
  const [done, setDone] = useState(false);
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    setDone(true);
  };
  return html`<div><pre tabindex="0">${text}</pre>
    ${navigator.clipboard && html`<button type="button" onClick=${copy}>${done ? 'Copied' : 'Copy'}</button>`}</div>`;
}

/** The button that shows the request for a shell: `path` of the API, `words` of the command line. */
export const AsCommand = ({ path, words, method }) => html`
  <button type="button" onClick=${() => show(html`<div class="inside">
    <h2 id="dialog-title">The same in a shell</h2>
    ${words && html`<${Command} text=${forebay(...words)} />`}
    ${path && html`<${Command} text=${curl(path, method)} />`}
    <p class="dim">With a token in FOREBAY_TOKEN where one is needed.</p>
    <div class="buttons"><button type="button" onClick=${close}>Close</button></div>
  </div>`)}>As a command</button>`;

/** Lines of a page's head. */
export const Head = ({ title, sub, children }) => html`
  <div class="head"><h1 id="title" tabindex="-1">${title}</h1>${sub && html`<span class="sub">${sub}</span>`}<div class="right">${children}</div></div>`;

const NONE = { key: null, value: null, problem: null };
/** Polls while shown. `ask` may change its request with `key`: the answer for another key is not shown. */
export function usePolled(ask, key, everyMs) {
  const [found, setFound] = useState(NONE);
  useEffect(() => {
    let ended = false;
    let timer;
    setFound({ ...NONE, key });
    const again = async () => {
      if (document.visibilityState === 'visible' && !needsLogin.peek()) {
        const next = await ask().then((value) => ({ value, problem: null }), (problem) => ({ problem }));
        if (ended) return;
        setFound((before) => ({ ...before, ...next }));
      }
      timer = setTimeout(again, everyMs);
    };
    again();
    return () => {
      ended = true;
      clearTimeout(timer);
    };
  }, [key]);
  return found.key === key ? found : NONE;
}

export const or = (value) => value ?? NOTHING;

/** A button that needs the role write. */
export const WriteButton = ({ children, kind = '', disabled = false, ...rest }) => html`<button type="button" class=${kind} disabled=${disabled || !mayWrite()}
  title=${mayWrite() ? '' : 'needs a token with the role write'} ...${rest}>${children}</button>`;

/** The link to a new part's form. */
export const New = ({ part, one }) => (mayWrite() ? html`<a class="button" href=${`#/${part}?new=yes`}>New ${one}</a>` : html`<${WriteButton}>New ${one}<//>`);

export const Facts = ({ rows }) => html`<dl class="facts">${rows.map(([name, value]) => html`<dt>${name}</dt><dd class="num cut">${or(value)}</dd>`)}</dl>`;
