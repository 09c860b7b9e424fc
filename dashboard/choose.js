// Choices of other parts in a form: a sink's or source's cluster, a rule's sinks. New parts are created in place.

import { html, useEffect, useState } from './vendor/preact.js';
import { get, name as escaped } from './api.js';
import { toml } from './diff.js';
import { Outcome } from './editor.js';
import { PRESETS } from './fields.js';
import { Form, schemaOf } from './form.js';
import { Text, WriteButton, usePolled } from './parts.js';
import { Until } from './pages/change.js';
import { Tried } from './pages/infrastructure.js';

export const NAME = /^[A-Za-z0-9._-]{1,100}$/;

/** Tries to connect to a cluster, with these keys if it is not configured yet, and looks for a topic. */
export function TestButton({ name, keys = {}, topic = '', disabled = false }) {
  const [tried, setTried] = useState(null);
  const isLiteral = typeof topic === 'string' && topic && !topic.includes('${');
  const test = async () => {
    setTried({ busy: true });
    const query = isLiteral ? `?${new URLSearchParams({ topic })}` : '';
    setTried(await get(`clusters/${escaped(name)}/test${query}`, { method: 'POST', body: keys }).catch((failure) => ({ failed: failure })));
  };
  return html`<${WriteButton} disabled=${disabled || tried?.busy} onClick=${test}>Test the connection<//>
    ${tried && html`<div class="wide" role="status"><${Tried} of=${tried} /></div>`}`;
}

const ANOTHER = '+';
/** The choice of a cluster. `draft`: keys of a new one; `says`: its purpose. */
export function Cluster({ section, value, draft = null, topic, wrong, says, set }) {
  const [made, setMade] = useState(0);
  const { value: found } = usePolled(() => get('clusters'), `clusters ${made}`, 10_000);
  const [isNew, setNew] = useState(Boolean(draft));
  const names = found?.clusters.map((one) => one.name) ?? [];
  const chosen = isNew ? ANOTHER : (value ?? '');
  const choose = (next) => (setNew(next === ANOTHER), set(next === ANOTHER || !next ? null : next));
  const id = `${section}-kafka`;
  return html`<div class="field"><label for=${id}>Kafka cluster</label>
    <select id=${id} value=${chosen} aria-describedby=${`${id}-says`} onChange=${(event) => choose(event.target.value)}>
      <option value="">${names.length === 1 ? `the only one: ${names[0]}` : 'none'}</option>
      ${names.map((one) => html`<option value=${one}>${one}</option>`)}<option value=${ANOTHER}>New cluster</option></select>
    <span class="why" id=${`${id}-says`}>${wrong && html`<b class="wrong"><${Text} of=${wrong} max=${400} /></b> `}${says}</span>
    ${!isNew && (value || names.length === 1) && html`<div class="buttons"><${TestButton} key=${value} name=${value ?? names[0]} topic=${topic} /></div>`}
    ${isNew && html`<${Made} part="clusters" draft=${draft} topic=${topic} done=${(name) => (setNew(false), setMade(made + 1), set(name))} />`}</div>`;
}

/** A rule's sinks are shown one by one up to this number. */
const LISTED_MAX = 200;
/** The choice of a rule's sinks. */
export function Sinks({ value, wrong, set }) {
  const [made, setMade] = useState(0);
  const { value: found } = usePolled(() => get('sinks'), `sinks ${made}`, 10_000);
  const [isNew, setNew] = useState(false);
  const chosen = [value ?? []].flat();
  const known = (found?.sinks ?? []).map((one) => one.name).slice(0, LISTED_MAX);
  const names = [...known, ...chosen.filter((one) => !known.includes(one))];
  const choose = (name, is) => {
    const next = is ? [...chosen, name] : chosen.filter((one) => one !== name);
    set(next.length ? next : null);
  };
  return html`<fieldset class="field wide" aria-describedby="rule-sinks-says"><legend>Sinks</legend>
    <span class="why" id="rule-sinks-says">${wrong && html`<b class="wrong"><${Text} of=${wrong} max=${400} /></b> `}Each output becomes a record of each of them.</span>
    <div class="choices">${names.map((one) => html`<label class="row"><input type="checkbox" checked=${chosen.includes(one)} onChange=${(event) => choose(one, event.target.checked)} /><${Text} of=${one} max=${80} /></label>`)}</div>
    ${(found?.sinks.length ?? 0) > LISTED_MAX && html`<span class="why">And ${found.sinks.length - LISTED_MAX} more: as text they can be named.</span>`}
    <div class="buttons"><button type="button" aria-expanded=${String(isNew)} onClick=${() => setNew(!isNew)}>New sink for this rule</button></div>
    ${isNew && html`<${Made} part="sinks" done=${(name) => (setNew(false), setMade(made + 1), choose(name, true))} />`}</fieldset>`;
}

const MADE = {
  clusters: { one: 'cluster', section: 'kafka', header: (name) => `[kafka.${name}]`, presets: ['plain', 'confluent'] },
  sinks: { one: 'sink', section: 'sink', header: (name) => `[[sink]]\nname = "${name}"`, presets: [] },
};
/** A part created in the form of another one. */
function Made({ part, draft = null, topic = '', done }) {
  const { one, section, header, presets } = MADE[part];
  const [name, setName] = useState(draft?.name ?? '');
  const [keys, setKeys] = useState(draft?.keys ?? {});
  const [filled, setFilled] = useState(0);
  const [schema, setSchema] = useState(null);
  const [persist, setPersist] = useState(false);
  const [problem, setProblem] = useState('');
  /** Effect of the new part; null: not asked for since its keys changed. */
  const [would, setWould] = useState(null);
  useEffect(() => setWould(null), [name, keys]);
  useEffect(() => {
    schemaOf(section).then(setSchema, (error) => setProblem(error.message));
  }, []);
  const preset = (id) => {
    setName(PRESETS[id].cluster.name);
    setKeys(PRESETS[id].cluster.keys);
    setFilled(filled + 1);
  };
  const send = async (isCheck, lasting) => {
    try {
      // An existing part has other users: a new one never replaces it.
      const all = (await get(part))[part];
      if (all.some((other) => other.name === name)) throw new Error(`There is a ${one} ${name} already: choose it, or give the new one another name.`);
      const answer = await get(`${part}/${escaped(name)}?dry_run=${isCheck}&persist=${lasting}`, { method: 'PUT', toml: toml(keys) });
      setProblem('');
      if (isCheck) setWould(answer);
      else done(name);
    } catch (error) {
      setProblem(error.message);
    }
  };
  const choose = (lasting) => (setPersist(lasting), send(true, lasting));
  const isNamed = NAME.test(name);
  const choices = part === 'sinks' ? { kafka: html`<${Cluster} key="kafka" section="sink" value=${keys.kafka} topic=${keys.topic} says="Where the records go." set=${(kafka) => setKeys({ ...keys, kafka })} />` } : {};
  return html`<section class="panel editor" aria-label=${`New ${one}`}>
    ${presets.length > 0 && html`<div class="presets" role="group" aria-label="A cluster as">${presets.map((id) => html`<button type="button" onClick=${() => preset(id)}>${PRESETS[id].title}</button>`)}</div>`}
    <label>Name of the ${one} <input value=${name} maxlength="100" spellcheck=${false} onInput=${(event) => setName(event.target.value.trim())} /></label>
    ${schema && html`<${Form} key=${filled} section=${section} schema=${schema} keys=${keys} change=${setKeys} choices=${choices} />`}
    <div class="toml"><span class="dim">What it writes</span><pre class="payload" tabindex="0" aria-label=${`TOML of the ${one}`}>${header(name)}${'\n'}${toml(keys)}</pre></div>
    ${problem && html`<div class="banner bad" role="alert"><${Text} of=${problem} max=${600} /></div>`}
    <div class="buttons"><${WriteButton} disabled=${!isNamed} onClick=${() => send(true, persist)}>Check the ${one}<//>${part === 'clusters' && html`<${TestButton} name=${name} keys=${keys} topic=${topic} disabled=${!isNamed} />`}</div>
    ${would && html`<section class="panel" aria-label="What it changes"><div class="inside">
      <${Outcome} of=${would} />
      <${Until} group=${`until-${one}`} persist=${persist} choose=${choose} />
      <p>It is created at once, before the rest of this form is applied, and stays where that is not.</p>
      <div class="buttons"><${WriteButton} onClick=${() => send(false, persist)}>Create the ${one}<//></div></div></section>`}
  </section>`;
}
