// Requests to the API. Addresses are relative, to work below any path.

import { batch, signal } from './vendor/preact.js';

const BASE = new URL('../api/v1/', document.baseURI);

/**
 * Half of the login: the cookie, which no script can read, counts together with it. Browsers send cookies to all ports of a host, and this nowhere. It is of
 * this origin alone, and of this path's pages, and ends with the last tab.
 */
const HALF = `forebay-login ${new URL('.', document.baseURI).pathname}`;
let half = null;
try {
  half = sessionStorage.getItem(HALF);
} catch {
  // Kept in memory alone, then.
}
function keep(given) {
  half = given;
  try {
    if (half === null) sessionStorage.removeItem(HALF);
    else sessionStorage.setItem(HALF, half);
  } catch {
    // As above.
  }
}
/** Protocols of a WebSocket to this service: it can have no headers. */
export const protocols = (all) => (half === null ? all : [...all, `forebay.${half}`]);

/** The caller; null: unknown, or none: then `needsLogin` is set. */
export const session = signal(null);
export const needsLogin = signal(false);
/** A number that changes when another user logs in: the page's contents are not for them. */
export const owner = signal(0);
export const mayWrite = () => session.value?.role === 'write';

/** The API's error. */
export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

export const url = (path) => new URL(path, BASE);

/**
 * A request; returns the answer.
 * @param {string} path
 * @param {{ method?: string, body?: object, toml?: string, text?: string, json?: string, token?: string, signal?: AbortSignal }} [options] `toml`: a body as in the configuration; `json`: a body that is JSON already
 */
export async function ask(path, { method = 'GET', body, toml, text, json, token, signal } = {}) {
  const headers = { ...(half === null ? {} : { 'X-Forebay': half }), ...(token ? { Authorization: `Bearer ${token}` } : {}), ...(toml === undefined ? {} : { 'Content-Type': 'application/toml' }), ...(text === undefined ? {} : { 'Content-Type': 'text/plain' }) };
  const answer = await fetch(url(path), { method, headers, body: toml ?? text ?? json ?? (body && JSON.stringify(body)), signal, credentials: 'same-origin' });
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({}));
  if (answer.status === 401 && !token) needsLogin.value = true;
  throw new Problem(answer.status, problem.detail || `${answer.status} ${answer.statusText}`);
}

export const get = async (path, options) => (await ask(path, options)).json();

/**
 * Tabs of a browser share one cookie: a login or logout in one applies to all. A message has the other half, or null after a logout; `'half?'` asks for it.
 * Each tab asks the service for its caller itself.
 */
const tabs = new BroadcastChannel(HALF);
/** Called when a message has a half, by who waits for it. */
let heard = null;
tabs.onmessage = ({ data: message }) => {
  if (message !== 'half?') {
    keep(message.half);
    if (heard) heard();
    else whoAmI().catch(() => {});
  } else if (half !== null) tabs.postMessage({ half });
};
/** Time for other tabs to answer. */
const TABS_MS = 300;
/** Asks other tabs for their half. Returns whether one has another than this tab. */
async function othersHave() {
  const before = half;
  await new Promise((done) => {
    heard = () => half !== before && done(true);
    tabs.postMessage('half?');
    setTimeout(done, TABS_MS);
  });
  heard = null;
  return half !== before;
}

function become(who) {
  const before = session.peek()?.name;
  batch(() => {
    if (before && before !== who.name) owner.value++;
    session.value = who.role === 'none' ? null : who;
    needsLogin.value = !session.value;
  });
}

export async function whoAmI() {
  let who = await get('session');
  if (who.role === 'none' && (await othersHave())) who = await get('session');
  become(who);
}

export async function logIn(token) {
  const { x_forebay: given, ...who } = await get('session', { method: 'POST', token });
  keep(given);
  become(who);
  tabs.postMessage({ half });
}

export async function logOut() {
  await ask('session', { method: 'DELETE' });
  keep(null);
  session.value = null;
  tabs.postMessage({ half });
  await whoAmI().catch(() => {});
}

/**
 * A name as a segment of a path. Browsers remove the steps `.` and `..`, however encoded: such names get the prefix `~`, and so do
 * names like prefixed ones.
 */
export const name = (text) => encodeURIComponent(/^~*\.\.?$/.test(text) ? `~${text}` : text);
/** The name in a path segment. */
export const nameIn = (part) => decodeURIComponent(part).replace(/^~(?=~*\.\.?$)/, '');

const quoted = (text) => (/^[\w./:@=,-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

/** The request for a shell. */
export function curl(path, method = 'GET') {
  const words = ['curl', '-s', ...(method === 'GET' ? [] : ['-X', method])];
  const header = session.value?.name || method !== 'GET' ? ` -H "Authorization: Bearer $FOREBAY_TOKEN"` : '';
  return `${words.join(' ')}${header} ${quoted(url(path).href)}`;
}

/** A `forebay` command for this service. */
export const forebay = (...words) => `forebay ${words.map(quoted).join(' ')} --control ${quoted(location.host)}`;
