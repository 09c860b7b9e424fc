// The record a sink would make.

import { html, useState } from '../vendor/preact.js';
import { get, name as escaped } from '../api.js';
import { Text, close } from '../parts.js';

/** The dialog with the record of a sink for a message. */
export function Try({ name }) {
  const [topic, setTopic] = useState('');
  const [payload, setPayload] = useState('');
  const [client, setClient] = useState('');
  const [found, setFound] = useState(null);
  const send = async (event) => {
    event.preventDefault();
    setFound(await get(`sinks/${escaped(name)}/test`, { method: 'POST', body: { message: { topic, payload, client_id: client } } }).catch((problem) => ({ problem })));
  };
  return html`<form onSubmit=${send}>
    <h2 id="dialog-title">The record of a message</h2>
    <p class="dim">Nothing is written.</p>
    <label>MQTT topic <input required spellcheck=${false} value=${topic} onInput=${(event) => setTopic(event.target.value)} /></label>
    <label>Client ID <input spellcheck=${false} value=${client} onInput=${(event) => setClient(event.target.value)} /></label>
    <label>Payload <textarea rows="3" spellcheck=${false} value=${payload} onInput=${(event) => setPayload(event.target.value)}></textarea></label>
    ${found && html`<div role="status">${found.problem ? html`<div class="banner bad"><${Text} of=${found.problem.message} max=${600} /></div>` : html`<${Record} of=${found} />`}</div>`}
    <div class="buttons"><button type="button" onClick=${close}>Close</button><button class="first">Try</button></div>
  </form>`;
}

const content = (of) => (of ? (of.text ?? `${of.base64} (base64)`) : '–');
const Record = ({ of }) => html`<dl class="facts">
  ${[
    ['Matches', of.matches ? 'yes' : 'no: no filter of the sink matches the topic'],
    ...(of.refused ? [['Refused', of.refused]] : []),
    ['Kafka topic', of.topic ?? '–'],
    ['Key', content(of.key)],
    ['Value', content(of.value)],
    ...of.headers.map(({ name, value }) => [`Header ${name}`, content(value)]),
  ].map(([what, text]) => html`<dt><${Text} of=${what} max=${80} /></dt><dd><${Text} of=${text} max=${1000} /></dd>`)}</dl>`;
