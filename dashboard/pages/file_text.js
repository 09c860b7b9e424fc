// A file of the machine, edited as text: read with its tag, checked, saved only if unchanged since.

import { html, useEffect, useState } from '../vendor/preact.js';
import { ask, get } from '../api.js';
import { Difference } from '../editor.js';
import { Panel } from '../parts.js';

/**
 * The file at a path of the API, the text in the editor, and the last answer about it (`state`, which a change of the text clears).
 * `form`: the text as sent by `ask`; `loaded`: further use of a text that was read.
 */
export function useFileText(path, form, loaded = async (_) => {}) {
  const [file, setFile] = useState(/** @type {any} */ (null));
  const [text, setText] = useState('');
  const [state, setState] = useState(/** @type {any} */ ({}));
  const [busy, setBusy] = useState(false);
  const failed = (error) => setState({ problem: error.message });
  const load = async (keepText = false) => {
    const found = await get(path);
    setFile(found);
    if (!keepText) setText(found.text);
    if (!found.missing) await loaded(found.text);
  };
  useEffect(() => void load().catch(failed), [path]);
  const during = async (work) => {
    setBusy(true);
    await work().catch(failed);
    setBusy(false);
  };
  const save = () => during(async () => {
    try {
      const done = await (await ask(`${path}?etag=${file.etag}`, { method: 'PUT', ...form(text) })).json();
      await load();
      setState({ done, saved: true });
    } catch (error) {
      if (error.status !== 412) throw error;
      setState({ other: await get(path) });
    }
  });
  const takeOver = (keepText) => during(async () => {
    await load(keepText);
    setState({});
  });
  const change = (next) => (setText(next), setState({}));
  return { file, text, state, setState, busy, differs: file && text !== file.text, load, during, change, save, takeOver };
}

/** The buttons below the editor; `of`: see `useFileText`. */
export const Buttons = ({ of: { file, text, busy, differs, change } }) => html`<div class="buttons"><button class="first" disabled=${busy}>Check</button>
  <button type="button" disabled=${busy || !differs} onClick=${() => change(file.text)}>As it was read</button>
  <button type="button" disabled=${busy || file.previous === null || file.previous === text} onClick=${() => change(file.previous)} title="What it held before the last change from here or by the API">As before the last change</button></div>`;

/** Changes by another user, if any. */
export const Meanwhile = ({ of: { file, state, takeOver } }) => state.other && html`<${Panel} title="The file has changed since it was read"><div class="inside" role="alert">
  <p>Somebody else has written it. What they have changed:</p>
  <${Difference} before=${file.text} after=${state.other.text} />
  <div class="buttons"><button type="button" onClick=${() => takeOver(false)}>Take theirs, without mine</button>
    <button type="button" onClick=${() => takeOver(true)}>Go on with mine, and check it against theirs</button></div></div><//>`;

/** The text and the file's text. */
export const Differing = ({ of: { file, text, differs } }) => (differs ? html`<${Difference} before=${file.text} after=${text} />` : html`<p>The text is that of the file.</p>`);
