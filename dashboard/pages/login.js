// The login: a token once, then a cookie that no script can read.

import { html, useEffect, useRef, useState } from '../vendor/preact.js';
import { logIn, needsLogin, session } from '../api.js';

const isReadable = location.protocol === 'http:' && !/^(localhost|127\.|\[::1\])/.test(location.hostname);

export function Login() {
  const [problem, setProblem] = useState('');
  const [busy, setBusy] = useState(false);
  const field = useRef(null);
  useEffect(() => field.current.focus(), []);
  const send = async (event) => {
    event.preventDefault();
    setBusy(true);
    setProblem('');
    try {
      await logIn(field.current.value.trim());
    } catch (error) {
      setProblem(error.message);
      field.current.select();
    }
    setBusy(false);
  };
  return html`<main class="login"><form class="panel" onSubmit=${send}>
    <h1 class="brand"><img src="icon.svg" alt="" />Forebay</h1>
    <input type="text" name="username" autocomplete="username" value="forebay" hidden />
    <label>Token <input name="token" type="password" autocomplete="current-password" required ref=${field} /></label>
    ${problem && html`<p class="error" role="alert">${problem}</p>`}
    ${isReadable && html`<p class="error">This page came without encryption: whoever is on the way can read the token.</p>`}
    <button class="first" disabled=${busy}>Log in</button>
    ${session.value && !session.value.name && html`<button type="button" onClick=${() => (needsLogin.value = false)}>Go on without</button>`}
    <p class="dim">A token of control.tokens_file, as <code>forebay token NAME</code> makes it; on the machine itself also that of the file <code>control-token</code> in <code>data_dir</code>, by default <code>forebay-data</code>.</p>
  </form></main>`;
}
