// The live stream: the service's numbers once a second. One tab reads it for all tabs of the browser.

import { batch, signal } from './vendor/preact.js';
import { ask, needsLogin } from './api.js';

/** The layout, and the frame counter; a component that reads them is drawn again with each frame. */
export const layout = signal(null);
export const tick = signal(0);
/**
 * Whether numbers arrive, or since when not.
 * @type {{ value: { fresh: boolean, since?: number }, peek: () => { fresh: boolean, since?: number } }}
 */
export const state = signal({ fresh: false, since: Date.now() });
const LATE_MS = 3000;

let values = [];
let places = new Map();
let heard = 0;
/** Time of the newest frame, by the clock of the service. */
export let at = 0;
/** Frames were missed, or this is the first: plots read their history again. */
export const anew = signal(0);

/** Index of the values of an object, by kind and name. */
const place = (kind, name) => places.get(`${kind}/${name}`);

/** A current value; null: none. Does not subscribe: `value` does. */
export function peek(kind, name, series) {
  const first = place(kind, name);
  const index = layout.peek()?.kinds[kind].series.indexOf(series) ?? -1;
  return first === undefined || index < 0 ? null : (values[first + index] ?? null);
}
export function value(kind, name, series) {
  tick.value;
  return peek(kind, name, series);
}
/** Values per second in the buckets of a histogram. */
export function buckets(kind, name) {
  const first = place(kind, name);
  const { series, width } = layout.peek().kinds[kind];
  return first === undefined ? [] : values.slice(first + series.length, first + width);
}
/** The name of a state. */
export function word(kind, name) {
  const number = value(kind, name, 'state');
  return layout.value?.states[kind][number ?? -1] ?? 'unknown';
}
export const objects = (kind) => (layout.value?.objects ?? []).filter((object) => object.kind === kind);

function take({ kind, data }) {
  heard = Date.now();
  batch(() => {
    if (!state.peek().fresh) state.value = { fresh: true };
    if (kind === 'layout') {
      const restarted = layout.peek()?.start !== data.start;
      let next = 0;
      places = new Map();
      for (const object of data.objects) {
        places.set(`${object.kind}/${object.name}`, next);
        next += data.kinds[object.kind].width;
      }
      layout.value = data;
      if (restarted) anew.value++;
    } else if (kind === 'data') {
      if (data.values) values = data.values;
      for (let i = 0; i < (data.changes?.length ?? 0); i += 2) values[data.changes[i]] = data.changes[i + 1];
      if (at && data.at - at > 2500) anew.value++;
      at = data.at;
      tick.value = data.number;
    }
  });
}

setInterval(() => {
  if (state.peek().fresh && Date.now() - heard > LATE_MS) state.value = { fresh: false, since: heard };
}, 500);

/** Reads server-sent events until the stream ends. */
async function read(hand, stop) {
  const answer = await ask('live', { signal: stop });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  for (;;) {
    const { done, value: chunk } = await reader.read();
    if (done) return;
    text += chunk;
    const blocks = text.split('\n\n');
    text = blocks.pop();
    for (const block of blocks) {
      /** @type {Map<string, string>} */
      const fields = new Map(block.split('\n').map((line) => /** @type {[string, string]} */ (line.split(/: (.*)/s))));
      if (fields.has('data')) hand({ kind: fields.get('event'), data: JSON.parse(fields.get('data')) });
    }
  }
}

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** Polls, each time a moment after the end of the previous one; the pause grows with failures. */
async function readOn(hand, stop) {
  for (let pause = 500; !stop.aborted; pause = Math.min(pause * 2, 2000)) {
    const began = Date.now();
    await read(hand, stop).catch(() => {});
    if (Date.now() - began > 5000) pause = 250;
    if (needsLogin.peek()) return;
    if (!stop.aborted) await sleep(pause);
  }
}

const HIDDEN_MS = 30_000;
const shown = () =>
  document.visibilityState === 'visible'
    ? Promise.resolve()
    : new Promise((/** @type {(_?: void) => void} */ done) => document.addEventListener('visibilitychange', () => done(), { once: true }));

/** Ends half a minute after the page was hidden. */
function hidden(stop) {
  let timer;
  const look = () => {
    clearTimeout(timer);
    if (document.visibilityState === 'hidden') timer = setTimeout(() => stop.abort(), HIDDEN_MS);
  };
  document.addEventListener('visibilitychange', look);
  look();
  return () => {
    clearTimeout(timer);
    document.removeEventListener('visibilitychange', look);
  };
}

/** The channel of this service's tabs; another service may be below another path of the origin. */
const SHARED = `forebay-live ${new URL('.', document.baseURI).pathname}`;
/** This tab's number. Of two that begin to read at once, the smaller one continues. */
const TAB = crypto.getRandomValues(new Uint32Array(1))[0];
/** The reading tab says so each second. After this time of silence another one reads. */
const SILENT_MS = 2500;
let running = false;
/** Follows the service while the page is shown. */
export async function follow() {
  if (running) return;
  running = true;
  const channel = new BroadcastChannel(SHARED);
  const say = (kind) => channel.postMessage({ kind, tab: TAB });
  /** Stops this tab's reading; null: not reading. */
  let stop = null;
  /** When another tab last said that it reads. */
  let other = 0;
  /** The layout, for tabs that open later. */
  let whole = null;
  const tell = (message) => {
    take(message);
    if (message.kind === 'layout') whole = message;
    channel.postMessage(message);
  };
  channel.onmessage = ({ data: message }) => {
    if (message.kind === 'hello') {
      if (stop) say('reading');
      if (whole) {
        channel.postMessage(whole);
        channel.postMessage({ kind: 'data', data: { number: tick.peek(), at, values } });
      }
    } else if (message.kind === 'reading') {
      if (stop && TAB < message.tab) return say('reading');
      other = Date.now();
      stop?.abort();
    } else if (message.kind === 'done') other = 0;
    else if (!stop && (layout.peek() || message.kind === 'layout')) take(message);
  };
  const leave = () => stop && say('done');
  addEventListener('pagehide', leave);
  say('hello');
  while (!needsLogin.peek()) {
    await shown();
    await sleep(other ? 400 + Math.random() * 200 : 50 + Math.random() * 100);
    if (needsLogin.peek() || document.visibilityState === 'hidden' || Date.now() - other < SILENT_MS) continue;
    stop = new AbortController();
    say('reading');
    const beat = setInterval(() => say('reading'), 1000);
    const unwatch = hidden(stop);
    await readOn(tell, stop.signal);
    unwatch();
    clearInterval(beat);
    whole = null;
    // A tab that stopped for another one keeps third tabs from reading.
    if (Date.now() - other >= SILENT_MS) leave();
    stop = null;
  }
  removeEventListener('pagehide', leave);
  channel.close();
  running = false;
}
