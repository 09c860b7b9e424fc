// Trial of a source or bridge: its requirements, and for a source its newest records. Nothing is published.

import { html, useState } from '../vendor/preact.js';
import { get, name as escaped } from '../api.js';
import { Panel, State, Table, Text, WriteButton, or } from '../parts.js';

const content = (of) => (of ? (of.text ?? `${of.base64} (base64)`) : null);
const VERDICTS = { ok: 'works', warning: 'warn', problem: 'fails' };
const FINDINGS = [
  { title: 'What was looked at', cell: ({ text }) => html`<${Text} of=${text} max=${600} />` },
  { title: '', cell: ({ verdict }) => html`<${State} word=${VERDICTS[verdict]} />` },
];
const RECORDS = [
  { title: 'Record', cell: ({ topic, partition, offset }) => html`<code class="cut"><${Text} of=${topic} max=${120} /></code> <span class="num">${partition}, ${offset}</span>` },
  { title: 'MQTT topic', cell: ({ mqtt_topic: topic, refused }) => (refused === null ? (topic === null ? or(null) : html`<code class="cut"><${Text} of=${topic} max=${200} /></code>`) : html`<${State} word="refused" /><span class="why"><${Text} of=${refused} max=${300} /></span>`) },
  { title: 'Payload', wide: true, cell: ({ payload }) => (content(payload) === null ? or(null) : html`<code class="cut"><${Text} of=${content(payload)} max=${300} /></code>`) },
];

const BUTTONS = { sources: 'Test the source', bridges: 'Test the connection' };
/** The button, and below it the findings. `part`: sources or bridges; `keys`: tried instead of the configured ones. */
export function Test({ part, name, keys = {}, disabled = false }) {
  const [found, setFound] = useState(null);
  const test = async () => {
    setFound({ busy: true });
    const body = Object.fromEntries(Object.entries(keys ?? {}).filter(([, value]) => value !== null));
    setFound(await get(`${part}/${escaped(name)}/test`, { method: 'POST', body }).catch((problem) => ({ problem })));
  };
  return html`<${WriteButton} disabled=${disabled || found?.busy} onClick=${test}>${BUTTONS[part]}<//>
    ${found && html`<div class="wide" role="status"><${Found} of=${found} /></div>`}`;
}

function Found({ of }) {
  if (of.busy) return html`<div class="banner">Looking</div>`;
  if (of.problem) return html`<div class="banner bad"><${Text} of=${of.problem.message} max=${600} /></div>`;
  return html`<${Panel} title=${of.works ? 'It works' : 'It does not work'}>
    <${Table} label="Findings" columns=${FINDINGS} rows=${of.findings} id=${({ text }) => text}>Nothing was looked at.<//>
    ${of.records && html`<${Table} label="Newest records" columns=${RECORDS} rows=${of.records} id=${({ topic, partition, offset }) => `${topic} ${partition} ${offset}`}>There is no record yet.<//>`}<//>`;
}
