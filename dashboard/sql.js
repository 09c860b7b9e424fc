// Inputs of trials of a statement: examples, and a message, an event or a record for the API; and words for statements.

import { members, object } from './json.js';

function others(text) {
  if (!text.trim()) return [];
  const value = JSON.parse(text);
  if (!value || typeof value !== 'object' || Array.isArray(value)) throw new Error('Other fields are a JSON object, as in {"keepalive": 60}');
  return members(text);
}

/** Events by the names of FROM, as messages of the form have them. */
export const EVENTS = [
  'client/connected', 'client/disconnected', 'client/connack', 'client/ping', 'auth/check_authn_complete',
  'session/subscribed', 'session/unsubscribed', 'message/dropped', 'message/delivery_dropped',
];

/** A form's first values. */
export const SAMPLE = { kind: 'Message', topic: 't/1', payload: '{"temp": 31.5, "room": 7}', clientid: 'c1', username: '', qos: 1, retain: false, properties: '', event: EVENTS[0], kafka_topic: '', key: '', value: '', more: '' };

/**
 * The fields of a sample, as SQL names them, as a JSON object. Empty ones are left to the service. A payload stays text.
 * @throws {Error} other fields are no JSON object
 */
export function context({ kind, topic, payload, clientid, username, qos, retain, properties, event, kafka_topic: from, key, value, more }) {
  const set = (fields) => Object.fromEntries(Object.entries(fields).filter(([, of]) => of !== ''));
  const given = others(more);
  if (kind === 'Event') return object({ event_type: `$events/${event}`, ...set({ clientid, username }) }, given);
  if (kind === 'Record') return object({ ...set({ topic: from, key }), value }, given);
  const pairs = properties.split('\n').filter((line) => line.trim()).map((line) => {
    const [name, ...rest] = line.split('=');
    return { name: name.trim(), text: JSON.stringify(rest.join('=').trim()) };
  });
  const known = pairs.length > 0 && !given.some(({ name }) => name === 'pub_props') ? [{ name: 'pub_props', text: `{"User-Property":${object({}, pairs)}}` }] : [];
  return object({ ...set({ topic, clientid, username }), payload, qos, retain }, [...known, ...given]);
}

/** Statements, each with its sample. */
export const EXAMPLES = [
  { title: 'Fields of the payload, where a condition holds', sql: 'SELECT payload.temp AS temp, clientid\nFROM "t/#"\nWHERE temp > 20' },
  { title: 'Everything', sql: 'SELECT *\nFROM "t/#"' },
  { title: 'An output for each item of a list', sql: 'FOREACH payload.sensors AS s\nDO clientid, s.name AS name, s.t AS t\nINCASE s.t > 0\nFROM "t/#"', sample: { payload: '{"sensors": [{"name": "a", "t": 1}, {"name": "b", "t": -1}]}' } },
  { title: 'Choosing by CASE', sql: "SELECT CASE WHEN payload.temp > 30 THEN 'hot' ELSE 'mild' END AS feels\nFROM \"t/#\"" },
  { title: 'Dates, and a variable of the environment', sql: "SELECT getenv(`EMQXVAR_KAFKA_TOPIC`) AS kafka_topic, now_rfc3339() AS at, payload\nFROM \"t/#\"" },
  { title: 'Clients that come', sql: 'SELECT clientid, event, timestamp\nFROM "$events/client/connected"', sample: { kind: 'Event' } },
  { title: 'Records of a source', sql: 'SELECT value.msg AS msg, key, ts\nFROM "$bridges/kafka_consumer:my-kafka-source"', sample: { kind: 'Record', kafka_topic: 'testtopic-out', key: 'k', value: '{"msg": "Hello EMQX"}' } },
];

/** The kind of sample for a statement, by the first name in FROM; null: unknown. */
export function kindOf(sql) {
  const from = sql.match(/\bFROM\s+["`]?(\$?[^"`\s,]*)/i)?.[1] ?? '';
  if (/^\$(bridges|sources)\/kafka_consumer:/.test(from)) return 'Record';
  if (from.startsWith('$events/')) return from.includes('message_publish') || from.includes('message/publish') ? 'Message' : 'Event';
  return from ? 'Message' : null;
}

/** Words of the language. */
export const KEYWORDS = [
  'SELECT', 'FOREACH', 'DO', 'INCASE', 'FROM', 'WHERE', 'AS', 'AND', 'OR', 'NOT', 'IN', 'CASE', 'WHEN', 'THEN', 'ELSE', 'END', 'DIV', 'MOD', 'TRUE', 'FALSE',
];
/** Fields of each kind of sample. */
export const FIELDS = {
  Message: ['client_attrs', 'clientid', 'event', 'flags', 'id', 'metadata', 'node', 'payload', 'peerhost', 'peername', 'pub_props', 'publish_received_at', 'qos', 'timestamp', 'topic', 'username'],
  Record: ['event', 'headers', 'key', 'metadata', 'node', 'offset', 'partition', 'timestamp', 'topic', 'ts', 'ts_type', 'value'],
  Event: ['client_attrs', 'clientid', 'conn_props', 'connected_at', 'disconnected_at', 'event', 'keepalive', 'metadata', 'node', 'peername', 'proto_name', 'proto_ver', 'reason', 'reason_code', 'sockname', 'timestamp', 'topic', 'username'],
};
const OFFERED_MAX = 8;
const DEPTH_MAX = 4;
const PATHS_MAX = 200;

/** Paths to the values of a JSON object, if their names need no quotes. */
function paths(of, before, found = []) {
  if (!of || typeof of !== 'object' || Array.isArray(of) || before.length > DEPTH_MAX) return found;
  for (const [key, value] of Object.entries(of)) {
    if (found.length >= PATHS_MAX) break;
    if (!/^[A-Za-z_]\w*$/.test(key)) continue;
    found.push([...before, key].join('.'));
    paths(value, [...before, key], found);
  }
  return found;
}

/** The fields of a sample, and those in its JSON payload or value. */
export function fieldsOf({ kind, payload, value }) {
  const [name, text] = kind === 'Record' ? ['value', value] : ['payload', kind === 'Message' ? payload : ''];
  let inside = null;
  try {
    inside = JSON.parse(text);
  } catch {
    // Not JSON: no fields are known.
  }
  return [...FIELDS[kind], ...paths(inside, [name])];
}

/** The quote that is open at the end of a text, with its index; null: none. */
function openQuote(text) {
  let open = null;
  for (let at = 0; at < text.length; at++) {
    if (open) open = text[at] === open.quote ? null : open;
    else if (text[at] === '"' || text[at] === "'") open = { quote: text[at], at };
  }
  return open;
}

/**
 * Words that fit at the cursor: `{ from, words: [{ word, what }] }`, or null. `isAsked`: without a letter as well.
 * @param {string} text
 * @param {number} at
 * @param {{ fields: string[], functions: { name: string, arguments: string, meaning: string }[], sources: string[] }} known
 */
export function offers(text, at, { fields, functions, sources }, isAsked = false) {
  const before = text.slice(0, at);
  const open = openQuote(before);
  const word = open ? before.slice(open.at + 1) : before.match(/[\w.]*$/)[0];
  if (/^\w/.test(text.slice(at)) || /^\d/.test(word) || (word === '' && !isAsked && !open)) return null;
  const all = [];
  if (open) {
    // A list in FROM, and no other quotes.
    if (open.quote !== '"' || !/\bFROM\s+("[^"]*"\s*,\s*)*$/i.test(before.slice(0, open.at))) return null;
    all.push(...EVENTS.map((name) => ({ word: `$events/${name}`, what: 'event' })), ...sources.map((name) => ({ word: `$bridges/kafka_consumer:${name}`, what: 'source' })));
  } else {
    all.push(...fields.map((name) => ({ word: name, what: 'field' })));
    if (!word.includes('.')) {
      all.push(...KEYWORDS.map((name) => ({ word: name, what: 'keyword' })), ...functions.map((one) => ({ word: `${one.name}(`, what: `${one.arguments} ${one.meaning}` })));
    }
  }
  const begins = word.toLowerCase();
  const words = all.filter((one) => one.word.toLowerCase().startsWith(begins) && one.word.toLowerCase() !== begins).slice(0, OFFERED_MAX);
  return words.length > 0 ? { from: at - word.length, words } : null;
}
