// What a statement is tried on: examples, and a message, an event or a record as the API takes it.

const object = (text) => {
  if (!text.trim()) return {};
  const value = JSON.parse(text);
  if (!value || typeof value !== 'object' || Array.isArray(value)) throw new Error('Other fields are a JSON object, as in {"keepalive": 60}');
  return value;
};

/** Events by the names of FROM, as messages of the form have them. */
export const EVENTS = [
  'client/connected', 'client/disconnected', 'client/connack', 'client/ping', 'auth/check_authn_complete',
  'session/subscribed', 'session/unsubscribed', 'message/dropped', 'message/delivery_dropped',
];

/** What a form begins with. */
export const SAMPLE = { kind: 'Message', topic: 't/1', payload: '{"temp": 31.5, "room": 7}', clientid: 'c1', username: '', qos: 1, retain: false, properties: '', event: EVENTS[0], kafka_topic: '', key: '', value: '', more: '' };

/**
 * The fields of a sample, as SQL names them. What is empty is left to the service. A payload stays text.
 * @throws {Error} other fields are no JSON object
 */
export function context({ kind, topic, payload, clientid, username, qos, retain, properties, event, kafka_topic: from, key, value, more }) {
  const set = (fields) => Object.fromEntries(Object.entries(fields).filter(([, of]) => of !== ''));
  if (kind === 'Event') return { event_type: `$events/${event}`, ...set({ clientid, username }), ...object(more) };
  if (kind === 'Record') return { ...set({ topic: from, key }), value, ...object(more) };
  const pairs = properties.split('\n').filter((line) => line.trim()).map((line) => {
    const [name, ...rest] = line.split('=');
    return [name.trim(), rest.join('=').trim()];
  });
  return { ...set({ topic, clientid, username }), payload, qos, retain, ...(pairs.length > 0 && { pub_props: { 'User-Property': Object.fromEntries(pairs) } }), ...object(more) };
}

/** A statement each, with what it is tried on. */
export const EXAMPLES = [
  { title: 'Fields of the payload, where a condition holds', sql: 'SELECT payload.temp AS temp, clientid\nFROM "t/#"\nWHERE temp > 20' },
  { title: 'Everything', sql: 'SELECT *\nFROM "t/#"' },
  { title: 'An output for each item of a list', sql: 'FOREACH payload.sensors AS s\nDO clientid, s.name AS name, s.t AS t\nINCASE s.t > 0\nFROM "t/#"', sample: { payload: '{"sensors": [{"name": "a", "t": 1}, {"name": "b", "t": -1}]}' } },
  { title: 'Choosing by CASE', sql: "SELECT CASE WHEN payload.temp > 30 THEN 'hot' ELSE 'mild' END AS feels\nFROM \"t/#\"" },
  { title: 'Dates, and a variable of the environment', sql: "SELECT getenv(`EMQXVAR_KAFKA_TOPIC`) AS kafka_topic, now_rfc3339() AS at, payload\nFROM \"t/#\"" },
  { title: 'Clients that come', sql: 'SELECT clientid, event, timestamp\nFROM "$events/client/connected"', sample: { kind: 'Event' } },
  { title: 'Records of a source', sql: 'SELECT value.msg AS msg, key, ts\nFROM "$bridges/kafka_consumer:my-kafka-source"', sample: { kind: 'Record', kafka_topic: 'testtopic-out', key: 'k', value: '{"msg": "Hello EMQX"}' } },
];

/** The kind of sample that a statement needs, by what its FROM names first; null: that cannot be seen. */
export function kindOf(sql) {
  const from = sql.match(/\bFROM\s+["`]?(\$?[^"`\s,]*)/i)?.[1] ?? '';
  if (/^\$(bridges|sources)\/kafka_consumer:/.test(from)) return 'Record';
  if (from.startsWith('$events/')) return from.includes('message_publish') || from.includes('message/publish') ? 'Message' : 'Event';
  return from ? 'Message' : null;
}
