// Which ways messages take: from clients, Kafka and other brokers, through rules, to Kafka, other brokers and subscribers.

/** Which series say what comes into a node of a kind and what leaves it. */
const SERIES = {
  rule: { comes: ['passed_per_second', 'filtered_per_second', 'failed_per_second'], leaves: ['passed_per_second'] },
  sink: { comes: ['records_in_per_second'], leaves: ['delivered_per_second'] },
  source: { comes: ['records_per_second'], leaves: ['published_per_second'] },
  // Of a bridge each direction is a node.
  in: { comes: ['received_per_second'], leaves: ['received_per_second'] },
  out: { comes: ['delivered_per_second'], leaves: ['delivered_per_second'] },
};
const KIND = { in: 'bridge', out: 'bridge' };
const PAGE = { rule: 'rules', sink: 'sinks', source: 'sources', in: 'bridges', out: 'bridges' };

/** A node: `column` is its place from left to right; `of` names its live numbers; `rate` are those of the API. */
const node = (column, kind, text, more = {}) => ({ id: `${column} ${kind} ${text}`, column, kind, text, ...more });
const part = (column, kind, one) => node(column, kind, one.name, {
  page: PAGE[kind], of: KIND[kind] ?? kind, state: one.state, reason: one.reason ?? null, rate: one.rate ?? {},
});
const list = (value) => [value ?? []].flat();
const SOURCE = /^\$(?:bridges|sources)\/kafka_consumer:/;

/**
 * Ways of messages, each from left to right: `origin` (a Kafka topic, a remote) or null, `from`, `rule` or null, `to`, and `at` (a Kafka topic, a remote)
 * or null. `bridges`: as the API lists them; `config`: their keys by name.
 */
export function ways({ sinks, rules, sources = [], bridges = [], config = {} }) {
  const sink = new Map(sinks.map((one) => [one.name, one]));
  const source = new Map(sources.map((one) => [one.name, one]));
  const into = (one) => ({ to: part(3, 'sink', one), at: node(4, 'kafka', one.topic ?? 'a template', { cluster: one.kafka }) });
  const kafka = (one) => Object.keys(one.topics).map((topic) => node(0, 'kafka', topic, { cluster: one.kafka }));
  const begin = (from) => {
    const named = SOURCE.test(from) && source.get(from.replace(SOURCE, ''));
    if (!named) return [{ origin: null, from: node(1, from.startsWith('$events/') ? 'event' : 'topic', from) }];
    return kafka(named).map((origin) => ({ origin, from: part(1, 'source', named) }));
  };
  const direct = sinks.flatMap((one) => one.filters.map((filter) => ({ origin: null, from: node(1, 'topic', filter), rule: null, ...into(one) })));
  const byRules = rules.flatMap((one) => {
    const rule = part(2, 'rule', one);
    const ends = [
      ...one.sinks.filter((name) => sink.has(name)).map((name) => into(sink.get(name))),
      ...(one.republish ?? []).map(({ topic }) => ({ to: node(3, 'topic', topic), at: null })),
    ];
    return one.from.flatMap(begin).flatMap((start) => (ends.length ? ends : [{ to: null, at: null }]).map((end) => ({ ...start, rule, ...end })));
  });
  const bySources = sources.flatMap((one) => kafka(one).filter((origin) => one.topics[origin.text])
    .map((origin) => ({ origin, from: part(1, 'source', one), rule: null, to: node(3, 'topic', one.topics[origin.text]), at: null })));
  const byBridges = bridges.flatMap((one) => {
    const { in: ins, out: outs } = config[one.name] ?? {};
    const text = (template, filters) => (!template || template === '${topic}' ? list(filters).join(', ') : template);
    return [
      ...list(ins).map((of) => ({ origin: node(0, 'remote', one.remote), from: part(1, 'in', one), rule: null, to: node(3, 'topic', text(of.topic, of.filters)), at: null })),
      ...list(outs).flatMap((of) => list(of.filters).map((filter) => ({ origin: null, from: node(1, 'topic', filter), rule: null, to: part(3, 'out', one), at: node(4, 'remote', one.remote) }))),
    ];
  });
  return [...direct, ...byRules, ...bySources, ...byBridges];
}

/** The nodes of a way, from left to right. */
export const steps = ({ origin, from, rule, to, at }) => [origin, from, rule, to, at].filter(Boolean);

/** Ways that have a text in one of their names. */
export function having(text, all) {
  if (!text) return all;
  const wanted = text.toLowerCase();
  return all.filter((way) => steps(way).some((one) => one.text.toLowerCase().includes(wanted) || (one.cluster ?? '').toLowerCase().includes(wanted)));
}

/** What goes along between two nodes, by `now` of a node and its series; null: nobody knows. */
export function between(a, b, now) {
  const [leaves, comes] = [SERIES[a.kind]?.leaves, SERIES[b.kind]?.comes];
  // A rule gets the records of a source, not the messages that are made of them.
  if (a.kind === 'source' && b.kind === 'rule') return now(a, SERIES.source.comes);
  return leaves ? now(a, leaves) : comes ? now(b, comes) : null;
}
export const through = (one, now) => (SERIES[one.kind] ? now(one, SERIES[one.kind].leaves) : null);

/**
 * All nodes of ways with their places, and what connects them: each edge is the nodes that it goes by, so that a line that leaves a column out has a
 * place of its own there (kind `way`). Nodes of a column stand in the order of those that lead to them.
 */
export function graph(all) {
  const nodes = new Map();
  const edges = new Map();
  const add = (one) => nodes.get(one.id) ?? (nodes.set(one.id, { ...one, row: 0 }), nodes.get(one.id));
  for (const way of all) {
    const path = steps(way).map(add);
    path.slice(1).forEach((b, i) => {
      const a = path[i];
      const between = Array.from({ length: b.column - a.column - 1 }, (_, n) => add(node(a.column + n + 1, 'way', `${a.id} > ${b.id}`)));
      edges.set(`${a.id} > ${b.id}`, [a, ...between, b]);
    });
  }
  const before = new Map();
  for (const path of edges.values()) path.slice(1).forEach((b, i) => before.set(b, [...(before.get(b) ?? []), path[i]]));
  let rows = 0;
  for (let column = 0; column < 5; column++) {
    const here = [...nodes.values()].filter((one) => one.column === column);
    const middle = (one) => {
      const places = (before.get(one) ?? []).map(({ row }) => row);
      return places.length ? places.reduce((a, b) => a + b, 0) / places.length : Infinity;
    };
    const placed = here.map((one, i) => ({ one, i, at: middle(one) })).sort((a, b) => (a.at === b.at ? a.i - b.i : a.at - b.at));
    placed.forEach(({ one }, row) => (one.row = row));
    rows = Math.max(rows, here.length);
  }
  return { nodes: [...nodes.values()], edges: [...edges.values()], rows };
}
