// Text and numbers for display. Devices' texts are shown as is, except for characters that would hide or reorder others.

/** Invisible characters, and those that change others: control characters, line and bidirectional marks, zero widths. */
const HIDDEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff\ufff9-\ufffb]/u;

/** The parts of a text, each with whether it stands for an invisible character. Longer texts are cut. */
export function parts(text, max = 256) {
  const chars = [...String(text)];
  const found = [];
  for (const char of chars.slice(0, max)) {
    const hidden = HIDDEN.test(char);
    const shown = hidden ? `\\u{${char.codePointAt(0).toString(16)}}` : char;
    const last = found.at(-1);
    if (last && last.hidden === hidden) last.text += shown;
    else found.push({ text: shown, hidden });
  }
  if (chars.length > max) found.push({ text: `… (${count(chars.length)} characters)`, hidden: true });
  return found;
}

/** Joins the parts. */
export const visible = (text, max) => parts(text, max).map((part) => part.text).join('');

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const digits = (n) => new Intl.NumberFormat('en', { minimumFractionDigits: n, maximumFractionDigits: n });
const one = digits(1);
const two = digits(2);
export const NOTHING = '–';
const isNumber = (value) => typeof value === 'number' && Number.isFinite(value);

/** About three digits. */
const short = (value) => (Number.isInteger(value) ? whole.format(value) : value < 1 ? two.format(value) : value < 10 ? two.format(value) : value < 100 ? one.format(value) : whole.format(value));

export const count = (value) => (isNumber(value) ? whole.format(value) : NOTHING);
/** A number with a noun: `1 record`, `2 records`. `several`: plural without `s`. */
export const many = (value, one, several = `${one}s`) => `${count(value)} ${value === 1 ? one : several}`;
const million = (value) => (value >= 1e7 ? `${short(value / 1e6)} M` : value >= 100 || value === 0 || Number.isInteger(value) ? whole.format(value) : one.format(value));
export const rate = (value) => (isNumber(value) ? `${million(value)}/s` : NOTHING);
export const amount = (value) => (isNumber(value) ? million(value) : NOTHING);

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
export function bytes(value) {
  if (!isNumber(value)) return NOTHING;
  let [left, unit] = [value, 0];
  while (left >= 1000 && unit < UNITS.length - 1) [left, unit] = [left / 1024, unit + 1];
  return `${unit === 0 ? whole.format(left) : short(left)} ${UNITS[unit]}`;
}
export const byteRate = (value) => (isNumber(value) ? `${bytes(value)}/s` : NOTHING);

export function seconds(value) {
  if (!isNumber(value)) return NOTHING;
  if (value === 0) return '0 s';
  if (value < 0.000_999_5) return `${whole.format(value * 1e6)} µs`;
  if (value < 0.999_5) return `${short(value * 1e3)} ms`;
  if (value < 120) return `${Number.isInteger(value) ? value : short(value)} s`;
  const [days, hours, minutes] = [Math.floor(value / 86400), Math.floor(value / 3600) % 24, Math.floor(value / 60) % 60];
  if (days > 0) return `${days} d ${hours} h`;
  return hours > 0 ? `${hours} h ${minutes} min` : `${minutes} min`;
}
export const cores = (value) => (isNumber(value) ? `${two.format(value)} cores` : NOTHING);

const pad = (n) => String(n).padStart(2, '0');
export function clock(ms, withSeconds = true) {
  const at = new Date(ms);
  return `${pad(at.getHours())}:${pad(at.getMinutes())}${withSeconds ? `:${pad(at.getSeconds())}` : ''}`;
}
export function dateTime(ms) {
  const at = new Date(ms);
  return `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())} ${clock(ms)}`;
}

/** The notation of a series' unit. */
export const UNIT = { rate, bytes, byteRate, seconds, count: amount, cores };
