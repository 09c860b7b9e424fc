// Texts of the configuration: keys as TOML, what differs between two texts, and where in a text a mistake is.

const BARE = /^[A-Za-z0-9_-]+$/;
const text = (value) => JSON.stringify(value).replaceAll('\u007f', '\\u007f');
const keyOf = (name) => (BARE.test(name) ? name : text(name));

function one(value) {
  if (Array.isArray(value)) return `[${value.map(one).join(', ')}]`;
  if (value && typeof value === 'object') {
    const entries = Object.entries(value).filter(([, of]) => of !== null);
    return entries.length ? `{ ${entries.map(([name, of]) => `${keyOf(name)} = ${one(of)}`).join(', ')} }` : '{}';
  }
  return typeof value === 'string' ? text(value) : String(value);
}

/** Keys as the configuration file has them, a line each. What is null is not set. */
export const toml = (keys) => Object.entries(keys)
  .filter(([, value]) => value !== null)
  .map(([name, value]) => `${keyOf(name)} = ${one(value)}\n`)
  .join('');

/** The lines of two texts: `{ kind, text }`, where `kind` is `same`, `old` or `new`. */
export function diff(before, after) {
  const [a, b] = [before, after].map((whole) => (whole ? whole.replace(/\n$/, '').split('\n') : []));
  // How many lines the rests have in common.
  const common = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) common[i][j] = a[i] === b[j] ? common[i + 1][j + 1] + 1 : Math.max(common[i + 1][j], common[i][j + 1]);
  }
  const found = [];
  let [i, j] = [0, 0];
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      found.push({ kind: 'same', text: a[i] });
      i += 1;
      j += 1;
    } else if (i < a.length && (j === b.length || common[i + 1][j] >= common[i][j + 1])) found.push({ kind: 'old', text: a[i++] });
    else found.push({ kind: 'new', text: b[j++] });
  }
  return found;
}

/** What is wrong with a text, by line: `detail` is what the API says of it, a line for each mistake. Line 0: nobody knows where. */
export function mistakes(source, detail) {
  const lines = source.split('\n');
  return detail.split('\n').map((what) => {
    const [, at, rest] = what.match(/^line (\d+), column \d+: (.*)$/s) ?? [];
    if (at) return { line: Number(at), what: rest };
    const [, path] = what.match(/^\S+: ((?:[\w-]+(?:\[\d+\])?\.)*[\w-]+(?:\[\d+\])?)(?=: )/) ?? [];
    const keys = path?.split('.').slice(1).map((key) => key.replace(/\[\d+\]$/, '')) ?? [];
    const first = keys.find((key) => lines.some((line) => begins(line, key)));
    return { line: first ? lines.findIndex((line) => begins(line, first)) + 1 : 0, what };
  });
}
const begins = (line, key) => new RegExp(`^\\s*(?:${key}|"${key}")\\s*[=.]`).test(line);
