// Which ways messages take to Kafka.

/** Ways of messages: a row for each filter and each FROM of a rule, up to its topic. */
export function ways(sinks, rules) {
  const of = (from, sink, rule = null) => ({ from, rule, sink });
  const direct = sinks.flatMap((sink) => sink.filters.map((filter) => of(filter, sink)));
  const byRules = rules.flatMap((rule) => rule.from.flatMap((from) => rule.sinks.map((name) => of(from, sinks.find((sink) => sink.name === name), rule))));
  return [...direct, ...byRules].filter(({ sink }) => sink);
}
