// Forms of parts of the configuration. Fields, sentences and defaults are from the schema; order and labels from fields.js.

import { html, useState } from './vendor/preact.js';
import { get } from './api.js';
import { FIRST, kindOf, read, sentence, show, words } from './fields.js';
import { Text } from './parts.js';

let schema;
/** The schema of one sink, or of one cluster. */
export async function schemaOf(section) {
  schema ??= await get('config/schema');
  const whole = schema.properties[section];
  return whole.items ?? whole.additionalProperties;
}

/** A sentence of the schema, with its code. */
const Sentence = ({ of }) => sentence(of).split('`').map((part, i) => (i % 2 ? html`<code>${part}</code>` : part));

/** Fields for the keys of a part. `choices`: other fields for some keys. `wrong`: mistakes by key. */
export function Form({ section, schema: of, keys, change, choices = {}, wrong = {} }) {
  const first = FIRST[section].filter(([key]) => of.properties[key]);
  const rest = Object.keys(of.properties).filter((key) => !['name', 'bind'].includes(key) && !first.some(([known]) => known === key));
  const field = (key, label) => choices[key] ?? html`<${Field} key=${key} id=${`${section}-${key}`} label=${label} of=${of.properties[key]} required=${of.required.includes(key)}
    value=${keys[key]} wrong=${wrong[key]} set=${(value) => change({ ...keys, [key]: value })} />`;
  return html`<div class="fields-of">${first.map(([key, label]) => field(key, label))}</div>
    <details open=${rest.some((key) => wrong[key])}><summary>Advanced</summary><div class="fields-of">${rest.map((key) => field(key, words(key)))}</div></details>`;
}

function Field({ id, label, of, required, value, wrong, set }) {
  const kind = kindOf(of);
  // Typed text is kept as typed.
  const [text, setText] = useState(show(kind, value));
  if (kind === 'group') return html`<${Group} id=${id} label=${label} of=${of} value=${value} wrong=${wrong} set=${set} />`;
  if (kind === 'tables') return html`<${Tables} id=${id} label=${label} of=${of.items} value=${value ?? []} wrong=${wrong} set=${set} />`;
  const type = (event) => {
    setText(event.target.value);
    set(read(kind, event.target.value));
  };
  const absent = of.default === undefined ? (required || kind === 'text' ? '' : 'default') : `default: ${of.default}`;
  const same = { id, value: text, onInput: type, 'aria-describedby': `${id}-says`, 'aria-invalid': wrong ? 'true' : null };
  const input = kind === 'word' || kind === 'flag'
    ? html`<select ...${same}><option value="">${absent}</option>${(of.enum ?? [true, false]).map((one) => html`<option value=${String(one)}>${String(one)}</option>`)}</select>`
    : kind === 'list' || kind === 'table'
      ? html`<textarea ...${same} rows=${Math.min(12, Math.max(2, text.split('\n').length))} spellcheck=${false} placeholder=${kind === 'table' ? 'NAME = VALUE, a line each' : 'one a line'}></textarea>`
      : html`<input ...${same} type=${kind === 'number' ? 'number' : 'text'} step="any" required=${required} spellcheck=${false} placeholder=${absent} />`;
  return html`<div class="field"><label for=${id}>${label}</label>${input}
    <span class="why" id=${`${id}-says`}>${wrong && html`<b class="wrong"><${Text} of=${wrong} max=${400} /></b> `}<${Sentence} of=${of.description} /></span></div>`;
}

/** An optional table. */
function Group({ id, label, of, value, wrong, set }) {
  const is = Boolean(value);
  return html`<fieldset class="field"><legend class="hidden">${label}</legend>
    <label class="row"><input type="checkbox" checked=${is} onChange=${() => set(is ? null : {})} />${label}</label>
    <span class="why">${wrong && html`<b class="wrong"><${Text} of=${wrong} max=${400} /></b> `}<${Sentence} of=${of.description} /></span>
    ${is && html`<${Part} id=${id} of=${of} value=${value} set=${set} />`}</fieldset>`;
}

const Part = ({ id, of, value, set }) => html`<div class="fields-of">${Object.entries(of.properties).sort(([a], [b]) => Number(of.required.includes(b)) - Number(of.required.includes(a))).map(([key, one]) => html`<${Field} key=${key} id=${`${id}-${key}`} label=${words(key)} of=${one} required=${of.required.includes(key)}
  value=${value[key]} set=${(part) => set({ ...value, [key]: part })} />`)}</div>`;

/** Tables that may be repeated. */
function Tables({ id, label, of, value, wrong, set }) {
  // Fields keep typed text: those after a removed one are created again.
  const [round, setRound] = useState(0);
  const change = (place, next) => set(value.map((one, i) => (i === place ? next : one)));
  const remove = (place) => (setRound(round + 1), set(value.length > 1 ? value.filter((_, i) => i !== place) : null));
  return html`<fieldset class="field wide"><legend>${label}</legend>
    <span class="why">${wrong && html`<b class="wrong"><${Text} of=${wrong} max=${400} /></b> `}<${Sentence} of=${of.description} /></span>
    ${value.map((one, place) => html`<fieldset class="field wide" key=${`${round} ${place}`}><legend class="hidden">${label}, ${place + 1}</legend>
      <${Part} id=${`${id}-${place}`} of=${of} value=${one} set=${(next) => change(place, next)} />
      <div class="buttons"><button type="button" onClick=${() => remove(place)}>Remove</button></div></fieldset>`)}
    <div class="buttons"><button type="button" onClick=${() => set([...value, {}])}>Add</button></div></fieldset>`;
}
