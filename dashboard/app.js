// The shell: login, navigation, and the addressed page.

import { effect, html, render, signal } from './vendor/preact.js';
import { logOut, name as escaped, nameIn, needsLogin, owner, session, whoAmI } from './api.js';
import { follow, layout, state } from './live.js';
import { Dialog, close } from './parts.js';
import { theme } from './plot.js';
import { clock, visible } from './text.js';
import { Overview } from './pages/overview.js';
import { Events } from './pages/events.js';

/** A component that is loaded on first use. */
function later(file, name) {
  const found = signal(null);
  return (props) => {
    if (!found.value) import(`./pages/${file}.js`).then((page) => (found.value = page[name]));
    return found.value && html`<${found.value} ...${props} />`;
  };
}
const Login = later('login', 'Login');
const PAGES = {
  overview: { title: 'Overview', page: Overview },
  sinks: { title: 'Sinks', page: later('sinks', 'Sinks'), one: later('sinks', 'Sink') },
  sources: { title: 'Sources', page: later('sources', 'Sources'), one: later('sources', 'Source') },
  rules: { title: 'Rules', page: later('rules', 'Rules'), one: later('rules', 'Rule') },
  sql: { title: 'SQL', page: later('sql', 'Sql') },
  bridges: { title: 'Bridges', page: later('bridges', 'Bridges'), one: later('bridges', 'Bridge') },
  clusters: { title: 'Clusters', page: later('infrastructure', 'Clusters'), one: later('infrastructure', 'Cluster') },
  spool: { title: 'Spool', page: later('infrastructure', 'Spool') },
  listeners: { title: 'Listeners', page: later('infrastructure', 'Listeners') },
  clients: { title: 'Clients', page: later('clients', 'Clients'), one: later('clients', 'Client') },
  subscriptions: { title: 'Subscriptions', page: later('messages', 'Subscriptions') },
  shares: { title: 'Shares', page: later('messages', 'Shares') },
  retained: { title: 'Retained', page: later('messages', 'Retained') },
  top: { title: 'Top', page: later('top', 'Top') },
  traces: { title: 'Traces', page: later('traces', 'Traces'), one: later('traces', 'Trace') },
  letters: { title: 'Dead letters', page: later('letters', 'Letters') },
  users: { title: 'Users', page: later('users', 'Users'), one: later('users', 'OfAuth') },
  bans: { title: 'Bans', page: later('bans', 'Bans') },
  events: { title: 'Events', page: Events },
  flow: { title: 'Flow', page: later('flow', 'Flow') },
  config: { title: 'Configuration', page: later('config', 'Configuration') },
  client: { title: 'Client', page: later('client', 'TestClient') },
  about: { title: 'About', page: later('about', 'About') },
};

/** `#/sinks/alarms?range=5m`: page, name of a part, and query. */
function read() {
  const [path, query] = location.hash.replace(/^#\/?/, '').split('?');
  const [page, ...rest] = path.split('/');
  let name = rest.length ? rest.join('/') : null;
  try {
    name = name && nameIn(name);
  } catch {
    // Shown as it is.
  }
  return { page: Object.hasOwn(PAGES, page) ? page : 'overview', name, query: Object.fromEntries(new URLSearchParams(query ?? '')) };
}
const route = signal(read());
addEventListener('hashchange', () => {
  const before = route.peek();
  route.value = read();
  if (before.page !== route.peek().page || before.name !== route.peek().name) {
    // The dialog is about the previous page.
    close();
    scrollTo(0, 0);
    requestAnimationFrame(() => document.getElementById('title')?.focus({ preventScroll: true }));
  }
});
effect(() => {
  const { page, name } = route.value;
  document.title = `${name ? `${visible(name, 80)} – ` : ''}${PAGES[page].title} – Forebay`;
});

/** Changes the query of the address. */
function set(query) {
  const { page, name, query: before } = route.peek();
  const rest = Object.entries({ ...before, ...query }).filter(([, value]) => value);
  const path = name ? `${page}/${escaped(name)}` : page;
  history.replaceState(null, '', `#/${path}${rest.length ? `?${new URLSearchParams(rest)}` : ''}`);
  route.value = read();
}

const THEMES = ['auto', 'light', 'dark'];
function setTheme(name) {
  if (name === 'auto') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  theme.value = `${name} ${matchMedia('(prefers-color-scheme: dark)').matches}`;
}
const stored = () => {
  try {
    return THEMES.includes(localStorage.getItem('forebay-theme')) ? localStorage.getItem('forebay-theme') : 'auto';
  } catch {
    return 'auto';
  }
};
const chosen = signal(stored());
setTheme(chosen.peek());
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => setTheme(chosen.peek()));
function choose(name) {
  chosen.value = name;
  setTheme(name);
  try {
    localStorage.setItem('forebay-theme', name);
  } catch {
    // Not stored, then.
  }
}

const Stream = () => {
  const { fresh, since } = state.value;
  return html`<div class="stream" role="status">${fresh
    ? html`<span class="state good"><i aria-hidden="true"></i>Live</span>`
    : html`<span class="state warn"><i aria-hidden="true"></i>${layout.value ? `Nothing since ${clock(since)}` : 'Connecting'}</span>`}</div>`;
};

const Nav = () => html`
  <nav class="nav" aria-label="Pages">
    <a class="brand" href="#/overview"><img src="icon.svg" alt="" />Forebay</a>
    <ul>${Object.entries(PAGES).map(([key, { title }]) => html`
      <li><a href=${`#/${key}`} aria-current=${route.value.page === key ? 'page' : null}>${title}</a></li>`)}</ul>
    <div class="foot">
      <${Stream} />
      <label>Theme <select value=${chosen.value} onChange=${(event) => choose(event.target.value)}>
        ${THEMES.map((name) => html`<option value=${name}>${name}</option>`)}</select></label>
      ${session.value?.grafana_url && html`<a href=${session.value.grafana_url} target="_blank" rel="noreferrer">Grafana</a>`}
      <${Who} />
    </div>
  </nav>`;

const Who = () => {
  const who = session.value;
  if (!who) return null;
  return who.name
    ? html`<div><span class="dim">${who.name}, ${who.role}</span> ${who.expires_in_seconds !== null && html`<button type="button" class="plain" onClick=${logOut}>Log out</button>`}</div>`
    : html`<div class="dim">Reading without a token. <button type="button" class="plain" onClick=${() => (needsLogin.value = true)}>Log in</button></div>`;
};

effect(() => {
  if (owner.value) close();
});
effect(() => {
  if (session.value && !needsLogin.value) follow();
});

/** The page, or the login. After a new login with the same token, typed text is still there: until then the page is only hidden. */
function Shell() {
  const login = needsLogin.value && html`<${Login} key="login" />`;
  return html`${login}${session.value && html`<div key=${`page ${owner.value}`} hidden=${Boolean(login)}><${Page} /></div>`}`;
}

function Page() {
  const { page, name, query } = route.value;
  const Shown = name && PAGES[page].one ? PAGES[page].one : PAGES[page].page;
  const { fresh, since } = state.value;
  return html`
    <a class="skip" href="#title" onClick=${(event) => (event.preventDefault(), document.getElementById('title')?.focus())}>To the page</a>
    <div class="shell">
      <${Nav} />
      <main class=${fresh || !layout.value ? 'main' : 'main stale'}>
        ${!fresh && layout.value && html`<div class="banner bad" role="alert">The service has said nothing since ${clock(since)}: what is shown is of then. The page goes on by itself.</div>`}
        <${Shown} key=${`${page}/${name}`} name=${name} query=${query} set=${set} />
      </main>
    </div>
    <${Dialog} />`;
}

render(html`<${Shell} />`, document.getElementById('app'));
whoAmI().catch(() => {
  if (!needsLogin.peek()) setTimeout(() => location.reload(), 3000);
});
