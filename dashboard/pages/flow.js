// Flow: origins of messages, the rules they pass, their destinations, and the state and rate of each place.

import { html } from '../vendor/preact.js';
import { get, mayWrite, name as escaped } from '../api.js';
import { between, graph, seriesOf, steps, through, way } from '../flow.js';
import { layout, objects, tick, value, word } from '../live.js';
import { Search } from '../paged.js';
import { AsCommand, Head, Panel, State, Table, Text, or, usePolled } from '../parts.js';
import { NOTHING, rate } from '../text.js';

const POLL_MS = 3000;
/** Graphs with more nodes are not drawn: the table has them all. */
const DRAWN_MAX = 200;
/** Ways beyond this limit have too many names to draw or to check each second. */
const WAYS_MAX = 1000;
const SHOWN_MAX = 500;

async function read(path) {
  const { ways, total } = await get(path);
  return { ways: ways.map(way), total };
}

/** The current rate of a node: of the stream if it has it, else of the API. */
function now(one, which) {
  if (!objects(one.of).some(({ name }) => name === one.text)) return one.rate[which];
  const values = seriesOf(one, which).map((series) => value(one.of, one.text, series));
  return values.every((of) => typeof of === 'number') ? values.reduce((a, b) => a + b, 0) : null;
}
const stateOf = (one) => {
  const live = one.state && objects(one.of).some(({ name }) => name === one.text) ? word(one.of, one.text) : null;
  // Some states are only known to the API.
  return live && live !== 'unknown' && live !== 'running' ? live : one.state;
};
const linkOf = (one) => (one.page ? `#/${one.page}/${escaped(one.text)}` : one.kind === 'kafka' ? `#/clusters/${escaped(one.cluster)}` : one.kind === 'event' ? '#/events' : `#/top?${new URLSearchParams({ topic: one.text })}`);

const arrow = html`<span class="dim" aria-hidden="true"> → </span>`;
const none = html`<span class="dim">none</span>`;
const Node = ({ of, link = true }) => html`${link && of.page ? html`<a href=${linkOf(of)}><${Text} of=${of.text} max=${80} /></a>` : html`<code class="cut"><${Text} of=${of.text} max=${120} /></code>`}${of.state && html` <${State} word=${stateOf(of)} />`}${of.reason && html`<span class="why"><${Text} of=${of.reason} max=${300} /></span>`}`;
const COLUMNS = [
  { title: 'From', cell: ({ origin, from }) => html`${origin && html`<${Node} of=${origin} />${arrow}`}<${Node} of=${from} />` },
  { title: 'Rule', cell: ({ rule }) => html`${arrow}${rule ? html`<${Node} of=${rule} />` : none}` },
  { title: 'To', cell: ({ to }) => html`${arrow}${to ? html`<${Node} of=${to} />` : none}` },
  { title: 'Kafka topic or broker', cell: ({ at }) => (at ? html`${arrow}<${Node} of=${at} />` : or(null)) },
  { title: 'Cluster', cell: ({ at, origin }) => { const cluster = at?.cluster ?? origin?.cluster; return cluster ? html`<a href=${`#/clusters/${escaped(cluster)}`}><${Text} of=${cluster} max=${80} /></a>` : or(null); } },
  { title: 'Rate at the end', number: true, cell: (way) => rateAtEnd(way) },
];
function rateAtEnd(way) {
  const last = steps(way).filter((one) => one.page).at(-1);
  return last ? rate(through(last, now)) : NOTHING;
}

export function Flow({ query, set }) {
  layout.value;
  tick.value;
  const text = query.search ?? '';
  const path = `flow?${new URLSearchParams({ ...(text && { search: text }), limit: String(WAYS_MAX) })}`;
  const { value: found, problem } = usePolled(() => read(path), path, POLL_MS);
  const { ways: rows, total } = found ?? { ways: [], total: 0 };
  return html`<${Head} title="Flow">
      <${Search} label="Search the flow" placeholder="Any name" value=${text} found=${(search) => set({ search })} />
      <${AsCommand} path=${path} words=${['flow', ...(text ? ['--search', text] : [])]} /><//>
    ${problem && html`<div class="banner bad" role="alert"><${Text} of=${problem.message} max=${400} /></div>`}
    ${total > WAYS_MAX ? html`<${TooMany} n=${total} what="ways" />` : rows.length > 0 && html`<${Picture} of=${graph(rows)} />`}
    ${found && html`<section class="panel ways"><${Table} label="Ways of messages" columns=${COLUMNS} rows=${rows.slice(0, SHOWN_MAX)} id=${(way) => steps(way).map(({ id }) => id).join(' > ')}>
      ${text ? 'Nothing has this in its name.' : html`No message goes anywhere but to subscribers: there is no sink, no source, no rule and no bridge. <a href="#/sinks?new=yes">Make a sink</a>.`}<//>
      ${total > SHOWN_MAX && html`<div class="empty">And ${total - SHOWN_MAX} more: search for their names.</div>`}</section>`}`;
}

const [WIDE, HIGH, GAP, ROW, TOP] = [168, 52, 40, 68, 8];
const x = (column) => column * (WIDE + GAP);
const y = (row) => TOP + row * ROW;
const KINDS = { topic: 'MQTT topic', event: 'event', source: 'source', in: 'bridge, in', out: 'bridge, out', rule: 'rule', sink: 'sink', kafka: 'Kafka topic', remote: 'broker' };
const HEADS = [
  ['Kafka and brokers', null], ['Comes in', ['source', '#/sources?new=yes']], ['Rules', ['rule', '#/rules?new=yes']], ['Goes to', ['sink', '#/sinks?new=yes']], ['Kafka and brokers', null],
];
const BAD = ['stalled', 'unreachable', 'refused', 'trouble', 'stopped'];
const isBad = (one) => Boolean(one.state) && BAD.includes(stateOf(one));

const TooMany = ({ n, what }) => html`<div class="grid"><div class="panel"><div class="empty">${n} ${what} are too many for a picture: search for some.</div></div></div>`;

/** The graph: line width is the rate; failing nodes are red, with their reasons in the table. */
function Picture({ of: { nodes, edges, rows } }) {
  const named = nodes.filter(({ kind }) => kind !== 'way');
  if (named.length > DRAWN_MAX) return html`<${TooMany} n=${named.length} what="names" />`;
  const line = (path) => {
    const [a, b] = [path[0], path.at(-1)];
    const much = between(a, b, now) ?? 0;
    const drawn = path.slice(1).map((to, i) => {
      const from = path[i];
      const [fromX, fromY, toX, toY] = [x(from.column) + WIDE, y(from.row) + HIGH / 2, x(to.column), y(to.row) + HIGH / 2];
      return `${i === 0 ? 'M' : 'L'} ${fromX} ${fromY} C ${fromX + GAP / 2} ${fromY} ${toX - GAP / 2} ${toY} ${toX} ${toY}`;
    });
    return html`<path class=${isBad(a) || isBad(b) ? 'bad' : much > 0 ? 'busy' : ''} stroke-width=${1 + Math.min(8, 2 * Math.log10(1 + much))} d=${drawn.join(' ')} />`;
  };
  const box = (one) => {
    const much = through(one, now);
    return html`<a class=${isBad(one) ? 'box bad' : 'box'} href=${linkOf(one)} key=${one.id} style=${{ left: `${x(one.column)}px`, top: `${y(one.row)}px` }}>
      <b><${Text} of=${one.text} max=${60} /></b><span>${one.state ? html`<${State} word=${stateOf(one)} />` : html`<span class="dim">${KINDS[one.kind]}</span>`}${much !== null && html`<span class="num">${rate(much)}</span>`}</span></a>`;
  };
  const [width, height] = [x(4) + WIDE, y(rows)];
  return html`<div class="grid"><${Panel} title="The way of messages" right=${html`<span class="dim">lines by messages a second</span>`}>
    <div class="flow" tabindex="0" role="region" aria-label="The way of messages, as a picture"><div class="columns">${HEADS.map(([title, made], column) => html`<span key=${column}>${title}${made && mayWrite() && html` <a href=${made[1]} aria-label=${`New ${made[0]}`}>+</a>`}</span>`)}</div>
      <div class="drawn" style=${{ width: `${width}px`, height: `${height}px` }}><svg aria-hidden="true" width=${width} height=${height}>${edges.map(line)}</svg>${named.map(box)}</div></div><//></div>`;
}
