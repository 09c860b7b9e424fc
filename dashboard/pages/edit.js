// A sink or a cluster, new or with other keys: by a form, or as text. What is wrong stands at its line; what would change is shown before it does.

import { html, useEffect, useState } from '../vendor/preact.js';
import { ask, get, name as escaped } from '../api.js';
import { mistakes, toml } from '../diff.js';
import { Difference, Editor, Mistakes, Outcome } from '../editor.js';
import { PRESETS } from '../fields.js';
import { Form, schemaOf } from '../form.js';
import { AsCommand, Head, Panel, Segments, Text, WriteButton, usePolled } from '../parts.js';
import { Until } from './change.js';
import { Tried } from './infrastructure.js';

const NAME = /^[A-Za-z0-9._-]{1,100}$/;
const PARTS = {
  sinks: {
    title: 'Sinks', one: 'sink', section: 'sink', header: '[[sink]]', empty: { filters: 'example/#', topic: 'example' },
    presets: ['tbmq', 'emqx'],
    command: (name) => ['sinks', name, 'put', '--file', 'sink.toml', '--dry-run'],
    keys: ({ sink }, name) => sink?.find((one) => one.name === name),
  },
  clusters: {
    title: 'Clusters', one: 'cluster', section: 'kafka', header: '[kafka.NAME]', empty: { bootstrap: '127.0.0.1:9092' },
    presets: ['plain', 'confluent', 'tbmq', 'emqx'],
    keys: ({ kafka }, name) => kafka?.[name],
  },
};

/** What a part of the configuration in force has set. */
async function keysOf(part, name) {
  const found = PARTS[part].keys(await get('config'), name);
  if (!found) throw new Error(`no ${PARTS[part].one} ${name} in the configuration`);
  const { name: _, ...keys } = found;
  return Object.fromEntries(Object.entries(keys).filter(([, value]) => value !== null));
}

/** @param {{ part?: 'sinks' | 'clusters', name?: string }} props */
export function Edit({ part = 'sinks', name }) {
  const { title, one, section, header, empty, presets, command } = PARTS[part];
  const [schema, setSchema] = useState(null);
  const [before, setBefore] = useState(name ? null : '');
  const [to, setTo] = useState(name ?? '');
  /** Keys of the form; null: the text has been edited by hand, and the form does not know it. */
  const [keys, setKeys] = useState(/** @type {any} */ (name ? null : empty));
  const [text, setText] = useState(name ? '' : toml(empty));
  const [mode, setMode] = useState(name ? 'Text' : 'Form');
  const [filled, setFilled] = useState(0);
  const [draft, setDraft] = useState(null);
  /** What was said last: `problem`, what is `wrong` by line, or what `would` change. */
  const [state, setState] = useState(/** @type {any} */ ({}));
  const [persist, setPersist] = useState(false);
  const [busy, setBusy] = useState(false);
  const failed = (error) => setState({ problem: error.message });
  useEffect(() => {
    schemaOf(section).then(setSchema, failed);
    if (name) keysOf(part, name).then((found) => (setKeys(found), setBefore(toml(found)), setText(toml(found))), failed);
  }, [part, name]);
  const fill = (next) => (setKeys(next), setText(toml(next)), setState({}));
  const preset = (id) => {
    const of = PRESETS[id];
    const { name: called, keys: set } = part === 'sinks' ? of.sink : of.cluster;
    setTo(called);
    setDraft(part === 'sinks' ? of.cluster : null);
    fill(part === 'sinks' ? { kafka: null, ...set } : set);
    setFilled(filled + 1);
  };
  const send = async (query) => {
    setBusy(true);
    try {
      return await (await ask(`${part}/${escaped(to)}?${query}`, { method: 'PUT', toml: text })).json();
    } catch (error) {
      setState(error.status === 422 ? { wrong: mistakes(text, error.message, part === 'clusters' ? to : '') } : { problem: error.message });
      return null;
    } finally {
      setBusy(false);
    }
  };
  const check = async (event) => {
    event.preventDefault();
    const would = await send(`dry_run=true&persist=${persist}`);
    if (would) setState({ would });
  };
  const apply = async () => {
    const done = await send(`persist=${persist}`);
    if (done) location.hash = `#/${part}/${escaped(to)}`;
  };
  const isNamed = NAME.test(to);
  const byKey = Object.fromEntries((state.wrong ?? []).filter(({ key }) => key).map(({ key, what }) => [key, what]));
  const choices = part === 'sinks' && { kafka: html`<${Cluster} key="kafka" value=${keys?.kafka} draft=${draft} topic=${keys?.topic} wrong=${byKey.kafka} set=${(kafka) => fill({ ...keys, kafka })} />` };
  return html`
    <${Head} title=${html`<a href=${`#/${part}`}>${title}</a> / ${name ? html`<a href=${`#/${part}/${escaped(name)}`}><${Text} of=${name} max=${80} /></a> / Change` : `New ${one}`}`}>
      <${Segments} label="As" options=${['Form', 'Text']} value=${mode} choose=${(next) => (next === 'Text' || keys) && setMode(next)} />
      ${isNamed && html`<${AsCommand} path=${`${part}/${escaped(to)}?dry_run=true`} method="PUT" words=${command?.(to)} />`}
    <//>
    ${state.problem && html`<div class="banner bad" role="alert"><${Text} of=${state.problem} max=${600} /></div>`}
    ${!name && html`<div class="presets" role="group" aria-label="Begin with"><span class="dim">Begin with</span> ${presets.map((id) => html`<button type="button" onClick=${() => preset(id)}>${PRESETS[id].title}</button>`)}</div>`}
    <form class="panel editor" onSubmit=${check}>
      ${!name && html`<label>Name <input value=${to} required maxlength="100" spellcheck=${false} onInput=${(event) => setTo(event.target.value.trim())} aria-describedby="name-rule" /></label>
        <span class="dim" id="name-rule">Letters, digits and . _ -</span>`}
      ${mode === 'Text'
        ? html`<${Editor} label=${`Keys, as below ${header} in the configuration`} text=${text} change=${(next) => (setText(next), setKeys(null), setState({}))} wrong=${state.wrong} />
          ${!keys && before !== null && html`<span class="dim">The form does not know what is written here by hand.</span>`}`
        : schema && keys && html`<${Form} key=${filled} section=${section} schema=${schema} keys=${keys} change=${fill} choices=${choices || {}} wrong=${byKey} />
          <${Mistakes} wrong=${state.wrong ?? []} />
          <div class="toml"><span class="dim">What it writes, below ${header}</span><pre class="payload" tabindex="0" aria-label="TOML">${text}</pre></div>`}
      <div class="buttons"><button class="first" disabled=${busy || !isNamed || before === null}>Check</button>
        ${part === 'clusters' && mode === 'Form' && html`<${TestButton} name=${to} keys=${keys} disabled=${!isNamed} />`}
        <a class="button" href=${name ? `#/${part}/${escaped(name)}` : `#/${part}`}>Cancel</a></div>
    </form>
    ${state.would && html`<${Panel} title="What would change"><div class="inside">
      <${Difference} before=${before ?? ''} after=${text} />
      <${Outcome} of=${state.would} />
      <${Until} persist=${persist} choose=${setPersist} />
      <div class="buttons"><${WriteButton} kind="first" disabled=${busy} onClick=${apply}>Apply<//></div>
    </div><//>`}`;
}

/** Tries to connect to a cluster, with these keys where it is not configured yet, and looks for a topic. */
function TestButton({ name, keys = {}, topic = '', disabled = false }) {
  const [tried, setTried] = useState(null);
  const isLiteral = topic && !topic.includes('${');
  const test = async () => {
    setTried({ busy: true });
    const query = isLiteral ? `?${new URLSearchParams({ topic })}` : '';
    setTried(await get(`clusters/${escaped(name)}/test${query}`, { method: 'POST', body: keys }).catch((failure) => ({ failed: failure })));
  };
  return html`<${WriteButton} disabled=${disabled || tried?.busy} onClick=${test}>Test the connection<//>
    ${tried && html`<div class="wide" role="status"><${Tried} of=${tried} /></div>`}`;
}

const ANOTHER = '+';
/** The choice of a cluster; a new one is made in place. `draft`: what that begins with. */
function Cluster({ value, draft, topic, wrong, set }) {
  const [made, setMade] = useState(0);
  const { value: found } = usePolled(() => get('clusters'), `clusters ${made}`, 10_000);
  const [isNew, setNew] = useState(Boolean(draft));
  const names = found?.clusters.map((one) => one.name) ?? [];
  const chosen = isNew ? ANOTHER : (value ?? '');
  const choose = (next) => (setNew(next === ANOTHER), set(next === ANOTHER || !next ? null : next));
  return html`<div class="field"><label for="sink-kafka">Kafka cluster</label>
    <select id="sink-kafka" value=${chosen} aria-describedby="sink-kafka-says" onChange=${(event) => choose(event.target.value)}>
      <option value="">${names.length === 1 ? `the only one: ${names[0]}` : 'none'}</option>
      ${names.map((one) => html`<option value=${one}>${one}</option>`)}<option value=${ANOTHER}>New cluster</option></select>
    <span class="why" id="sink-kafka-says">${wrong && html`<b class="wrong"><${Text} of=${wrong} max=${400} /></b> `}Where the records go.</span>
    ${!isNew && (value || names.length === 1) && html`<div class="buttons"><${TestButton} key=${value} name=${value ?? names[0]} topic=${topic} /></div>`}
    ${isNew && html`<${NewCluster} draft=${draft} topic=${topic} done=${(name) => (setNew(false), setMade(made + 1), set(name))} />`}</div>`;
}

function NewCluster({ draft, topic, done }) {
  const [name, setName] = useState(draft?.name ?? '');
  const [keys, setKeys] = useState(draft?.keys ?? {});
  const [filled, setFilled] = useState(0);
  const [schema, setSchema] = useState(null);
  const [persist, setPersist] = useState(false);
  const [problem, setProblem] = useState('');
  useEffect(() => {
    schemaOf('kafka').then(setSchema, (error) => setProblem(error.message));
  }, []);
  const preset = (id) => {
    setName(PRESETS[id].cluster.name);
    setKeys(PRESETS[id].cluster.keys);
    setFilled(filled + 1);
  };
  const create = async () => {
    try {
      await ask(`clusters/${escaped(name)}?persist=${persist}`, { method: 'PUT', toml: toml(keys) });
      done(name);
    } catch (error) {
      setProblem(error.message);
    }
  };
  const isNamed = NAME.test(name);
  return html`<section class="panel editor" aria-label="New cluster">
    <div class="presets" role="group" aria-label="A cluster as">${['plain', 'confluent'].map((id) => html`<button type="button" onClick=${() => preset(id)}>${PRESETS[id].title}</button>`)}</div>
    <label>Name of the cluster <input value=${name} maxlength="100" spellcheck=${false} onInput=${(event) => setName(event.target.value.trim())} /></label>
    ${schema && html`<${Form} key=${filled} section="kafka" schema=${schema} keys=${keys} change=${setKeys} />`}
    <div class="toml"><span class="dim">What it writes</span><pre class="payload" tabindex="0" aria-label="TOML of the cluster">[kafka.${name}]${'\n'}${toml(keys)}</pre></div>
    ${problem && html`<div class="banner bad" role="alert"><${Text} of=${problem} max=${600} /></div>`}
    <${Until} group="until-cluster" persist=${persist} choose=${setPersist} />
    <div class="buttons"><${WriteButton} disabled=${!isNamed} onClick=${create}>Create the cluster<//><${TestButton} name=${name} keys=${keys} topic=${topic} disabled=${!isNamed} /></div>
  </section>`;
}
