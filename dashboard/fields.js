// Fields of forms: their order and labels, presets of other products' guides, and their display and parsing.

/** First fields, in this order, with their labels. Required keys are always among them; the rest is below "Advanced". */
export const FIRST = {
  sink: [
    ['description', 'Description'],
    ['kafka', 'Kafka cluster'],
    ['filters', 'MQTT topic filters'],
    ['topic', 'Kafka topic'],
    ['key', 'Record key'],
    ['value_format', 'Record value'],
    ['acknowledge', 'Acknowledge a message when'],
  ],
  kafka: [
    ['description', 'Description'],
    ['bootstrap', 'Bootstrap brokers'],
    ['tls', 'TLS'],
    ['sasl', 'Login (SASL)'],
  ],
  rule: [
    ['description', 'Description'],
    ['sql', 'Statement (SQL)'],
    ['sinks', 'Sinks'],
    ['republish', 'Messages that it publishes'],
  ],
  source: [
    ['description', 'Description'],
    ['kafka', 'Kafka cluster'],
    ['topic', 'Kafka topic'],
    ['mqtt_topic', 'MQTT topic'],
    ['payload', 'Payload'],
    ['group', 'Consumer group'],
    ['key_encoding', 'Encoding of the key'],
    ['value_encoding', 'Encoding of the value'],
    ['offset_reset', 'Without an offset, begin with'],
  ],
  listener: [
    ['transport', 'Transport'],
    ['auth', 'Auth'],
    ['open', 'Open to everyone'],
    ['tls', 'TLS'],
    ['ws', 'WebSocket'],
  ],
  bridge: [
    ['description', 'Description'],
    ['url', 'Remote broker'],
    ['username', 'User name'],
    ['password_file', 'File with the password'],
    ['in', 'Messages from the remote'],
    ['out', 'Messages to the remote'],
  ],
};

/** Settings of other products' guides, and of two cluster kinds. Presets with a `sink` are in examples/ as well; a test compares them. */
export const PRESETS = {
  tbmq: {
    title: 'As in TBMQ',
    cluster: { name: 'tbmq', keys: { description: "TBMQ's Kafka integration", bootstrap: '127.0.0.1:9092', client_id: 'tbmq-ie-kafka-producer' } },
    sink: { name: 'tbmq', keys: { filters: 'tbmq/#', topic: 'tbmq.messages', value_format: 'json', acknowledge: 'replicated', batch_bytes: '16KiB', linger: '0ms', compression: 'none' } },
  },
  emqx: {
    title: 'As in EMQX',
    cluster: { name: 'my-kafka', keys: { bootstrap: '127.0.0.1:9092' } },
    sink: { name: 'my_rule', keys: { filters: 't/#', topic: 'testtopic-in', key: '${clientid}', value_format: 'json', batch_bytes: '896KiB', acknowledge: 'replicated' } },
    rule: { name: 'my_rule', keys: { sql: 'SELECT *\nFROM "t/#"' } },
    source: { name: 'my-kafka-source', keys: { topic: 'testtopic-out', mqtt_topic: 't/1' } },
  },
  plain: { title: 'Plain Kafka', cluster: { name: 'main', keys: { bootstrap: '127.0.0.1:9092' } } },
  confluent: {
    title: 'Confluent Cloud',
    cluster: { name: 'confluent', keys: { bootstrap: 'pkc-XXXXX.REGION.PROVIDER.confluent.cloud:9092', tls: {}, sasl: { mechanism: 'PLAIN', username: 'API_KEY', password_file: '/etc/forebay/confluent-secret' } } },
  },
};

/** The kind of a key's field. */
export function kindOf(of) {
  if (of.properties) return 'group';
  if (of.enum) return 'word';
  if (of.type === 'boolean') return 'flag';
  if (of.type === 'integer' || of.type === 'number') return 'number';
  if (of.type === 'object') return 'table';
  if (of.type === 'array') return 'tables';
  if (of.anyOf?.some((one) => one.type === 'array')) return 'list';
  return of.anyOf?.some((one) => one.enum || ['boolean', 'integer'].includes(one.type)) ? 'literal' : 'text';
}

/** Display and parsing of a field's value. Empty is not set. */
const SHOWN = {
  list: (value) => [value].flat().join('\n'),
  table: (value) => Object.entries(value).map(([name, text]) => `${name} = ${text}\n`).join(''),
};
export const show = (kind, value) => (value === undefined || value === null ? '' : (SHOWN[kind] ?? String)(value));
const READ = {
  list: (text) => text.split('\n').map((line) => line.trim()).filter(Boolean),
  table: (text) => Object.fromEntries(text.split('\n').filter((line) => line.trim()).map((line) => {
    const [name, ...value] = line.split('=');
    return [name.trim(), value.join('=').trim()];
  })),
  number: Number,
  // A number, a word or a template.
  literal: (text) => (/^(\d+|true|false)$/.test(text.trim()) ? JSON.parse(text) : text),
  flag: (text) => text === 'true',
};
export function read(kind, text) {
  if (!text.trim()) return null;
  const value = (READ[kind] ?? String)(text);
  return kind === 'list' && value.length === 1 ? value[0] : value;
}

const AROUND = /[:;,]? see (below|above|[A-Z_]+\.md)(?=[.;,)]|$)| See [A-Z_]+\.md\.(?= |$)| Not by variables of the environment\./g;
/** A sentence of the schema, from the documents: links as their words, without remarks about the document around it and variables. */
export const sentence = (text) => text.replace(/\[([^\]]*)\]\([^)]*\)/g, '$1').replace(AROUND, '');

export const words = (key) => key[0].toUpperCase() + key.slice(1).replaceAll('_', ' ');
