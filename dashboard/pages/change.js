// The dialog that confirms a change.

import { html, useState } from '../vendor/preact.js';
import { ask, curl, needsLogin, session } from '../api.js';
import { close, closing } from '../parts.js';
import { visible } from '../text.js';

/**
 * `what` is done to `name` by a request to `path`; `children`: its effects. `lasting`: it can be written to the file. `lose`: possible
 * loss, which has to be allowed.
 */
export function Change({ what, name, path, method = 'POST', lasting = true, danger = false, lose = null, button, done, children }) {
  const [persist, setPersist] = useState(false);
  const [discard, setDiscard] = useState(false);
  const [problem, setProblem] = useState('');
  const [busy, setBusy] = useState(false);
  const query = [persist && 'persist=true', discard && 'discard=true'].filter(Boolean).join('&');
  const whole = query ? `${path}?${query}` : path;
  const send = async (event) => {
    event.preventDefault();
    const end = closing();
    setBusy(true);
    try {
      await ask(whole, { method });
      end();
      done();
    } catch (error) {
      setProblem(error.message);
    }
    setBusy(false);
  };
  return html`<form onSubmit=${send}>
    <h2 id="dialog-title">${what[0].toUpperCase()}${what.slice(1)} ${visible(name, 80)}?</h2>
    <p>${children}</p>
    ${lasting && html`<${Until} persist=${persist} choose=${setPersist} />`}
    ${lose && html`<label class="row"><input type="checkbox" checked=${discard} onChange=${(event) => setDiscard(event.target.checked)} />${lose}</label>`}
    <pre tabindex="0">${curl(whole, method)}</pre>
    ${problem && html`<div class="banner bad" role="alert">${visible(problem, 600)}</div>`}
    <div class="buttons"><button type="button" onClick=${close}>Cancel</button><button class=${danger ? 'danger' : 'first'} disabled=${busy}>${button}</button></div>
  </form>`;
}

/** Says that a page needs the role write, with a link to the login if logged out. */
export const NeedsWrite = ({ children, more = '' }) => html`<div class="empty">${children} this needs a token with the role write.${more}
  ${session.value && !session.value.name && html`<div class="buttons"><button type="button" class="first" onClick=${() => (needsLogin.value = true)}>Log in</button></div>`}</div>`;

/** The duration of a change. */
export const Until = ({ persist, choose, group = 'until' }) => html`
  <label class="row"><input type="radio" name=${group} checked=${!persist} onChange=${() => choose(false)} />Until the next restart</label>
  <label class="row"><input type="radio" name=${group} checked=${persist} onChange=${() => choose(true)} />Also in the configuration file</label>`;
