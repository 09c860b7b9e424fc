// The dialog that publishes a message.

import { html, useState } from '../vendor/preact.js';
import { get } from '../api.js';
import { close } from '../parts.js';
import { visible } from '../text.js';

export function Publish({ topic: given = '' }) {
  const [topic, setTopic] = useState(given);
  const [payload, setPayload] = useState('');
  const [qos, setQos] = useState('1');
  const [retain, setRetain] = useState(false);
  const [said, setSaid] = useState(null);
  const send = async (event) => {
    event.preventDefault();
    setSaid(null);
    try {
      const { matched } = await get('publish', { method: 'POST', body: { topic, payload, qos: Number(qos), retain } });
      setSaid({ text: matched ? 'Published.' : 'Published. No sink, rule or subscriber matches the topic: nobody has it.' });
    } catch (error) {
      setSaid({ text: error.message, bad: true });
    }
  };
  return html`<form onSubmit=${send}>
    <h2 id="dialog-title">Publish a message</h2>
    <p class="dim">Sinks, rules and subscribers get it as from a client.</p>
    <p><label>Topic <input required spellcheck=${false} value=${topic} onInput=${(event) => setTopic(event.target.value)} /></label></p>
    <p><label>Payload <textarea rows="5" spellcheck=${false} value=${payload} onInput=${(event) => setPayload(event.target.value)}></textarea></label></p>
    <p><label>QoS <select value=${qos} onChange=${(event) => setQos(event.target.value)}>${['0', '1', '2'].map((of) => html`<option value=${of}>${of}</option>`)}</select></label>
      ${' '}<label><input type="checkbox" checked=${retain} onChange=${(event) => setRetain(event.target.checked)} /> Retain</label></p>
    ${said && html`<div class=${said.bad ? 'banner bad' : 'banner'} role=${said.bad ? 'alert' : 'status'}>${visible(said.text, 600)}</div>`}
    <div class="buttons"><button type="button" onClick=${close}>Close</button><button class="first">Publish</button></div>
  </form>`;
}
