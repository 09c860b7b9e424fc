// Texts of the configuration: keys as TOML, differences of two texts, and places of mistakes.

const BARE = /^[A-Za-z0-9_-]+$/;
const escaped = (value) => JSON.stringify(value).replaceAll('\u007f', '\\u007f');
/** Invalid in literal texts of TOML. */
const NOT_LITERAL = /[\u0000-\u0008\u000b-\u001f\u007f]|'''|'$/;
const keyOf = (name) => (BARE.test(name) ? name : escaped(name));

/** Statements and the like are written as is, after a line end if they have several lines. */
function text(value) {
  if (!/["\n]/.test(value) || NOT_LITERAL.test(value)) return escaped(value);
  if (value.includes('\n')) return `'''\n${value}'''`;
  return value.includes("'") ? `'''${value}'''` : `'${value}'`;
}

function one(value) {
  if (Array.isArray(value)) return `[${value.map(one).join(', ')}]`;
  if (value && typeof value === 'object') {
    const entries = Object.entries(value).filter(([, of]) => of !== null);
    return entries.length ? `{ ${entries.map(([name, of]) => `${keyOf(name)} = ${one(of)}`).join(', ')} }` : '{}';
  }
  return typeof value === 'string' ? text(value) : String(value);
}

/** Keys as in the configuration file, a line each. Null is not set. */
export const toml = (keys) => Object.entries(keys)
  .filter(([, value]) => value !== null)
  .map(([name, value]) => `${keyOf(name)} = ${one(value)}\n`)
  .join('');

/** Above this number of line pairs, texts are not compared line by line between their first and last difference. */
const PAIRS_MAX = 4_000_000;

/** The lines of two texts: `{ kind, text }`, where `kind` is `same`, `old` or `new`. */
export function diff(before, after) {
  const [a, b] = [before, after].map((whole) => (whole ? whole.replace(/\n$/, '').split('\n') : []));
  const shorter = Math.min(a.length, b.length);
  let head = 0;
  while (head < shorter && a[head] === b[head]) head += 1;
  let tail = 0;
  while (tail < shorter - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail += 1;
  const [old, fresh] = [a.slice(head, a.length - tail), b.slice(head, b.length - tail)];
  const between = old.length * fresh.length > PAIRS_MAX ? [...of('old', old), ...of('new', fresh)] : compared(old, fresh);
  return [...of('same', a.slice(0, head)), ...between, ...of('same', a.slice(a.length - tail))];
}
const of = (kind, lines) => lines.map((text) => ({ kind, text }));

function compared(a, b) {
  // Length of the rests' common lines.
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

const gap = (lines) => `… ${lines} ${lines === 1 ? 'line' : 'lines'}`;
/** The result of `diff` without lines far from a difference: `gap` stands for those. */
export function hunks(found, around = 3) {
  const near = new Set();
  found.forEach(({ kind }, i) => {
    if (kind !== 'same') for (let j = i - around; j <= i + around; j++) near.add(j);
  });
  const shown = [];
  let left = 0;
  found.forEach((line, i) => {
    if (near.has(i)) {
      if (left > 0) shown.push({ kind: 'gap', text: gap(left) });
      left = 0;
      shown.push(line);
    } else left += 1;
  });
  if (left > 0 && shown.length > 0) shown.push({ kind: 'gap', text: gap(left) });
  return shown;
}

/**
 * The mistakes of a text, by line and key: `detail` has a line of the API for each mistake. Line 0: unknown.
 * `name`: of the part that the text belongs to, if its path has it, as in `kafka.NAME.linger`.
 */
export function mistakes(source, detail, name = '') {
  const lines = source.split('\n');
  return detail.split('\n').map((what) => {
    const [, at, rest] = what.match(/^line (\d+), column \d+: (.*)$/s) ?? [];
    if (at) return { line: Number(at), key: '', what: rest };
    const [, path] = what.match(/^\S+: ((?:[\w-]+(?:\[\d+\])?\.)*[\w-]+(?:\[\d+\])?)(?=: )/) ?? [];
    const below = path?.replace(/^[\w-]+(\[\d+\])?\./, '') ?? '';
    const keys = (name && below.startsWith(`${name}.`) ? below.slice(name.length + 1) : below).split('.').map((key) => key.replace(/\[\d+\]$/, '')).filter(Boolean);
    const first = keys.find((key) => lines.some((line) => begins(line, key)));
    return { line: first ? lines.findIndex((line) => begins(line, first)) + 1 : 0, key: keys[0] ?? '', what: what.replace(/^configuration: /, '') };
  });
}
const begins = (line, key) => new RegExp(`^\\s*(?:${key}|"${key}")\\s*[=.]`).test(line);
