// Traces: packets of one client, or publishes to the topics of a filter, as they happen.

import { html, useEffect, useState } from '../vendor/preact.js';
import { get, mayWrite, needsLogin } from '../api.js';
import { AsCommand, Head, Panel, State, Table, Text, WriteButton, close, closing, or, show, usePolled } from '../parts.js';
import { bytes, clock, count, seconds, visible } from '../text.js';
import { Change } from './change.js';
import { linkTo } from './clients.js';

const whose = ({ client_id: id, filter }) => (filter === null ? html`client <${Text} of=${id} max=${80} />` : html`topics <code class="cut"><${Text} of=${filter} max=${120} /></code>`);
const state = ({ over }) => (over ? 'over' : 'running');
const LIST = [
  { title: 'Trace', cell: (trace) => html`<a href=${`#/traces/${trace.id}`}>${trace.id}: ${whose(trace)}</a>` },
  { title: 'State', cell: (trace) => html`<${State} word=${state(trace)} />` },
  { title: 'Began', cell: ({ began_at: at }) => clock(Date.parse(at)) },
  { title: 'Left', number: true, cell: ({ seconds_left: left }) => seconds(left) },
  { title: 'Packets', number: true, cell: ({ packets: n }) => count(n) },
  { title: 'Left out', number: true, cell: ({ left_out: n }) => count(n) },
];

export function Traces({ query }) {
  const [round, setRound] = useState(0);
  const { value, problem } = usePolled(() => get('traces'), round, 2000);
  const begin = () => show(html`<${Begin} of=${query} done=${() => setRound(round + 1)} />`);
  // Opened by a link from a client's page, or a typed address.
  useEffect(() => {
    if ((query.client || query.filter) && mayWrite()) begin();
  }, [query.client, query.auth, query.filter]);
  return html`
    <${Head} title="Traces">
      <${WriteButton} onClick=${begin}>New trace<//>
      <${AsCommand} path="traces" words=${['trace']} />
    <//>
    ${problem && html`<div class="banner bad" role="alert"><${Text} of=${problem.message} max=${400} /></div>`}
    <section class="panel">${value && html`<${Table} label="Traces" columns=${LIST} rows=${value.traces} id=${({ id }) => id}>
      None. A trace shows each packet of one client, or what clients publish to the topics of a filter. There may be four.<//>`}</section>`;
}

/** The dialog that begins a trace. */
function Begin({ of, done }) {
  const [kind, setKind] = useState(of.filter ? 'filter' : 'client');
  const [text, setText] = useState(of.client ?? of.filter ?? '');
  const [minutes, setMinutes] = useState(10);
  const [problem, setProblem] = useState('');
  const send = async (event) => {
    event.preventDefault();
    const end = closing();
    const body = { [kind === 'client' ? 'client_id' : 'filter']: text, ...(kind === 'client' && of.auth !== undefined && { auth: of.auth }), seconds: minutes * 60 };
    try {
      const trace = await get('traces', { method: 'POST', body });
      end();
      done();
      location.hash = `#/traces/${trace.id}`;
    } catch (error) {
      setProblem(error.message);
    }
  };
  return html`<form onSubmit=${send}>
    <h2 id="dialog-title">New trace</h2>
    <label class="row"><input type="radio" name="kind" checked=${kind === 'client'} onChange=${() => setKind('client')} />Each packet of a client, in both directions</label>
    <label class="row"><input type="radio" name="kind" checked=${kind === 'filter'} onChange=${() => setKind('filter')} />What clients publish to topics of a filter</label>
    <p><label>${kind === 'client' ? 'Client ID' : 'Topic filter'} <input required spellcheck=${false} value=${text} onInput=${(event) => setText(event.target.value)} /></label></p>
    <p><label>Minutes <input type="number" min="1" max="60" required value=${minutes} onInput=${(event) => setMinutes(Number(event.target.value))} /></label></p>
    ${problem && html`<div class="banner bad" role="alert">${visible(problem, 600)}</div>`}
    <div class="buttons"><button type="button" onClick=${close}>Cancel</button><button class="first">Begin</button></div>
  </form>`;
}

const content = ({ payload, payload_base64: base64, payload_bytes: size, properties }) => html`
  ${payload !== undefined && html`<code class="cut"><${Text} of=${payload} max=${200} /></code>`}
  ${base64 !== undefined && html`<code class="cut">base64 <${Text} of=${base64} max=${200} /></code>`}
  ${size !== null && html`<span class="why">${bytes(size)}${properties && html`, <${Text} of=${properties} max=${300} />`}</span>`}`;
const PACKETS = [
  { title: 'Time', cell: ({ at }) => html`<span class="num">${clock(Date.parse(at))}.${String(Date.parse(at) % 1000).padStart(3, '0')}</span>` },
  { title: '', cell: ({ direction }) => (direction === 'out' ? 'to the client' : 'from the client') },
  { title: 'Packet', cell: ({ packet, packet_id: id, reason_code: code, reason }) => html`${packet}${id !== null && html` <span class="dim num">#${id}</span>`}${code > 0 && html`<span class="why">${reason}</span>`}` },
  { title: 'Topic', cell: ({ topic }) => (topic === null ? or(null) : html`<code class="cut"><${Text} of=${topic} max=${200} /></code>`) },
  { title: 'Details', cell: ({ details }) => (details ? html`<${Text} of=${details} max=${400} />` : or(null)) },
  { title: 'Content', wide: true, cell: content },
];
const WITH_CLIENT = [PACKETS[0], { title: 'Client', cell: (packet) => html`<a href=${linkTo(packet)}><${Text} of=${packet.client_id} max=${60} /></a>` }, ...PACKETS.slice(2)];
/** Packets on the page: the newest. */
const SHOWN_MAX = 500;

/** Packets of one request. */
const ASKED_MAX = 1000;
/** Saves the packets kept of a trace as a file. */
async function download(name) {
  const packets = [];
  let page;
  do {
    page = await get(`traces/${name}?after=${page?.next ?? 0}&limit=${ASKED_MAX}`);
    packets.push(...page.packets);
  } while (page.packets.length === ASKED_MAX);
  const file = URL.createObjectURL(new Blob([JSON.stringify({ trace: page.trace, packets }, null, 2)], { type: 'application/json' }));
  Object.assign(document.createElement('a'), { href: file, download: `trace-${name}.json` }).click();
  setTimeout(() => URL.revokeObjectURL(file), 10_000);
}

export function Trace({ name }) {
  const [found, setFound] = useState({ trace: null, packets: [], problem: null });
  useEffect(() => {
    let ended = false;
    let timer;
    let after = 0;
    const again = async () => {
      let more = false;
      if (document.visibilityState === 'visible' && !needsLogin.peek()) {
        try {
          const page = await get(`traces/${name}?after=${after}&limit=${ASKED_MAX}`);
          if (ended) return;
          more = page.packets.length === ASKED_MAX;
          after = page.next;
          setFound((before) => ({ trace: page.trace, packets: [...before.packets, ...page.packets].slice(-SHOWN_MAX), problem: null }));
        } catch (problem) {
          if (ended) return;
          setFound((before) => ({ ...before, problem }));
          if (problem.status === 404) return;
        }
      }
      timer = setTimeout(again, more ? 0 : 1000);
    };
    again();
    return () => {
      ended = true;
      clearTimeout(timer);
    };
  }, [name]);
  const { trace, packets, problem } = found;
  const words = trace && (trace.filter === null ? ['trace', '--client', trace.client_id] : ['trace', '--topic', trace.filter]);
  return html`
    <${Head} title=${html`<a href="#/traces">Traces</a> / ${trace ? whose(trace) : name}`} sub=${trace && html`<${State} word=${state(trace)} />`}>
      <button type="button" disabled=${!trace} onClick=${() => download(name).catch((problem) => setFound((before) => ({ ...before, problem })))}>Download</button>
      <${WriteButton} disabled=${!trace} onClick=${() => show(html`<${Change} what="end trace" name=${name} path=${`traces/${name}`} method="DELETE" lasting=${false} danger button="End" done=${() => (location.hash = '#/traces')}>
        Its packets are forgotten.<//>`)}>End<//>
      <${AsCommand} path=${`traces/${name}`} words=${words} />
    <//>
    ${problem && html`<div class="banner bad" role="alert"><${Text} of=${problem.message} max=${400} /></div>`}
    ${trace && html`<${Panel} title="Packets" right=${html`<span class="dim num">${count(trace.packets)}${trace.left_out > 0 && `, and ${count(trace.left_out)} left out`}${packets.length === SHOWN_MAX && `; the last ${SHOWN_MAX} are shown`}</span>`}>
      <${Table} label="Packets" columns=${trace.filter === null ? PACKETS : WITH_CLIENT} rows=${packets.toReversed()} id=${({ number }) => number}>${trace.over ? 'There was none.' : 'None yet: the page looks each second.'}<//>
    <//>`}`;
}
