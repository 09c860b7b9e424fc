// Bans: clients, users and addresses that may not connect.

import { html, useEffect, useState } from '../vendor/preact.js';
import { get, mayWrite } from '../api.js';
import { AsCommand, Head, Table, Text, WriteButton, close, closing, or, show, usePolled } from '../parts.js';
import { dateTime, visible } from '../text.js';
import { Change } from './change.js';

const KINDS = { client_id: 'Client ID', username: 'User', address: 'Address' };
const kindOf = (ban) => Object.keys(KINDS).find((key) => ban[key] !== null);
const time = (at) => (at === null ? 'never' : dateTime(Date.parse(at)));

const columns = (again) => [
  { title: 'Who', cell: (ban) => html`<${Text} of=${ban[kindOf(ban)]} max=${120} /><span class="why">${KINDS[kindOf(ban)]}</span>` },
  { title: 'Ends', cell: ({ until }) => html`<span class="num">${time(until)}</span>` },
  { title: 'Made', cell: ({ at, by }) => html`<span class="num">${time(at)}</span>${by !== null && html`<span class="why">by <${Text} of=${by} max=${60} /></span>`}` },
  { title: 'Why', wide: true, cell: ({ reason }) => (reason ? html`<${Text} of=${reason} max=${400} />` : or(null)) },
  { title: '', cell: (ban) => html`<${WriteButton} kind="plain" onClick=${() => show(html`<${Change} what="end the ban of" name=${ban[kindOf(ban)]} path=${`bans/${ban.id}`} method="DELETE" lasting=${false} button="End" done=${again}>
    It may connect again.<//>`)}>End<//>` },
];

export function Bans({ query }) {
  const [round, setRound] = useState(0);
  const again = () => setRound(round + 1);
  const { value, problem } = usePolled(() => get('bans'), round, 5000);
  const begin = () => show(html`<${Make} of=${query} done=${again} />`);
  // Linked from a client's page.
  useEffect(() => {
    if (query.client && mayWrite()) begin();
  }, []);
  return html`
    <${Head} title="Bans">
      <${WriteButton} onClick=${begin}>New ban<//>
      <${AsCommand} path="bans" words=${['bans']} />
    <//>
    ${problem && html`<div class="banner bad" role="alert"><${Text} of=${problem.message} max=${400} /></div>`}
    <section class="panel">${value && html`<${Table} label="Bans" columns=${columns(again)} rows=${value.bans} id=${({ id }) => id}>
      Nobody is banned.<//>`}</section>`;
}

/** The dialog of a new ban. */
function Make({ of, done }) {
  const [kind, setKind] = useState('client_id');
  const [who, setWho] = useState(of.client ?? '');
  const [hours, setHours] = useState('1');
  const [reason, setReason] = useState('');
  const [problem, setProblem] = useState('');
  const send = async (event) => {
    event.preventDefault();
    const end = closing();
    try {
      await get('bans', { method: 'POST', body: { [kind]: who, reason, ...(hours && { seconds: Math.round(Number(hours) * 3600) }) } });
      end();
      done();
    } catch (error) {
      setProblem(error.message);
    }
  };
  return html`<form onSubmit=${send}>
    <h2 id="dialog-title">New ban</h2>
    <p class="dim">Whom it concerns is disconnected, and may not connect. Sessions stay as their own terms say.</p>
    <p><label>Kind <select value=${kind} onChange=${(event) => setKind(event.target.value)}>${Object.entries(KINDS).map(([key, title]) => html`<option value=${key}>${title}</option>`)}</select></label></p>
    <p><label>${KINDS[kind]} to ban <input required spellcheck=${false} value=${who} onInput=${(event) => setWho(event.target.value)} /></label></p>
    <p><label>Hours <input type="number" min="0.01" step="any" value=${hours} onInput=${(event) => setHours(event.target.value)} /></label> <span class="dim">none: for ever</span></p>
    <p><label>Why <input value=${reason} maxlength="1000" onInput=${(event) => setReason(event.target.value)} /></label></p>
    ${problem && html`<div class="banner bad" role="alert">${visible(problem, 600)}</div>`}
    <div class="buttons"><button type="button" onClick=${close}>Cancel</button><button class="danger">Ban</button></div>
  </form>`;
}
