// The configuration file: its text, mistakes at their lines, the effect of a change, and the change.

import { html, useState } from '../vendor/preact.js';
import { ask, get, mayWrite } from '../api.js';
import { Editor, Outcome } from '../editor.js';
import { AsCommand, Head, Panel, Text, WriteButton } from '../parts.js';
import { NeedsWrite } from './change.js';
import { Buttons, Differing, Meanwhile, useFileText } from './file_text.js';

const check = async (text) => (await ask('config/check', { method: 'POST', toml: text })).json();
/** A mistake for the editor. Places outside the file are kept in words. */
const wrongOf = (file) => ({ file: of, line, key, what, hint }) => ({
  line: of === file ? line : 0,
  what: [of && of !== file ? `${of}: ` : '', key && `${key}: `, what, hint ? `; ${hint}` : ''].join(''),
});

/** Whether the change has brought them. */
const OF_FILE = 'Probably not intended, in the file as a whole';

export function Configuration() {
  if (!mayWrite()) {
    return html`<${Head} title="Configuration" /><div class="panel"><${NeedsWrite} more=${html` What is in force is at <code>/api/v1/config</code>, without secrets.`}>The file says how devices and Kafka log in:<//></div>`;
  }
  return html`<${File} />`;
}

function File() {
  /** Effect of the current file. */
  const [standing, setStanding] = useState(null);
  const of = useFileText('config/file', (text) => ({ toml: text }), async (text) => setStanding(await check(text)));
  const { file, text, state, setState, busy, differs, load, during, change, save } = of;
  if (file?.missing) return html`<${Head} title="Configuration" /><div class="panel"><div class="empty"><${Text} of=${file.missing} max=${400} />. What is in force is at <code>/api/v1/config</code>, and parts of it can be changed on their pages until the next restart.</div></div>`;
  const onCheck = (event) => {
    event.preventDefault();
    return during(async () => {
      const { mistakes, would } = await check(text);
      setState(would ? { would } : { wrong: mistakes.map(wrongOf(file.file)) });
    });
  };
  const reload = () => during(async () => {
    const done = await get('reload', { method: 'POST' });
    await load(true);
    setState({ done });
  });
  return html`
    <${Head} title="Configuration" sub=${file && html`<${Text} of=${file.file} max=${200} />`}>
      <a class="button" href="#/sinks?new=yes">New sink</a><a class="button" href="#/clusters?new=yes">New cluster</a>
      <${AsCommand} path="config/file" words=${['config', 'file']} />
    <//>
    ${state.problem && html`<div class="banner bad" role="alert"><${Text} of=${state.problem} max=${1000} /></div>`}
    ${state.done && html`<${Panel} title="Done"><div class="inside" role="status"><${Outcome} of=${state.done} differs=${Boolean(state.saved)} warned=${OF_FILE} /></div><//>`}
    ${file && html`
      ${!differs && standing?.would && html`<${Standing} of=${standing.would} busy=${busy} reload=${reload} />`}
      <form class="panel editor" onSubmit=${onCheck}>
        <${Editor} label="The file" text=${text} change=${change} wrong=${state.wrong ?? (differs ? [] : (standing?.mistakes ?? []).map(wrongOf(file.file)))} />
        <${Buttons} of=${of} />
      </form>`}
    <${Meanwhile} of=${of} />
    ${state.would && html`<${Panel} title="What would change"><div class="inside">
      <${Differing} of=${of} />
      <${Outcome} of=${state.would} differs=${differs} warned=${OF_FILE} />
      <div class="buttons"><${WriteButton} kind="first" disabled=${busy || !differs} onClick=${save}>Save and apply<//></div></div><//>`}`;
}

/** Differences from what is in force. */
function Standing({ of, busy, reload }) {
  if (of.applied.length + of.needs_restart.length + of.not_in_file.length === 0) return null;
  return html`<${Panel} title="The file is not what is in force" right=${of.applied.length > 0 && html`<${WriteButton} disabled=${busy} onClick=${reload}>Reload<//>`}><div class="inside">
    ${of.applied.length > 0 && html`<p><b>A reload would apply</b>: <${Text} of=${of.applied.join('; ')} max=${2000} /></p>`}
    ${of.needs_restart.length > 0 && html`<p><b>Waits for a restart</b>: <${Text} of=${of.needs_restart.join('; ')} max=${2000} /></p>`}
    ${of.not_in_file.length > 0 && html`<p><b>In force until the next restart, not in the file</b>: <${Text} of=${of.not_in_file.join('; ')} max=${2000} /></p>`}</div><//>`;
}
