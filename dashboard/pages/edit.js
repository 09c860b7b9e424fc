// A sink as text: new, or with other keys. What is wrong stands at its line; what would change is shown before it does.

import { html, useEffect, useRef, useState } from '../vendor/preact.js';
import { ask, get, name as escaped } from '../api.js';
import { diff, mistakes, toml } from '../diff.js';
import { AsCommand, Head, Panel, Text, WriteButton } from '../parts.js';
import { Until } from './change.js';

const NEW = `filters = ["example/#"]
topic = "example"
`;
const NAME = /^[A-Za-z0-9._-]{1,100}$/;

/** What a sink of the configuration in force has set. */
async function textOf(name) {
  const { sink: sinks } = await get('config');
  const found = sinks?.find((sink) => sink.name === name);
  if (!found) throw new Error(`no sink ${name} in the configuration`);
  const { name: _, ...keys } = found;
  return toml(keys);
}

/** @param {{ name?: string }} props */
export function Edit({ name }) {
  const [before, setBefore] = useState(name ? null : '');
  const [to, setTo] = useState(name ?? '');
  const [text, setText] = useState(name ? '' : NEW);
  /** What was said last: `problem`, what is `wrong` by line, or what `would` change. */
  const [state, setState] = useState(/** @type {any} */ ({}));
  const [persist, setPersist] = useState(false);
  const [busy, setBusy] = useState(false);
  const field = useRef(null);
  useEffect(() => {
    if (name) {
      textOf(name).then(
        (found) => (setBefore(found), setText(found)),
        (error) => setState({ problem: error.message }),
      );
    }
  }, [name]);
  const send = async (query) => {
    setBusy(true);
    try {
      return await (await ask(`sinks/${escaped(to)}?${query}`, { method: 'PUT', toml: text })).json();
    } catch (error) {
      setState(error.status === 422 ? { wrong: mistakes(text, error.message), of: text } : { problem: error.message });
      return null;
    } finally {
      setBusy(false);
    }
  };
  const check = async (event) => {
    event.preventDefault();
    const would = await send(`dry_run=true&persist=${persist}`);
    if (would) setState({ would, of: text });
  };
  const apply = async () => {
    const done = await send(`persist=${persist}`);
    if (done) location.hash = `#/sinks/${escaped(to)}`;
  };
  const change = (event) => (setText(event.target.value), setState({}));
  const leap = (line) => {
    const start = text.split('\n').slice(0, line - 1).reduce((sum, one) => sum + one.length + 1, 0);
    field.current.focus();
    field.current.setSelectionRange(start, start + (text.split('\n')[line - 1]?.length ?? 0));
  };
  const lines = text.split('\n').length;
  const wrongAt = new Set(state.wrong?.map(({ line }) => line));
  const isNamed = NAME.test(to);
  return html`
    <${Head} title=${html`<a href="#/sinks">Sinks</a> / ${name ? html`<a href=${`#/sinks/${escaped(name)}`}><${Text} of=${name} max=${80} /></a> / Change` : 'New sink'}`}>
      ${isNamed && html`<${AsCommand} path=${`sinks/${escaped(to)}?dry_run=true`} method="PUT" words=${['sinks', to, 'put', '--file', 'sink.toml', '--dry-run']} />`}
    <//>
    ${state.problem && html`<div class="banner bad" role="alert"><${Text} of=${state.problem} max=${600} /></div>`}
    <form class="panel editor" onSubmit=${check}>
      ${!name && html`<label>Name <input value=${to} required maxlength="100" spellcheck=${false} onInput=${(event) => setTo(event.target.value.trim())} aria-describedby="name-rule" /></label>
        <span class="dim" id="name-rule">Letters, digits and . _ -</span>`}
      <label>Keys, as below [[sink]] in the configuration
        <div class="code"><pre aria-hidden="true">${Array.from({ length: lines }, (_, i) => html`<span class=${wrongAt.has(i + 1) ? 'wrong' : ''}>${i + 1}</span>`)}</pre>
          <textarea ref=${field} rows=${Math.min(40, Math.max(8, lines + 1))} wrap="off" spellcheck=${false} autocapitalize="off" value=${text} onInput=${change} aria-describedby="mistakes"></textarea></div></label>
      <div id="mistakes" role="status">
        ${state.wrong && html`<ul class="mistakes">${state.wrong.map(({ line, what }) => html`<li>${line > 0 && html`<button type="button" class="plain" onClick=${() => leap(line)}>Line ${line}</button> `}<${Text} of=${what} max=${600} /></li>`)}</ul>`}
      </div>
      <div class="buttons"><button class="first" disabled=${busy || !isNamed || before === null}>Check</button>
        <a class="button" href=${name ? `#/sinks/${escaped(name)}` : '#/sinks'}>Cancel</a></div>
    </form>
    ${state.would && html`<${Would} would=${state.would} before=${before} after=${text} name=${to} persist=${persist} choose=${setPersist} busy=${busy} apply=${apply} />`}`;
}

const SIGN = { old: '-', new: '+', same: ' ' };

function Would({ would, before, after, persist, choose, busy, apply }) {
  const lists = [['Applied now', would.applied], ['Needs a restart', would.needs_restart], ['Probably not intended', would.warnings], ['In force, not in the file', would.not_in_file]];
  return html`<${Panel} title="What would change">
    <div class="inside">
      <pre class="diff" tabindex="0" aria-label="Difference">${diff(before ?? '', after).map(({ kind, text }) => html`<span class=${kind}>${SIGN[kind]} <${Text} of=${text} max=${2000} />${'\n'}</span>`)}</pre>
      ${lists.filter(([, list]) => list.length > 0).map(([what, list]) => html`<p><b>${what}</b>: <${Text} of=${list.join('; ')} max=${2000} /></p>`)}
      ${would.applied.length === 0 && would.needs_restart.length === 0 && html`<p>Nothing: it is so already.</p>`}
      <${Until} persist=${persist} choose=${choose} />
      <div class="buttons"><${WriteButton} kind="first" disabled=${busy} onClick=${apply}>Apply<//></div>
    </div><//>`;
}

/** The dialog that shows what a sink makes of a message. */
export function Try({ name }) {
  const [topic, setTopic] = useState('');
  const [payload, setPayload] = useState('');
  const [found, setFound] = useState(null);
  const send = async (event) => {
    event.preventDefault();
    setFound(await get(`sinks/${escaped(name)}/test`, { method: 'POST', body: { message: { topic, payload } } }).catch((problem) => ({ problem })));
  };
  return html`<form onSubmit=${send}>
    <h2 id="dialog-title">The record of a message</h2>
    <p class="dim">Nothing is written.</p>
    <label>MQTT topic <input required spellcheck=${false} value=${topic} onInput=${(event) => setTopic(event.target.value)} /></label>
    <label>Payload <textarea rows="3" spellcheck=${false} value=${payload} onInput=${(event) => setPayload(event.target.value)}></textarea></label>
    ${found && html`<div role="status">${found.problem ? html`<div class="banner bad"><${Text} of=${found.problem.message} max=${600} /></div>` : html`<${Record} of=${found} />`}</div>`}
    <div class="buttons"><button class="first">Try</button></div>
  </form>`;
}

const content = (of) => (of ? (of.text ?? `${of.base64} (base64)`) : '–');
const Record = ({ of }) => html`<dl class="facts">
  ${[
    ['Matches', of.matches ? 'yes' : 'no: no filter of the sink matches the topic'],
    ...(of.refused ? [['Refused', of.refused]] : []),
    ['Kafka topic', of.topic ?? '–'],
    ['Key', content(of.key)],
    ['Value', content(of.value)],
    ...of.headers.map(({ name, value }) => [`Header ${name}`, content(value)]),
  ].map(([what, text]) => html`<dt><${Text} of=${what} max=${80} /></dt><dd><${Text} of=${text} max=${1000} /></dd>`)}</dl>`;
