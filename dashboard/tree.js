// Topics by their levels.

/** Distinct levels: deeper ones are one name. */
const LEVELS_MAX = 12;

/**
 * The levels of topics, each with the sum of those below: `{ name, path, topics, per_second, below }`, the busiest first.
 * @param {{ topic: string, per_second: number }[]} rows
 */
export function tree(rows) {
  const top = { below: new Map() };
  for (const { topic, per_second: n } of rows) {
    let level = top;
    const all = topic.split('/');
    const names = [...all.slice(0, LEVELS_MAX - 1), ...(all.length < LEVELS_MAX ? [] : [all.slice(LEVELS_MAX - 1).join('/')])];
    names.forEach((name, depth) => {
      if (!level.below.has(name)) level.below.set(name, { name, path: names.slice(0, depth + 1).join('/'), topics: 0, per_second: 0, is_topic: false, below: new Map() });
      level = level.below.get(name);
      level.topics++;
      level.per_second += n;
    });
    level.is_topic = true;
  }
  const ordered = ({ below, ...rest }) => ({ ...rest, below: [...below.values()].map(ordered).sort((a, b) => b.per_second - a.per_second) });
  return ordered(top).below;
}
