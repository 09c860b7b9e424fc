// The input of a trial: a message, an event or a record, written by hand or taken from a trace or from dead letters.

import { html, useState } from '../vendor/preact.js';
import { get, mayWrite, name as escaped } from '../api.js';
import { EVENTS } from '../sql.js';
import { Segments, Text, usePolled } from '../parts.js';
import { visible } from '../text.js';

/** @param {{ of: any, change: (next: any) => void }} props */
export function Sample({ of, change }) {
  const set = (key) => (event) => change({ ...of, [key]: event.target.value });
  const input = (key, label) => html`<label>${label} <input spellcheck=${false} value=${of[key]} onInput=${set(key)} /></label>`;
  const area = (key, label, rows = 3, hint = '') => html`<label class="wide">${label} <textarea rows=${rows} spellcheck=${false} placeholder=${hint} value=${of[key]} onInput=${set(key)}></textarea></label>`;
  const more = (what) => html`<details><summary>Other fields</summary>${area('more', 'A JSON object', 3, what)}</details>`;
  return html`<section class="panel editor" aria-label="Tried on">
    <${Segments} label="Tried on" options=${['Message', 'Event', 'Record']} value=${of.kind} choose=${(kind) => change({ ...of, kind })} />
    ${of.kind === 'Message' && html`<div class="fields-of">${input('topic', 'MQTT topic')}${input('clientid', 'Client ID')}${input('username', 'User name')}
        <label>QoS <select value=${String(of.qos)} onChange=${(event) => change({ ...of, qos: Number(event.target.value) })}>${['0', '1', '2'].map((one) => html`<option>${one}</option>`)}</select></label>
        <label class="row"><input type="checkbox" checked=${of.retain} onChange=${(event) => change({ ...of, retain: event.target.checked })} />Retained</label></div>
      ${area('payload', 'Payload', 4)}${area('properties', 'User properties', 2, 'NAME = VALUE, a line each')}${more('{"peerhost": "192.0.2.7"}')}
      <${Take} take=${(message) => change({ ...of, ...message })} />`}
    ${of.kind === 'Event' && html`<div class="fields-of"><label>Event <select value=${of.event} onChange=${set('event')}>${EVENTS.map((one) => html`<option>${one}</option>`)}</select></label>${input('clientid', 'Client ID')}${input('username', 'User name')}</div>
      ${more('{"reason": "normal"}')}`}
    ${of.kind === 'Record' && html`<div class="fields-of">${input('kafka_topic', 'Kafka topic')}${input('key', 'Key')}</div>${area('value', 'Value', 4)}${more('{"headers": {"h1": "v1"}, "offset": 7}')}`}
  </section>`;
}

/** Number of messages offered. */
const OFFERED_MAX = 20;

/** Messages of a trace, and of a sink's dead letters in a file, as form values. */
async function messagesOf(from) {
  const [kind, id] = [from.slice(0, from.indexOf(' ')), from.slice(from.indexOf(' ') + 1)];
  if (kind === 'trace') {
    const { packets } = await get(`traces/${escaped(id)}?limit=1000`);
    return packets.filter(({ packet, payload }) => packet === 'PUBLISH' && payload !== undefined).slice(-OFFERED_MAX).reverse()
      .map(({ topic, payload, client_id: clientid }) => ({ topic, payload, clientid, username: '' }));
  }
  const { letters } = await get(`dead-letters/${escaped(id)}?limit=${OFFERED_MAX}`);
  return letters.filter((letter) => letter?.mqtt_topic != null && letter.value != null && letter.value_encoding !== 'base64')
    .map(({ mqtt_topic: topic, value: payload, client_id: clientid }) => ({ topic, payload, clientid: clientid ?? '', username: '' }));
}

/** The choice of a message. */
function Take({ take }) {
  const { value: places } = usePolled(() => (mayWrite() ? Promise.all([get('traces'), get('sinks')]) : Promise.resolve(null)), 'places', 10_000);
  const [found, setFound] = useState({ from: '', list: [], problem: '' });
  const [traces, sinks] = [places?.[0].traces ?? [], places?.[1].sinks ?? []];
  const choose = (from) => {
    setFound({ from, list: [], problem: '' });
    if (from) messagesOf(from).then((list) => setFound({ from, list, problem: list.length ? '' : 'There is no message of text.' }), (error) => setFound({ from, list: [], problem: error.message }));
  };
  return html`<label>Take a message of <select value=${found.from} onChange=${(event) => choose(event.target.value)}><option value="">nothing: it is written above</option>
      ${traces.map(({ id, client_id: client, filter }) => html`<option value=${`trace ${id}`}>trace ${id}: ${visible(filter ?? client, 60)}</option>`)}
      ${sinks.map(({ name }) => html`<option value=${`letters ${name}`}>dead letters of ${visible(name, 60)}</option>`)}</select></label>
    <div role="status">${found.problem && html`<span class="dim"><${Text} of=${found.problem} max=${300} /></span>`}
      ${found.list.length > 0 && html`<ul class="functions">${found.list.map((message) => html`<li><button type="button" class="plain" onClick=${() => take(message)}><code><${Text} of=${message.topic} max=${60} /></code></button> <span class="dim"><${Text} of=${message.payload} max=${80} /></span></li>`)}</ul>`}</div>`;
}
