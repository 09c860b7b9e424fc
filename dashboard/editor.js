// Text of the configuration: a field with numbered lines, mistakes at their lines, and the effect of a change.

import { html, signal, useRef, useState } from './vendor/preact.js';
import { diff, hunks } from './diff.js';
import { Text } from './parts.js';
import { many } from './text.js';

/** A statement passed between the page SQL and the form of a rule: `{ name, to, keys }`; `to`: the name of a new rule. Not stored. */
export const statement = signal(null);

/**
 * The list of words that fit at the cursor of a field. Enter takes the chosen one; none is chosen before an arrow key: Enter and Tab keep their meaning.
 * @param {any} field
 * @param {((text: string, at: number, isAsked: boolean) => { from: number, words: { word: string, what: string }[] } | null) | null} offer
 */
function useList(field, offer, id) {
  const [open, setOpen] = useState(/** @type {any} */ (null));
  const taken = useRef(false);
  if (!offer) return { list: null };
  const look = (isAsked) => {
    const { value, selectionStart: at, selectionEnd: to, scrollTop } = field.current;
    const found = at === to && !taken.current ? offer(value, at, isAsked) : null;
    setOpen(found && { ...found, chosen: isAsked ? 0 : -1, line: value.slice(0, at).split('\n').length, scrollTop });
  };
  const take = ({ word }) => {
    const { selectionStart: at } = field.current;
    field.current.setSelectionRange(open.from, at);
    // As a new value Ctrl-Z would not undo it.
    taken.current = true;
    document.execCommand('insertText', false, word);
    taken.current = false;
    setOpen(null);
  };
  const press = (event) => {
    const { key, ctrlKey } = event;
    const step = { ArrowDown: 1, ArrowUp: -1 }[key];
    const all = open?.words.length;
    if (key === ' ' && ctrlKey) look(true);
    else if (!open || event.isComposing) return;
    else if (step) setOpen({ ...open, chosen: open.chosen < 0 && step < 0 ? all - 1 : (open.chosen + step + all) % all });
    else if (key === 'Enter' && open.chosen >= 0) take(open.words[open.chosen]);
    else if (key === 'Escape') setOpen(null);
    else {
      if (['ArrowLeft', 'ArrowRight', 'Home', 'End', 'PageUp', 'PageDown'].includes(key)) setOpen(null);
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  };
  const option = (place) => `${id}-offer-${place}`;
  return {
    look,
    asks: {
      onKeyDown: press, onBlur: () => setOpen(null), 'aria-autocomplete': 'list', 'aria-haspopup': 'listbox', 'aria-controls': open ? `${id}-offers` : null,
      'aria-activedescendant': open?.chosen >= 0 ? option(open.chosen) : null,
    },
    list: html`<span class="hidden" role="status">${open && `${many(open.words.length, 'suggestion')}, chosen by arrow keys`}</span>
      ${open && html`<ul id=${`${id}-offers`} class="offers" role="listbox" aria-label="Suggestions" style=${{ top: `calc(${open.line} * 1.5 * 12.5px + 8px - ${open.scrollTop}px)` }}>
        ${open.words.map((one, place) => html`<li id=${option(place)} role="option" aria-selected=${String(place === open.chosen)}
          onMouseDown=${(event) => (event.preventDefault(), take(one))}><code><${Text} of=${one.word} max=${80} /></code> <span class="dim"><${Text} of=${one.what} max=${100} /></span></li>`)}</ul>`}`,
  };
}

/**
 * The field, and the mistakes below: `{ line, what }`, line 0: unknown. `id`: of the mistakes, if a page has several fields. `offer`: words for the cursor.
 * @param {{ label: any, text: string, change: (text: string) => void, wrong?: { line: number, what: string }[], id?: string, at?: any, offer?: any }} props
 */
export function Editor({ label, text, change, wrong = [], id = 'mistakes', at = null, offer = null }) {
  const own = useRef(null);
  const field = at ?? own;
  const lines = text.split('\n');
  const { look, asks, list } = useList(field, offer, id);
  const marked = new Set(wrong.map(({ line }) => line));
  const leap = (line) => {
    const start = lines.slice(0, line - 1).reduce((sum, one) => sum + one.length + 1, 0);
    field.current.focus();
    field.current.setSelectionRange(start, start + (lines[line - 1]?.length ?? 0));
  };
  return html`<label><span id=${`${id}-of`}>${label}</span>
      <div class="code"><pre aria-hidden="true">${lines.map((_, i) => (marked.has(i + 1) ? html`<span class="wrong">${i + 1}</span>${'\n'}` : `${i + 1}\n`))}</pre>
        <textarea ref=${field} rows=${Math.min(40, Math.max(8, lines.length + 1))} wrap="off" spellcheck=${false} autocapitalize="off" value=${text} onInput=${(event) => (change(event.target.value), look?.(false))}
          aria-labelledby=${`${id}-of`} aria-describedby=${id} ...${asks}></textarea>${list}</div></label>
    <${Mistakes} wrong=${wrong} leap=${leap} id=${id} />`;
}

/** A text with its lines. */
export const Lines = ({ of }) => of.split('\n').map((line, i) => html`${i > 0 && '\n'}<${Text} of=${line} max=${2000} />`);

/** Mistakes, with links to lines. */
export const Mistakes = ({ wrong, leap = null, id = 'mistakes' }) => html`<div id=${id} role="status">
  ${wrong.length > 0 && html`<ul class="mistakes">${wrong.map(({ line, what }) => html`<li>${leap && line > 0 && html`<button type="button" class="plain" onClick=${() => leap(line)}>Line ${line}</button> `}<${Text} of=${what} max=${600} /></li>`)}</ul>`}
</div>`;

const SIGN = { old: '-', new: '+', same: ' ', gap: ' ' };
/** Differing lines of two texts, with their context. */
export const Difference = ({ before, after }) => html`<pre class="diff" tabindex="0" aria-label="Difference">${hunks(diff(before, after)).map(({ kind, text }) => html`<span class=${kind}>${SIGN[kind]} <${Text} of=${text} max=${2000} />${'\n'}</span>`)}</pre>`;

/**
 * Effect of a change, from the API. `differs`: the text is another one; `warned`: the subject of its warnings.
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
