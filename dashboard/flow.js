// Ways of messages: from clients, Kafka and other brokers, through rules, to Kafka, other brokers and subscribers.

/** Series of the messages into and out of a node, by kind. */
const SERIES = {
  rule: { in: ['passed_per_second', 'filtered_per_second', 'failed_per_second'], out: ['passed_per_second'] },
  sink: { in: ['records_in_per_second'], out: ['delivered_per_second'] },
  source: { in: ['records_per_second'], out: ['published_per_second'] },
  // Each bridge direction is a node.
  in: { in: ['received_per_second'], out: ['received_per_second'] },
  out: { in: ['delivered_per_second'], out: ['delivered_per_second'] },
};
const KIND = { in: 'bridge', out: 'bridge' };
const PAGE = { rule: 'rules', sink: 'sinks', source: 'sources', in: 'bridges', out: 'bridges' };

/** Series of the live stream into a node (`in`) and out of it (`out`). */
export const seriesOf = ({ kind }, which) => SERIES[kind][which];

/** A node for a place of the API: `column`: from left to right; `of` names its live numbers, `rate` has those of the API. */
const node = (column, step) => step && {
  id: `${column} ${step.kind} ${step.name}`, column, kind: step.kind, text: step.name, cluster: step.cluster, state: step.state, reason: step.reason,
  rate: { in: step.in_per_second, out: step.out_per_second }, ...(PAGE[step.kind] && { page: PAGE[step.kind], of: KIND[step.kind] ?? step.kind }),
};
/** A way of the API as its nodes. */
export const way = ({ origin, from, rule, to, at }) => ({ origin: node(0, origin), from: node(1, from), rule: node(2, rule), to: node(3, to), at: node(4, at) });

/** A line's place in a column without a node of it. */
const passing = (column, text) => ({ id: `${column} way ${text}`, column, kind: 'way', text });

/** The nodes of a way, from left to right. */
export const steps = ({ origin, from, rule, to, at }) => [origin, from, rule, to, at].filter(Boolean);

/** Rate between two nodes, by `now` of a node and its input (`in`) or output (`out`); null: unknown. */
export function between(a, b, now) {
  // A rule gets a source's records, not its messages.
  if (a.kind === 'source' && b.kind === 'rule') return now(a, 'in');
  return SERIES[a.kind] ? now(a, 'out') : SERIES[b.kind] ? now(b, 'in') : null;
}
export const through = (one, now) => (SERIES[one.kind] ? now(one, 'out') : null);

/**
 * All nodes of ways with their places, and the edges: each edge is the nodes that it passes, so that a line that skips a column has
 * a place there (kind `way`). A column's nodes are ordered by their predecessors.
 */
export function graph(all) {
  const nodes = new Map();
  const edges = new Map();
  const add = (one) => nodes.get(one.id) ?? (nodes.set(one.id, { ...one, row: 0 }), nodes.get(one.id));
  for (const way of all) {
    const path = steps(way).map(add);
    path.slice(1).forEach((b, i) => {
      const a = path[i];
      const between = Array.from({ length: b.column - a.column - 1 }, (_, n) => add(passing(a.column + n + 1, `${a.id} > ${b.id}`)));
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
