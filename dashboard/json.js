// JSON as text: numbers, names that occur twice and their order stay as written. `JSON.parse` keeps none of these.

/** Tokens of valid JSON. */
const TOKENS = /"[^"\\]*(?:\\.[^"\\]*)*"|[^\s,:[\]{}"]+|[,:[\]{}]/g;
const opens = (token) => token === '[' || token === '{';
const closes = (token) => token === ']' || token === '}';

/** A JSON text with a line for each value; null: not JSON. The end may be missing when there are more than `max` characters. */
export function indent(text, max = Infinity) {
  try {
    JSON.parse(text);
  } catch {
    return null;
  }
  let [made, depth, before] = ['', 0, ''];
  for (const [token] of text.matchAll(TOKENS)) {
    if (closes(token)) depth -= 1;
    const begins = closes(token) ? !opens(before) : opens(before) || before === ',';
    made += `${begins ? `\n${'  '.repeat(depth)}` : ''}${token}${token === ':' ? ' ' : ''}`;
    if (made.length > max) break;
    if (opens(token)) depth += 1;
    before = token;
  }
  return made;
}

/** The members of an object, or the items of an array, each as `{ name, text }`. `text`: valid JSON. */
export function members(text) {
  const found = [];
  let [depth, from, name] = [0, 0, undefined];
  for (const { 0: token, index } of text.matchAll(TOKENS)) {
    if (closes(token)) depth -= 1;
    if (depth === 0 ? closes(token) : depth === 1 && token === ',') {
      const one = text.slice(from, index).trim();
      if (one) found.push({ name, text: one });
      from = index + 1;
    } else if (depth === 1 && token === ':') [name, from] = [JSON.parse(text.slice(from, index)), index + 1];
    if (opens(token)) {
      depth += 1;
      if (depth === 1) from = index + 1;
    }
  }
  return found;
}

/** A JSON object: fields, and then members as `members` has them, which replace fields of their names. */
export function object(fields, more) {
  const own = Object.entries(fields).filter(([name]) => !more.some((one) => one.name === name)).map(([name, value]) => ({ name, text: JSON.stringify(value) }));
  return `{${[...own, ...more].map(({ name, text }) => `${JSON.stringify(name)}:${text}`).join(',')}}`;
}
