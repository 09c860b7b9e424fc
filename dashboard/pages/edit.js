// A sink, source, rule, bridge, cluster or listener, new or changed: by a form, or as text. Mistakes are shown at their lines; the effect is shown before the change.

import { html, useEffect, useState } from '../vendor/preact.js';
import { ask, get, name as escaped } from '../api.js';
import { Cluster, NAME, Sinks, TestButton } from '../choose.js';
import { mistakes, toml } from '../diff.js';
import { Difference, Editor, Mistakes, Outcome, statement } from '../editor.js';
import { PRESETS } from '../fields.js';
import { Form, schemaOf } from '../form.js';
import { Statement } from '../offers.js';
import { AsCommand, Head, Panel, Segments, Text, WriteButton } from '../parts.js';
import { kindOf } from '../sql.js';
import { Until } from './change.js';
import { Test } from './trial.js';

const FROM_RECORDS = (source) => `SELECT *\nFROM "$bridges/kafka_consumer:${source}"`;
/**
 * `preset`: the name in other products' guides; `begin`: keys from the address. Parts with `isTable` have their name in the header; `name`: the key of the
 * name of others, with the valid `names` and a `hint`.
 */
const PARTS = {
  sinks: { title: 'Sinks', one: 'sink', section: 'sink', header: '[[sink]]', preset: 'sink', presets: ['tbmq', 'emqx'], empty: { filters: 'example/#', topic: 'example' } },
  sources: { title: 'Sources', one: 'source', section: 'source', header: '[[source]]', preset: 'source', presets: ['emqx'], empty: { topic: 'example', mqtt_topic: 'example/${key}' } },
  rules: {
    title: 'Rules', one: 'rule', section: 'rule', header: '[[rule]]', preset: 'rule', presets: ['emqx'], empty: { sql: 'SELECT payload\nFROM "example/#"' }, mode: 'Form',
    begin: ({ source }) => (source ? { sql: FROM_RECORDS(source), republish: [{ topic: 't/1', payload: '${.}' }] } : null),
  },
  bridges: { title: 'Bridges', one: 'bridge', section: 'bridge', header: '[bridge.NAME]', isTable: true, presets: [], empty: { url: 'mqtt://127.0.0.1:1883', in: [{ filters: 'example/#' }] } },
  clusters: { title: 'Clusters', one: 'cluster', section: 'kafka', header: '[kafka.NAME]', isTable: true, preset: 'cluster', presets: ['plain', 'confluent', 'tbmq', 'emqx'], empty: { bootstrap: '127.0.0.1:9092' } },
  listeners: { title: 'Listeners', one: 'listener', section: 'listener', header: '[[listener]]', name: 'Address', names: /^(unix:\/|\S*:\d).*$/, hint: 'ADDRESS:PORT, or unix:/PATH', presets: [], empty: {} },
};

/** The written keys of a part; null: there is no such part. */
const keysOf = async (part, name) => (await get(`config/part?${new URLSearchParams({ of: `${PARTS[part].section} ${name}` })}`)).keys;

/** @param {{ part?: 'sinks' | 'sources' | 'rules' | 'bridges' | 'clusters' | 'listeners', name?: string, query?: object }} props */
export function Edit({ part = 'sinks', name, query = {} }) {
  const { title, one, section, header, presets, isTable, name: nameOf = 'Name', names = NAME, hint = 'Letters, digits and . _ -' } = PARTS[part];
  // A statement from the page SQL.
  const [brought] = useState(() => (part === 'rules' && statement.peek()?.name === (name ?? null) ? statement.peek() : null));
  useEffect(() => {
    if (brought) statement.value = null;
  }, []);
  const empty = { ...PARTS[part].empty, ...PARTS[part].begin?.(query), ...brought?.keys };
  const [schema, setSchema] = useState(null);
  const [before, setBefore] = useState(name ? null : '');
  const [to, setTo] = useState(name ?? brought?.to ?? '');
  /** Keys of the form; null: the text was edited by hand, and the form cannot show it. */
  const [keys, setKeys] = useState(/** @type {any} */ (name ? null : empty));
  const [text, setText] = useState(name ? '' : toml(empty));
  const [mode, setMode] = useState(name ? (PARTS[part].mode ?? 'Text') : 'Form');
  const [filled, setFilled] = useState(0);
  const [draft, setDraft] = useState(null);
  /** The last answer: `problem`, mistakes by line (`wrong`), or effect (`would`). */
  const [state, setState] = useState(/** @type {any} */ ({}));
  const [persist, setPersist] = useState(false);
  const [busy, setBusy] = useState(false);
  const failed = (error) => setState({ problem: error.message });
  useEffect(() => {
    schemaOf(section).then(setSchema, failed);
    if (name) keysOf(part, name).then((found) => (found ? (setBefore(toml(found)), fill({ ...found, ...brought?.keys })) : failed(new Error(`no ${one} ${name} in the configuration`))), failed);
  }, [part, name]);
  const fill = (next) => (setKeys(next), setText(toml(next)), setState({}));
  const preset = (id) => {
    const { name: called, keys: set } = PRESETS[id][PARTS[part].preset];
    const hasCluster = part === 'sinks' || part === 'sources';
    setTo(called);
    setDraft(hasCluster ? PRESETS[id].cluster : null);
    fill(hasCluster ? { kafka: null, ...set } : set);
    setFilled(filled + 1);
  };
  /** From the first question to the last answer nothing else is begun. */
  const busily = (work) => async (how) => {
    setBusy(true);
    await work(how).finally(() => setBusy(false));
  };
  const send = async (query, kept = {}) => {
    try {
      return await (await ask(`${part}/${escaped(to)}?${query}`, { method: 'PUT', toml: text })).json();
    } catch (error) {
      setState(error.status === 422 ? { wrong: mistakes(text, error.message, isTable ? to : ''), sql: await inStatement(keys?.sql) } : { ...kept, problem: error.message });
      return null;
    }
  };
  /** Conflicts: a new part replaces none; what another user has changed since it was read is shown as a loss. */
  const inTheWay = async () => {
    const now = await keysOf(part, to);
    if (!name) return now && { problem: `There is a ${one} ${to} already: it is changed on its own page. A new one needs another name.` };
    if (now && toml(now) === before) return null;
    if (now) setBefore(toml(now));
    return { meanwhile: now ? 'Somebody else has changed it since it was read. What that would lose is in the difference.' : 'Somebody else has deleted it since it was read. This would make it again.' };
  };
  /** @param {{ lasting?: boolean, kept?: object }} [how] `kept`: of what was said last, also where it cannot be done */
  const check = busily(async ({ lasting = persist, kept = {} } = {}) => {
    const found = await inTheWay().catch(({ message }) => ({ problem: message }));
    if (found?.problem) return setState({ ...kept, ...found });
    const would = await send(`dry_run=true&persist=${lasting}`, kept);
    if (would) setState({ ...kept, ...found, would });
  });
  const submit = (event) => {
    event.preventDefault();
    return check();
  };
  const choose = (lasting) => {
    setPersist(lasting);
    const { meanwhile, would } = state;
    return check({ lasting, kept: { meanwhile, would } });
  };
  const apply = busily(async () => {
    if (await inTheWay().catch(() => null)) return check();
    const done = await send(`persist=${persist}`, { would: state.would });
    if (done) location.hash = `#/${part}/${escaped(to)}${part === 'sources' && !name ? '?made=yes' : ''}`;
  });
  const tryOut = () => {
    statement.value = { name: name ?? null, to, keys };
    location.hash = `#/sql${name ? `?${new URLSearchParams({ rule: name })}` : ''}`;
  };
  const isNamed = names.test(to);
  const byKey = Object.fromEntries((state.wrong ?? []).filter(({ key }) => key).map(({ key, what }) => [key, what]));
  const cluster = (says) => html`<${Cluster} key=${`kafka ${filled}`} section=${section} value=${keys?.kafka} draft=${draft} topic=${keys?.topic} wrong=${byKey.kafka} says=${says} set=${(kafka) => fill({ ...keys, kafka })} />`;
  const choices = {
    sinks: () => ({ kafka: cluster('Where the records go.') }),
    sources: () => ({ kafka: cluster('Where the records come from.') }),
    rules: () => ({
      sql: html`<div class="field wide" key="sql"><${Statement} label="Statement (SQL)" id="sql-mistakes" sample=${{ kind: kindOf(keys?.sql ?? '') ?? 'Message' }} text=${keys?.sql ?? ''} change=${(sql) => fill({ ...keys, sql })} wrong=${state.sql} />
        <div class="buttons"><button type="button" onClick=${tryOut}>Try it</button></div></div>`,
      sinks: html`<${Sinks} key="sinks" value=${keys?.sinks} wrong=${byKey.sinks} set=${(sinks) => fill({ ...keys, sinks })} />`,
    }),
  }[part]?.() ?? {};
  return html`
    <${Head} title=${html`<a href=${`#/${part}`}>${title}</a> / ${name ? html`<a href=${`#/${part}/${escaped(name)}`}><${Text} of=${name} max=${80} /></a> / Change` : `New ${one}`}`}>
      <${Segments} label="As" options=${['Form', 'Text']} value=${mode} choose=${(next) => (next === 'Text' || keys) && setMode(next)} />
      ${isNamed && html`<${AsCommand} path=${`${part}/${escaped(to)}?dry_run=true`} method="PUT" words=${[part, to, 'put', '--file', `${one}.toml`, '--dry-run']} />`}
    <//>
    ${state.problem && html`<div class="banner bad" role="alert"><${Text} of=${state.problem} max=${600} /></div>`}
    ${!name && presets.length > 0 && html`<div class="presets" role="group" aria-label="Begin with"><span class="dim">Begin with</span> ${presets.map((id) => html`<button type="button" onClick=${() => preset(id)}>${PRESETS[id].title}</button>`)}</div>`}
    <form class="panel editor" onSubmit=${submit}>
      ${!name && html`<label>${nameOf} <input value=${to} required maxlength="100" spellcheck=${false} onInput=${(event) => setTo(event.target.value.trim())} aria-describedby="name-rule" /></label>
        <span class="dim" id="name-rule">${hint}</span>`}
      ${mode === 'Text'
        ? html`<${Editor} label=${`Keys, as below ${header} in the configuration`} text=${text} change=${(next) => (setText(next), setKeys(null), setState({}))} wrong=${state.wrong} />
          ${!keys && before !== null && html`<span class="dim">The form does not know what is written here by hand.</span>`}`
        : schema && keys && html`<${Form} key=${filled} section=${section} schema=${schema} keys=${keys} change=${fill} choices=${choices} wrong=${byKey} />
          <${Mistakes} wrong=${state.wrong ?? []} />
          <div class="toml"><span class="dim">${name ? `Its keys, below ${header}; of the file only those change that change here` : `What it writes, below ${header}`}</span><pre class="payload" tabindex="0" aria-label="TOML">${text || '# all keys have their defaults'}</pre></div>`}
      <div class="buttons"><button class="first" disabled=${busy || !isNamed || before === null}>Check</button>
        ${(part === 'sources' || part === 'bridges') && mode === 'Form' && html`<${Test} part=${part} name=${to} keys=${keys} disabled=${!isNamed} />`}
        ${part === 'clusters' && mode === 'Form' && html`<${TestButton} name=${to} keys=${keys} disabled=${!isNamed} />`}
        <a class="button" href=${name ? `#/${part}/${escaped(name)}` : `#/${part}`}>Cancel</a></div>
    </form>
    ${state.would && html`<${Panel} title="What would change"><div class="inside">
      ${state.meanwhile && html`<div class="banner bad" role="alert">${state.meanwhile}</div>`}
      <${Difference} before=${before ?? ''} after=${text} />
      <${Outcome} of=${state.would} differs=${before !== text} />
      <${Until} persist=${persist} choose=${choose} />
      <div class="buttons"><${WriteButton} kind="first" disabled=${busy} onClick=${apply}>Apply<//></div>
    </div><//>`}`;
}

/** The mistakes of a statement, by line. */
async function inStatement(sql) {
  if (!sql) return [];
  return get('sql/test', { method: 'POST', body: { sql } }).then(() => [], ({ message }) => mistakes(sql, message.split('\n')[0]).filter(({ line }) => line > 0));
}
