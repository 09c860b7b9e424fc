// An MQTT client in the page: connects through the control plane, as a user of its own at the first listener.

import { effect, html, signal, useState } from '../vendor/preact.js';
import { mayWrite, needsLogin, protocols, session } from '../api.js';
import { read } from '../fields.js';
import { Head, Panel, State, Table, Text, or } from '../parts.js';
import { clock, count } from '../text.js';
import { NeedsWrite } from './change.js';

/** Messages and notes that are kept. */
const KEPT = 200;
const FIRST_ID = `dashboard-${crypto.getRandomValues(new Uint32Array(1))[0].toString(36)}`;

// The client stays connected on other pages.
const client = signal(null);
const status = signal({ word: 'Not connected', why: '' });
const filters = signal([]);
const log = signal([]);
// A logout ends it.
effect(() => {
  if (needsLogin.value) client.peek()?.end(true);
});
let last = 0;
function note(entry) {
  last += 1;
  log.value = [{ number: last, at: Date.now(), ...entry }, ...log.peek()].slice(0, KEPT);
  return last;
}
/** Notes the outcome of a noted action. */
const noted = (which, more) => (log.value = log.peek().map((entry) => (which(entry) ? { ...entry, isOpen: false, ...more } : entry)));

const code = (reason) => (reason ? `0x${reason.toString(16).padStart(2, '0')}` : 'success');
const utf8 = new TextDecoder();
const plain = (value) => (value instanceof Uint8Array ? utf8.decode(value) : typeof value === 'object' ? JSON.stringify(value) : String(value));
const properties = (of) => Object.entries(of ?? {}).map(([name, value]) => `${name.replace(/[A-Z]/g, (upper) => ` ${upper.toLowerCase()}`)} ${plain(value)}`).join('; ');

async function connect({ id, version }) {
  status.value = { word: 'Connecting', why: '' };
  const { default: mqtt } = await import('../vendor/mqtt.js');
  const url = new URL('mqtt', document.baseURI);
  url.protocol = url.protocol.replace('http', 'ws');
  url.search = url.hash = '';
  const is5 = version === '5.0';
  const one = mqtt.connect(url.href, {
    clientId: id, protocolVersion: is5 ? 5 : 4, clean: true, reconnectPeriod: 0, keepalive: 60, timerVariant: 'native',
    createWebsocket: (to, names) => new WebSocket(to, protocols(names)),
    ...(is5 && { properties: { sessionExpiryInterval: 0 } }),
  });
  client.value = one;
  const over = (why) => {
    if (client.peek() !== one) return;
    client.value = null;
    filters.value = [];
    status.value = { word: 'Not connected', why };
  };
  let why = '';
  one.on('connect', (packet) => {
    status.value = { word: 'Connected', why: '' };
    note({ what: 'CONNACK', more: [code(packet.reasonCode ?? packet.returnCode), properties(packet.properties)].filter(Boolean).join('; ') });
  });
  one.on('message', (topic, payload, packet) => note({ what: 'in', topic, qos: packet.qos, retain: packet.retain, payload: utf8.decode(payload), more: properties(packet.properties) }));
  one.on('disconnect', (packet) => (why = `the service has disconnected it: ${code(packet.reasonCode)}${packet.properties?.reasonString ? `, ${packet.properties.reasonString}` : ''}`));
  one.on('error', (error) => (why = error.message));
  one.on('close', () => {
    noted(({ isOpen }) => isOpen, { more: `no answer: ${why || 'the connection is closed'}`, bad: true });
    note({ what: 'closed', more: why });
    over(why || 'the connection is closed');
  });
}

/** Runs an action of the client. Notes it, and then its outcome: an answer, or none if the connection ends before. */
async function during(what, entry, work) {
  const number = note({ ...entry, what, more: 'no answer yet', isOpen: true });
  const isIt = (one) => one.number === number && one.isOpen;
  await work().then((more) => noted(isIt, { more }), (error) => noted(isIt, { more: `failed: ${error.message}`, bad: true }));
}

const subscribe = (filter, qos) => during('SUBSCRIBE', { topic: filter, qos }, async () => {
  const granted = await client.value.subscribeAsync(filter, { qos });
  filters.value = [...filters.peek().filter((one) => one.filter !== filter), { filter, qos: granted[0].qos }];
  return `granted QoS ${granted[0].qos}`;
});
const unsubscribe = (filter) => during('UNSUBSCRIBE', { topic: filter }, async () => {
  await client.value.unsubscribeAsync(filter);
  filters.value = filters.peek().filter((one) => one.filter !== filter);
  return '';
});

export function TestClient() {
  const [id, setId] = useState(FIRST_ID);
  const [version, setVersion] = useState('5.0');
  if (!mayWrite()) return html`<${Head} title="Client" /><div class="panel"><${NeedsWrite}>It publishes and reads messages:<//></div>`;
  const { word, why } = status.value;
  const is = word === 'Connected';
  const submit = (event) => {
    event.preventDefault();
    if (client.value) client.value.end();
    else connect({ id, version }).catch((error) => (status.value = { word: 'Not connected', why: error.message }));
  };
  return html`
    <${Head} title="Client" sub=${html`<span role="status"><${State} word=${word} /></span>`} />
    ${why && html`<div key="why" class="banner" role="alert"><${Text} of=${why} max=${400} /></div>`}
    <form class="panel filters" onSubmit=${submit}>
      <label>Client ID <input value=${id} maxlength="200" spellcheck=${false} disabled=${Boolean(client.value)} onInput=${(event) => setId(event.target.value)} /></label>
      <label>MQTT <select value=${version} disabled=${Boolean(client.value)} onChange=${(event) => setVersion(event.target.value)}><option>5.0</option><option>3.1.1</option></select></label>
      <button class="first" disabled=${word === 'Connecting'}>${client.value ? 'Disconnect' : 'Connect'}</button>
      <span class="dim">Through this page's own address, at the first listener; where that has an auth, as the user <code>dashboard/${session.value?.name}</code>, with its access control.</span>
    </form>
    <div key="forms" class="grid two"><${Publish} is=${is} is5=${version === '5.0'} /><${Subscribe} is=${is} /></div>
    <${Panel} title="Messages" right=${html`<button type="button" class="plain" onClick=${() => (log.value = [])}>Clear</button>`}><${Table} label="Messages" columns=${COLUMNS} rows=${log.value} id=${({ number }) => number}>Nothing was sent or has come.<//><//>`;
}

const COLUMNS = [
  { title: 'Time', cell: ({ at }) => html`<span class="num">${clock(at)}</span>` },
  { title: 'What', cell: ({ what }) => what },
  { title: 'Topic', cell: ({ topic }) => (topic === undefined ? or(null) : html`<code class="cut"><${Text} of=${topic} max=${200} /></code>`) },
  { title: 'QoS', number: true, cell: ({ qos, retain }) => (qos === undefined ? or(null) : `${qos}${retain ? ', retained' : ''}`) },
  { title: 'Payload', wide: true, cell: ({ payload }) => (payload === undefined ? or(null) : html`<code class="cut"><${Text} of=${payload} max=${1000} /></code>`) },
  { title: 'Result and properties', cell: ({ more, bad }) => (more ? html`<span class=${bad ? 'state bad' : 'why'}><${Text} of=${more} max=${600} /></span>` : or(null)) },
];

const Qos = ({ value, set, label }) => html`<label>${label} <select value=${String(value)} onChange=${(event) => set(Number(event.target.value))}>${[0, 1, 2].map((qos) => html`<option value=${String(qos)}>${qos}</option>`)}</select></label>`;

function Publish({ is, is5 }) {
  const [topic, setTopic] = useState('tbmq/kafka-integration');
  const [payload, setPayload] = useState('{"temperature":21.5}');
  const [qos, setQos] = useState(1);
  const [retain, setRetain] = useState(false);
  const [of, setOf] = useState(/** @type {any} */ ({}));
  const set = (name) => (event) => setOf({ ...of, [name]: event.target.value });
  const send = (event) => {
    event.preventDefault();
    const user = read('table', of.user ?? '');
    const sent = Object.fromEntries(Object.entries({
      contentType: of.contentType || null,
      responseTopic: of.responseTopic || null,
      correlationData: of.correlationData || null,
      messageExpiryInterval: of.expiry ? Number(of.expiry) : null,
      userProperties: user,
    }).filter(([, value]) => value !== null));
    return during('PUBLISH', { topic, qos, retain, payload }, async () => {
      const answer = /** @type {any} */ (await client.value.publishAsync(topic, payload, { qos, retain, ...(is5 && { properties: sent }) }));
      const said = qos === 0 ? 'sent' : `acknowledged: ${code(answer?.reasonCode)}`;
      return [said, properties(answer?.cmd === 'publish' ? {} : answer?.properties)].filter(Boolean).join('; ');
    });
  };
  return html`<${Panel} title="Publish"><form class="inside" onSubmit=${send}>
    <label>Topic <input required value=${topic} spellcheck=${false} onInput=${(event) => setTopic(event.target.value)} /></label>
    <label>Payload <textarea rows="3" spellcheck=${false} value=${payload} onInput=${(event) => setPayload(event.target.value)}></textarea></label>
    <div class="buttons"><${Qos} label="QoS" value=${qos} set=${setQos} />
      <label class="row"><input type="checkbox" checked=${retain} onChange=${() => setRetain(!retain)} />Retain</label></div>
    ${is5 && html`<details><summary>Properties</summary><div class="fields-of">
      <label>Content type <input value=${of.contentType ?? ''} spellcheck=${false} onInput=${set('contentType')} /></label>
      <label>Response topic <input value=${of.responseTopic ?? ''} spellcheck=${false} onInput=${set('responseTopic')} /></label>
      <label>Correlation data <input value=${of.correlationData ?? ''} spellcheck=${false} onInput=${set('correlationData')} /></label>
      <label>Message expiry in seconds <input type="number" min="0" value=${of.expiry ?? ''} onInput=${set('expiry')} /></label>
      <label>User properties <textarea rows="2" placeholder="NAME = VALUE, a line each" spellcheck=${false} value=${of.user ?? ''} onInput=${set('user')}></textarea></label></div></details>`}
    <div class="buttons"><button class="first" disabled=${!is}>Send</button></div></form><//>`;
}

function Subscribe({ is }) {
  const [filter, setFilter] = useState('#');
  const [qos, setQos] = useState(1);
  const columns = [
    { title: 'Topic filter', cell: (one) => html`<code class="cut"><${Text} of=${one.filter} max=${200} /></code>` },
    { title: 'QoS', number: true, cell: (one) => count(one.qos) },
    { title: '', cell: (one) => html`<button type="button" onClick=${() => unsubscribe(one.filter)}>Unsubscribe</button>` },
  ];
  const send = (event) => {
    event.preventDefault();
    return subscribe(filter, qos);
  };
  return html`<${Panel} title="Subscribe"><form class="inside" onSubmit=${send}>
    <label>Topic filter <input required value=${filter} spellcheck=${false} onInput=${(event) => setFilter(event.target.value)} /></label>
    <div class="buttons"><${Qos} label="At most QoS" value=${qos} set=${setQos} /><button disabled=${!is}>Subscribe</button></div></form>
    <${Table} label="Subscriptions" columns=${columns} rows=${filters.value} id=${(one) => one.filter}>It has none.<//><//>`;
}
