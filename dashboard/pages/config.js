// The configuration file: its text, what is wrong with it at its line, what a change of it would do, and the change.

import { html, useEffect, useState } from '../vendor/preact.js';
import { ask, get, mayWrite } from '../api.js';
import { Difference, Editor, Outcome } from '../editor.js';
import { AsCommand, Head, Panel, Text, WriteButton } from '../parts.js';

const check = async (text) => (await ask('config/check', { method: 'POST', toml: text })).json();
/** A mistake as the editor has it. Those of other places than the file keep their place in words. */
const wrongOf = (file) => ({ file: of, line, key, what, hint }) => ({
  line: of === file ? line : 0,
  what: [of && of !== file ? `${of}: ` : '', key && `${key}: `, what, hint ? `; ${hint}` : ''].join(''),
});

export function Configuration() {
  if (!mayWrite()) {
    return html`<${Head} title="Configuration" /><div class="panel"><div class="empty">The file says how devices and Kafka log in: this needs a token with the role write. What is in force is at <code>/api/v1/config</code>, without secrets.</div></div>`;
  }
  return html`<${File} />`;
}

function File() {
  /** The file as it was read; what it would do as it is; and what was said last of `text`. */
  const [file, setFile] = useState(null);
  const [standing, setStanding] = useState(null);
  const [text, setText] = useState('');
  const [state, setState] = useState(/** @type {any} */ ({}));
  const [busy, setBusy] = useState(false);
  const failed = (error) => setState({ problem: error.message });
  const load = async (keepText = false) => {
    const found = await get('config/file');
    setFile(found);
    if (!keepText) setText(found.text);
    setStanding(await check(found.text));
    return found;
  };
  useEffect(() => void load().catch(failed), []);
  const during = async (work) => {
    setBusy(true);
    await work().catch(failed);
    setBusy(false);
  };
  const change = (next) => (setText(next), setState({}));
  const onCheck = (event) => {
    event.preventDefault();
    return during(async () => {
      const { mistakes, would } = await check(text);
      setState(would ? { would } : { wrong: mistakes.map(wrongOf(file.file)) });
    });
  };
  const save = () => during(async () => {
    try {
      const done = await (await ask(`config/file?etag=${file.etag}`, { method: 'PUT', toml: text })).json();
      await load();
      setState({ done });
    } catch (error) {
      if (error.status !== 412) throw error;
      const now = await get('config/file');
      setState({ other: now });
    }
  });
  const reload = () => during(async () => {
    const done = await get('reload', { method: 'POST' });
    await load(true);
    setState({ done });
  });
  const takeOver = (keepText) => during(async () => {
    await load(keepText);
    setState({});
  });
  const differs = file && text !== file.text;
  return html`
    <${Head} title="Configuration" sub=${file && html`<${Text} of=${file.file} max=${200} />`}>
      <a class="button" href="#/sinks?new=yes">New sink</a><a class="button" href="#/clusters?new=yes">New cluster</a>
      <${AsCommand} path="config/file" words=${['config', 'file']} />
    <//>
    ${state.problem && html`<div class="banner bad" role="alert"><${Text} of=${state.problem} max=${1000} /></div>`}
    ${state.done && html`<${Panel} title="Done"><div class="inside" role="status"><${Outcome} of=${state.done} /></div><//>`}
    ${file && html`
      ${!differs && standing?.would && html`<${Standing} of=${standing.would} busy=${busy} reload=${reload} />`}
      <form class="panel editor" onSubmit=${onCheck}>
        <${Editor} label="The file" text=${text} change=${change} wrong=${state.wrong ?? (differs ? [] : (standing?.mistakes ?? []).map(wrongOf(file.file)))} />
        <div class="buttons"><button class="first" disabled=${busy}>Check</button>
          <button type="button" disabled=${busy || !differs} onClick=${() => change(file.text)}>As it was read</button>
          <button type="button" disabled=${busy || file.previous === null || file.previous === text} onClick=${() => change(file.previous)} title="What it held before the last change from here or by the API">As before the last change</button></div>
      </form>`}
    ${state.other && html`<${Panel} title="The file has changed since it was read"><div class="inside" role="alert">
      <p>Somebody else has written it. What they have changed:</p>
      <${Difference} before=${file.text} after=${state.other.text} />
      <div class="buttons"><button type="button" onClick=${() => takeOver(false)}>Take theirs, without mine</button>
        <button type="button" onClick=${() => takeOver(true)}>Go on with mine, and check it against theirs</button></div></div><//>`}
    ${state.would && html`<${Panel} title="What would change"><div class="inside">
      ${differs ? html`<${Difference} before=${file.text} after=${text} />` : html`<p>The text is that of the file.</p>`}
      <${Outcome} of=${state.would} />
      <div class="buttons"><${WriteButton} kind="first" disabled=${busy || !differs} onClick=${save}>Save and apply<//></div></div><//>`}`;
}

/** How the file and what is in force differ. */
function Standing({ of, busy, reload }) {
  if (of.applied.length + of.needs_restart.length + of.not_in_file.length === 0) return null;
  return html`<${Panel} title="The file is not what is in force" right=${of.applied.length > 0 && html`<${WriteButton} disabled=${busy} onClick=${reload}>Reload<//>`}><div class="inside">
    ${of.applied.length > 0 && html`<p><b>A reload would apply</b>: <${Text} of=${of.applied.join('; ')} max=${2000} /></p>`}
    ${of.needs_restart.length > 0 && html`<p><b>Waits for a restart</b>: <${Text} of=${of.needs_restart.join('; ')} max=${2000} /></p>`}
    ${of.not_in_file.length > 0 && html`<p><b>In force until the next restart, not in the file</b>: <${Text} of=${of.not_in_file.join('; ')} max=${2000} /></p>`}</div><//>`;
}
