// Users and permissions: the files of [auth.NAME]. Its keys are changed on the machine.

import { html, useState } from '../vendor/preact.js';
import { ask, get, mayWrite, name as escaped } from '../api.js';
import { Editor, Outcome } from '../editor.js';
import { PagedTable, Search, usePages } from '../paged.js';
import { AsCommand, Head, Panel, Table, Text, WriteButton, close, or, show, usePolled } from '../parts.js';
import { count, visible } from '../text.js';
import { NeedsWrite } from './change.js';
import { Buttons, Differing, Meanwhile, useFileText } from './file_text.js';

const File = ({ of }) => (of === null ? or(null) : html`<code class="cut"><${Text} of=${of} max=${200} /></code>`);
const AUTHS = [
  { title: 'Auth', cell: ({ name }) => html`<a href=${`#/users/${escaped(name)}`}><${Text} of=${name} max=${80} /></a>` },
  { title: 'Listeners', cell: ({ listeners }) => (listeners.length ? listeners.map((address) => html`<div class="num">${address}</div>`) : 'none') },
  { title: 'Users', cell: ({ password_file: file }) => html`<${File} of=${file} />` },
  { title: 'Permissions', wide: true, cell: ({ acl_file: file }) => (file === null ? 'everything may be touched' : html`<${File} of=${file} />`) },
];

export function Users() {
  const { value, problem } = usePolled(() => get('auth'), 0, 10_000);
  return html`
    <${Head} title="Users"><${AsCommand} path="auth" words=${['users', 'list']} /><//>
    ${problem && html`<div class="banner bad" role="alert"><${Text} of=${problem.message} max=${400} /></div>`}
    <section class="panel">${value && html`<${Table} label="Auths" columns=${AUTHS} rows=${value.auth} id=${({ name }) => name}>
      There is none: everyone may connect to the listeners of this machine, or certificates say who. Users begin with a password file, which the configuration names; their listener names the <code>auth</code>:<pre tabindex="0">forebay passwd passwords ada

[auth.devices]
chain = ["password"]
password_file = "passwords"
[[listener]]
bind = "127.0.0.1:1883"
auth = "devices"</pre><//>`}</section>`;
}

export function OfAuth({ name, query, set }) {
  const { value, problem } = usePolled(() => get('auth'), 0, 10_000);
  const auth = value?.auth.find((one) => one.name === name);
  const head = html`<a href="#/users">Users</a> / <${Text} of=${name} max=${80} />`;
  if (!mayWrite()) return html`<${Head} title=${head} /><div class="panel"><${NeedsWrite}>These are files of the machine:<//></div>`;
  return html`
    <${Head} title=${head}><${AsCommand} path=${`auth/${escaped(name)}/users`} words=${['users', 'list', name]} /><//>
    ${problem && html`<div class="banner bad" role="alert"><${Text} of=${problem.message} max=${400} /></div>`}
    ${value && !auth && html`<div class="banner bad" role="alert">The configuration has no such <code>[auth.NAME]</code>.</div>`}
    ${auth?.password_file && html`<${OfFile} auth=${name} query=${query} set=${set} />`}
    ${auth && !auth.password_file && html`<div class="panel"><div class="empty">It has no password file: users come by certificates or tokens.</div></div>`}
    ${auth?.acl_file && html`<${Permissions} auth=${name} />`}
    ${auth && !auth.acl_file && html`<div class="panel"><div class="empty">It has no list of permissions: who may connect may touch everything.</div></div>`}`;
}

function OfFile({ auth, query, set }) {
  const pages = usePages(`auth/${escaped(auth)}/users`, query.search ? { search: query.search } : {}, 'users');
  const of = (user) => ({ auth, user, etag: pages.answer?.etag, again: pages.again });
  const columns = [
    { title: 'User', cell: ({ name }) => html`<${Text} of=${name} max=${60} />` },
    { title: 'Password stored as', cell: ({ hash }) => hash },
    { title: '', cell: ({ name }) => html`<${WriteButton} kind="plain" onClick=${() => show(html`<${Put} ...${of(name)} />`)}>Password<//> <${WriteButton} kind="plain" onClick=${() => show(html`<${Remove} ...${of(name)} />`)}>Remove<//>` },
  ];
  return html`
    <div class="head"><h2>Users</h2><span class="sub">${pages.answer && html`<${Text} of=${pages.answer.file} max=${200} />, <span class="num">${count(pages.answer.total)}</span>`}</span><div class="right">
      <${Search} label="Search" value=${query.search} found=${(search) => set({ search })} />
      <${WriteButton} onClick=${() => show(html`<${Put} ...${of(null)} />`)}>New user<//></div></div>
    ${pages.answer?.mistakes.length > 0 && html`<div class="banner bad" role="alert">The file is not taken: <${Text} of=${pages.answer.mistakes.join('; ')} max=${1000} /></div>`}
    <${PagedTable} label="Users" columns=${columns} id=${({ name }) => name} pages=${pages}>${query.search ? 'No user has this in its name.' : 'There is none.'}<//>`;
}

/** Result of a file's change. */
const Done = ({ of }) => (of.reloaded === null
  ? html`<p>The file is written and not in force yet: <${Text} of=${of.not_in_force} max=${600} /></p>`
  : html`<${Outcome} of=${of.reloaded} />`);
const tagged = (etag) => (etag ? `?etag=${etag}` : '');
const random = () => [...crypto.getRandomValues(new Uint8Array(20))].map((byte) => byte.toString(16).padStart(2, '0')).join('');

/** The dialog for a new user, or another password. */
function Put({ auth, user, etag, again }) {
  const [name, setName] = useState(user ?? '');
  const [password, setPassword] = useState('');
  const [made, setMade] = useState('');
  const [hash, setHash] = useState('');
  const [state, setState] = useState(/** @type {any} */ ({}));
  const send = async (event) => {
    event.preventDefault();
    setState({ busy: true });
    try {
      const body = { password, ...(hash ? { hash } : password === made ? { hash: 'sha512' } : {}) };
      setState({ done: await get(`auth/${escaped(auth)}/users/${escaped(name)}${tagged(etag)}`, { method: 'PUT', body }) });
      again();
    } catch (error) {
      setState({ problem: error.message });
    }
  };
  const make = () => {
    const next = random();
    setMade(next);
    setPassword(next);
  };
  return html`<form class="inside" onSubmit=${send}>
    <h2 id="dialog-title">${user === null ? 'New user' : `Another password for ${visible(user, 80)}`}</h2>
    ${user !== null && html`<p class="dim">Its clients are disconnected, and connect again with the new password. Sessions stay.</p>`}
    ${!state.done && html`
      <p><label>User name <input required spellcheck=${false} autocomplete="off" disabled=${user !== null} value=${name} onInput=${(event) => setName(event.target.value)} /></label></p>
      <p><label>Password <input required type="password" autocomplete="new-password" value=${password} onInput=${(event) => setPassword(event.target.value)} /></label> <button type="button" onClick=${make}>Random</button></p>
      ${made && password === made && html`<p>It is shown only here: <code class="cut">${made}</code></p>`}
      <p><label>Stored as <select value=${hash} onChange=${(event) => setHash(event.target.value)}>
        <option value="">as others in the file</option>${['argon2id', 'sha512', 'pbkdf2', 'scram'].map((word) => html`<option>${word}</option>`)}</select></label></p>`}
    ${state.problem && html`<div class="banner bad" role="alert">${visible(state.problem, 600)}</div>`}
    ${state.done && html`<div role="status"><p>Stored as ${state.done.hash}.</p><${Done} of=${state.done} />
      ${made && password === made && html`<p>The password, which is shown only here: <code class="cut">${made}</code></p>`}</div>`}
    <div class="buttons"><button type="button" onClick=${close}>${state.done ? 'Close' : 'Cancel'}</button>
      ${!state.done && html`<button class="first" disabled=${state.busy}>${user === null ? 'Add' : 'Change'}</button>`}</div>
  </form>`;
}

function Remove({ auth, user, etag, again }) {
  const [state, setState] = useState(/** @type {any} */ ({}));
  const send = async (event) => {
    event.preventDefault();
    setState({ busy: true });
    try {
      setState({ done: await get(`auth/${escaped(auth)}/users/${escaped(user)}${tagged(etag)}`, { method: 'DELETE' }) });
      again();
    } catch (error) {
      setState({ problem: error.message });
    }
  };
  return html`<form class="inside" onSubmit=${send}>
    <h2 id="dialog-title">Remove user ${visible(user, 80)}?</h2>
    ${!state.done && html`<p>Its clients are disconnected without a will, its kept sessions end, and what waits for them is lost.</p>`}
    ${state.problem && html`<div class="banner bad" role="alert">${visible(state.problem, 600)}</div>`}
    ${state.done && html`<div role="status"><${Done} of=${state.done} /></div>`}
    <div class="buttons"><button type="button" onClick=${close}>${state.done ? 'Close' : 'Cancel'}</button>
      ${!state.done && html`<button class="danger" disabled=${state.busy}>Remove</button>`}</div>
  </form>`;
}

/** The permissions: mistakes at their lines, differences, and an access tried. */
function Permissions({ auth }) {
  const path = `auth/${escaped(auth)}/permissions`;
  const of = useFileText(path, (text) => ({ text }));
  const { file, text, state, setState, busy, differs, during, change, save } = of;
  const [tried, setTried] = useState({ action: 'publish', topic: '', user: '', client_id: '' });
  const check = (event) => {
    event.preventDefault();
    setState({});
    return during(async () => {
      const { user, ...rest } = tried;
      const query = tried.topic ? `?${new URLSearchParams({ ...rest, ...(user && { user }) })}` : '';
      setState({ checked: await (await ask(`${path}/check${query}`, { method: 'POST', text })).json() });
    });
  };
  const field = (key, label) => html`<label>${label} <input spellcheck=${false} autocomplete="off" value=${tried[key]} onInput=${(event) => setTried({ ...tried, [key]: event.target.value })} /></label>`;
  const { checked } = state;
  const wrong = (checked?.mistakes ?? []).map(({ line, what }) => ({ line, what }));
  return html`
    <div class="head"><h2>Permissions</h2><span class="sub">${file && html`<${Text} of=${file.file} max=${200} />`}</span><div class="right"><${AsCommand} path=${path} words=${['permissions', 'show', auth]} /></div></div>
    ${state.problem && html`<div class="banner bad" role="alert"><${Text} of=${state.problem} max=${1000} /></div>`}
    ${state.done && html`<${Panel} title="Done"><div class="inside" role="status"><${Done} of=${state.done} /></div><//>`}
    ${file && html`<form class="panel editor" onSubmit=${check}>
      <${Editor} label="What may be touched" text=${text} change=${change} wrong=${wrong} />
      <fieldset class="filters"><legend>Try it</legend>
        <label>A client wants to <select value=${tried.action} onChange=${(event) => setTried({ ...tried, action: event.target.value })}><option>publish</option><option>subscribe</option><option>replay</option></select></label>
        ${field('topic', 'Topic')} ${field('user', 'User')} ${field('client_id', 'Client ID')}</fieldset>
      <${Buttons} of=${of} />
    </form>`}
    <${Meanwhile} of=${of} />
    ${checked && wrong.length === 0 && html`<${Panel} title="What would change"><div class="inside" role="status">
      <${Differing} of=${of} />
      <p><span class="num">${count(checked.rules)}</span> rules. They hold for clients that are connected, too, and for messages that wait.</p>
      ${checked.warnings.length > 0 && html`<p><b>Probably not intended</b>: <${Text} of=${checked.warnings.join('; ')} max=${2000} /></p>`}
      ${checked.would_say !== null && html`<p><b>Now</b>: <${Text} of=${checked.says_now ?? 'the file cannot be used'} max=${400} /></p><p><b>With this text</b>: <${Text} of=${checked.would_say} max=${400} /></p>`}
      <div class="buttons"><${WriteButton} kind="first" disabled=${busy || !differs} onClick=${save}>Save and apply<//></div></div><//>`}`;
}
