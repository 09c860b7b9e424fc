// Requests to the API. Addresses are relative, to work below any path.

import { batch, signal } from './vendor/preact.js';

const BASE = new URL('../api/v1/', document.baseURI);
const HEADERS = { 'X-Forebay': '1' };

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
  const headers = { ...HEADERS, ...(token ? { Authorization: `Bearer ${token}` } : {}), ...(toml === undefined ? {} : { 'Content-Type': 'application/toml' }), ...(text === undefined ? {} : { 'Content-Type': 'text/plain' }) };
  const answer = await fetch(url(path), { method, headers, body: toml ?? text ?? json ?? (body && JSON.stringify(body)), signal, credentials: 'same-origin' });
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({}));
  if (answer.status === 401 && !token) needsLogin.value = true;
  throw new Problem(answer.status, problem.detail || `${answer.status} ${answer.statusText}`);
}

export const get = async (path, options) => (await ask(path, options)).json();

/** Tabs of a browser share one cookie: a login or logout in one applies to all. Messages between tabs are empty: each asks for its caller. */
const tabs = new BroadcastChannel(`forebay-login ${new URL('.', document.baseURI).pathname}`);
tabs.onmessage = () => whoAmI().catch(() => {});

function become(who) {
  const before = session.peek()?.name;
  batch(() => {
    if (before && before !== who.name) owner.value++;
    session.value = who.role === 'none' ? null : who;
    needsLogin.value = !session.value;
  });
}

export const whoAmI = async () => become(await get('session'));

export async function logIn(token) {
  become(await get('session', { method: 'POST', token }));
  tabs.postMessage(null);
}

export async function logOut() {
  await ask('session', { method: 'DELETE' });
  session.value = null;
  tabs.postMessage(null);
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
