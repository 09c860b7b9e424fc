// Text of the configuration: a field with numbered lines, what is wrong with it at its line, and what a change of it does.

import { html, signal, useRef } from './vendor/preact.js';
import { diff, hunks } from './diff.js';
import { Text } from './parts.js';
import { many } from './text.js';

/** A statement on its way between the page SQL and the form of a rule: `{ name, to, keys }`, where `to` is the name of a new one. It is kept nowhere. */
export const statement = signal(null);

/**
 * The field, and below it what is wrong: `{ line, what }`, line 0 where nobody knows. `id`: of what is wrong, where a page has several.
 * @param {{ label: any, text: string, change: (text: string) => void, wrong?: { line: number, what: string }[], id?: string, at?: any }} props
 */
export function Editor({ label, text, change, wrong = [], id = 'mistakes', at = null }) {
  const own = useRef(null);
  const field = at ?? own;
  const lines = text.split('\n');
  const marked = new Set(wrong.map(({ line }) => line));
  const leap = (line) => {
    const start = lines.slice(0, line - 1).reduce((sum, one) => sum + one.length + 1, 0);
    field.current.focus();
    field.current.setSelectionRange(start, start + (lines[line - 1]?.length ?? 0));
  };
  return html`<label>${label}
      <div class="code"><pre aria-hidden="true">${lines.map((_, i) => (marked.has(i + 1) ? html`<span class="wrong">${i + 1}</span>${'\n'}` : `${i + 1}\n`))}</pre>
        <textarea ref=${field} rows=${Math.min(40, Math.max(8, lines.length + 1))} wrap="off" spellcheck=${false} autocapitalize="off" value=${text} onInput=${(event) => change(event.target.value)} aria-describedby=${id}></textarea></div></label>
    <${Mistakes} wrong=${wrong} leap=${leap} id=${id} />`;
}

/** A text with its lines. */
export const Lines = ({ of }) => of.split('\n').map((line, i) => html`${i > 0 && '\n'}<${Text} of=${line} max=${2000} />`);

/** What is wrong, each with the way to its line. */
export const Mistakes = ({ wrong, leap = null, id = 'mistakes' }) => html`<div id=${id} role="status">
  ${wrong.length > 0 && html`<ul class="mistakes">${wrong.map(({ line, what }) => html`<li>${leap && line > 0 && html`<button type="button" class="plain" onClick=${() => leap(line)}>Line ${line}</button> `}<${Text} of=${what} max=${600} /></li>`)}</ul>`}
</div>`;

const SIGN = { old: '-', new: '+', same: ' ', gap: ' ' };
/** Lines in which two texts differ, with some around them. */
export const Difference = ({ before, after }) => html`<pre class="diff" tabindex="0" aria-label="Difference">${hunks(diff(before, after)).map(({ kind, text }) => html`<span class=${kind}>${SIGN[kind]} <${Text} of=${text} max=${2000} />${'\n'}</span>`)}</pre>`;

/**
 * What a change does, in the API's words. `differs`: the text is another one; `warned`: what its warnings are of.
 * @param {{ of: any, differs?: boolean, warned?: string }} props
 */
export function Outcome({ of, differs = false, warned = 'Probably not intended' }) {
  const lists = [
    ['Applied now', of.applied],
    ['Needs a restart', of.needs_restart],
    ['Closes connections', [...of.closes, ...(of.disconnected_clients > 0 ? [`${many(of.disconnected_clients, 'client is', 'clients are')} disconnected`] : [])]],
    ['Written as well, so that it stays as it is', of.also],
    [warned, of.warnings],
    ['In force, not in the file', of.not_in_file],
  ];
  return html`${lists.filter(([, list]) => list.length > 0).map(([what, list]) => html`<p><b>${what}</b>: <${Text} of=${list.join('; ')} max=${2000} /></p>`)}
    ${of.applied.length === 0 && of.needs_restart.length === 0 && html`<p>${differs ? 'What runs stays as it is: only the text changes.' : 'Nothing: it is so already.'}</p>`}`;
}
