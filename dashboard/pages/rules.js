// Rules: the list, and one with its plots, its statement and its failures.

import { html, useState } from '../vendor/preact.js';
import { get, name as escaped } from '../api.js';
import { RANGES } from '../history.js';
import { layout, objects, value, word } from '../live.js';
import { AsCommand, Big, Head, Panel, Segments, State, Text, Tile, or, usePolled } from '../parts.js';
import { Plot, useColumns } from '../plot.js';
import { count, dateTime, rate } from '../text.js';
import { Lines } from '../editor.js';
import { Actions, Gone, PartList, liveOr } from './actions.js';
import { Edit } from './edit.js';
import { EventList, useEvents } from './events.js';

/** @param {any} props */
export const Rules = (props) => (props.query.new ? html`<${Edit} part="rules" query=${props.query} />` : html`<${List} ...${props} />`);

const sum = (of) => of.passed_per_second + of.filtered_per_second + of.failed_per_second;
/** The topics of its messages. */
const republished = ({ republish }) => republish.map(({ topic }) => topic).join(', ');

function List({ query, set }) {
  layout.value;
  const states = objects('rule').map(({ name }) => word('rule', name)).join();
  const { value: found, problem } = usePolled(() => get('rules'), states, 5000);
  const cell = liveOr('rule');
  const columns = [
    { title: 'Rule', cell: ({ name, description }) => html`<a href=${`#/rules/${escaped(name)}`}><${Text} of=${name} max=${80} /></a>${description && html`<span class="why"><${Text} of=${description} /></span>`}` },
    { title: 'State', cell: ({ state, last_failure: last }) => html`<${State} word=${state} />${last && html`<span class="why">failed at ${dateTime(Date.parse(last.time))}: <${Text} of=${last.reason} max=${300} /></span>`}` },
    { title: 'From', cell: ({ from }) => html`<code class="cut"><${Text} of=${from.join(', ')} max=${160} /></code>` },
    { title: 'To sinks', cell: ({ sinks }) => (sinks.length === 0 ? or(null) : sinks.map((sink, at) => html`${at > 0 && ', '}<a href=${`#/sinks/${escaped(sink)}`}><${Text} of=${sink} max=${80} /></a>`)) },
    { title: 'Publishes to', cell: (rule) => (republished(rule) ? html`<code class="cut"><${Text} of=${republished(rule)} max=${160} /></code>` : or(null)) },
    { title: 'Evaluated', number: true, cell: ({ rate: of }) => rate(sum(of)) },
    { title: 'Passed', number: true, cell: cell('passed', count, (rule) => rule.passed) },
    { title: 'Filtered', number: true, cell: cell('filtered', count, (rule) => rule.filtered) },
    { title: 'Failed', number: true, cell: cell('failed', count, (rule) => rule.failed) },
  ];
  return html`<${PartList} part="rules" title="Rules" one="rule" all=${found?.rules} problem=${problem} columns=${columns} query=${query} set=${set}>There is no rule: sinks get messages by their filters. A rule filters messages and makes records of them, in SQL. <a href="#/sql">Try one</a>.<//>`;
}

/** @param {any} props */
export const Rule = (props) => (props.query.edit ? html`<${Edit} part="rules" name=${props.name} />` : html`<${One} ...${props} />`);

const SERIES = ['passed_per_second', 'filtered_per_second', 'failed_per_second'];

function One({ name, query, set }) {
  const range = RANGES[query.range] ? query.range : '5m';
  layout.value;
  const isLive = objects('rule').some((one) => one.name === name);
  const [changes, setChanges] = useState(0);
  const { value: rule, problem } = usePolled(() => get(`rules/${escaped(name)}`), `${name} ${changes}`, 2000);
  if (problem?.status === 404) return html`<${Gone} part="rules" title="Rules" one="Rule" name=${name} problem=${problem} />`;
  const isPaused = rule?.state === 'disabled';
  return html`
    <${Head} title=${html`<a href="#/rules">Rules</a> / <${Text} of=${name} max=${80} />`} sub=${rule && html`<${State} word=${rule.state} />`}>
      <${Segments} label="Range" options=${Object.keys(RANGES)} value=${range} choose=${(next) => set({ range: next })} />
      <a class="button" href=${`#/sql?${new URLSearchParams({ rule: name })}`}>Try it</a>
      <${Actions} part="rules" one="rule" name=${name} isPaused=${isPaused} set=${set} done=${() => setChanges(changes + 1)}
        pause="For its sinks it is as if no message matched. Records that it has made are still written."
        resume="It is evaluated for the messages that follow."
        remove="It is evaluated no more. Records that it has made are still written." />
      <${AsCommand} path=${`rules/${escaped(name)}`} words=${['rules', name]} />
    <//>
    ${rule?.last_failure && html`<div class="banner" role="status">It failed at ${dateTime(Date.parse(rule.last_failure.time))}: <${Text} of=${rule.last_failure.reason} max=${600} />${rule.last_failure.mqtt_topic !== null && html`, topic <code><${Text} of=${rule.last_failure.mqtt_topic} max=${200} /></code>`}${rule.last_failure.client !== null && html`, client <a href=${`#/clients/${escaped(rule.last_failure.client)}`}><${Text} of=${rule.last_failure.client} max=${80} /></a>`}</div>`}
    <${Numbers} name=${name} rule=${rule} isLive=${isLive} />
    ${isLive && html`<${Plots} name=${name} range=${range} />`}
    ${rule && html`<div class="grid side"><${Goes} rule=${rule} />
      <${Panel} title="Statement"><pre class="payload" tabindex="0" aria-label="Statement"><${Lines} of=${rule.sql} /></pre><//></div>`}
    <${RuleEvents} name=${name} />`;
}

function Numbers({ name, rule, isLive }) {
  const big = (series, as, field) => (isLive ? html`<${Big} get=${() => value('rule', name, series)} as=${as} />` : html`<span class="num">${as(rule && field(rule))}</span>`);
  const failures = rule && Object.entries(rule.failures).filter(([, n]) => n > 0).map(([why, n]) => `${why} ${count(n)}`).join(', ');
  const of = rule?.publications;
  return html`<dl class="tiles">
    <${Tile} label="Passed" more=${rule ? `${count(rule.passed)} since the start` : ''}>${big('passed_per_second', rate, (one) => one.rate.passed_per_second)}<//>
    <${Tile} label="Filtered" more=${rule ? `${count(rule.filtered)} since the start` : ''}>${big('filtered_per_second', rate, (one) => one.rate.filtered_per_second)}<//>
    <${Tile} label="Failed" more=${failures || 'nothing'}>${big('failed', count, (one) => one.failed)}<//>
    <${Tile} label="Outputs" more="since the start"><span class="num">${count(rule?.outputs)}</span><//>
    <${Tile} label="Published" more="messages of its outputs"><span class="num">${count(of?.taken)}</span><//>
    <${Tile} label="That nobody has" more="of those"><span class="num">${count(of?.unmatched)}</span><//>
    <${Tile} label="Refused, in a circle" more="of those"><span class="num">${count(of?.refused)}, ${count(of?.loop)}</span><//>
    <${Tile} label="Comparisons of unlike types" more="see SQL.md"><span class="num">${count(rule?.mixed_comparisons)}</span><//>
  </dl>`;
}

function Plots({ name, range }) {
  const columns = useColumns('rule', name, SERIES, range);
  const plot = (title, series) => html`<${Plot} key=${title} title=${title} unit="rate" series=${series} columns=${columns} range=${range} />`;
  return html`<div class="grid two">
    ${plot('Messages', [{ name: 'passed_per_second', label: 'passed' }, { name: 'filtered_per_second', label: 'filtered' }])}
    ${plot('Failures', [{ name: 'failed_per_second', label: 'failed' }])}</div>`;
}

/** Origins of its messages, destinations of its outputs. */
function Goes({ rule }) {
  const rows = [
    ['From', html`<code><${Text} of=${rule.from.join(', ')} max=${600} /></code>`],
    ['Sinks', rule.sinks.length ? rule.sinks.map((sink, at) => html`${at > 0 && ', '}<a href=${`#/sinks/${escaped(sink)}`}><${Text} of=${sink} max=${80} /></a>`) : 'none'],
    ...rule.republish.map(({ topic, payload, qos }) => ['Publishes', html`<code><${Text} of=${topic} max=${200} /></code>, payload <code><${Text} of=${payload} max=${200} /></code>, QoS <code><${Text} of=${qos} max=${60} /></code>`]),
    ['When it fails', rule.on_error],
  ];
  return html`<${Panel} title="Configuration"><dl class="facts">${rows.map(([what, text]) => html`<dt>${what}</dt><dd>${text}</dd>`)}</dl><//>`;
}

function RuleEvents({ name }) {
  const { list, loaded } = useEvents({ kind: 'rule_failed' });
  const events = list.filter((event) => event.sql_rule === name);
  return html`<${Panel} title="Failures among the events" right=${html`<a href="#/events?kind=rule_failed">All</a>`}>${loaded && html`<${EventList} list=${events.slice(0, 8)} />`}<//>`;
}
