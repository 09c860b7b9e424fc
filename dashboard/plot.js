// Plots over time, with one crosshair for all of a page; and the heat map of a histogram.

import { html, signal, useEffect, useRef, useState } from './vendor/preact.js';
import uPlot from './vendor/uplot.js';
import { Columns, RANGES } from './history.js';
import { layout } from './live.js';
import { NOTHING, UNIT, clock, seconds } from './text.js';

export const theme = signal('');
/** The property's colour for a canvas: `light-dark` is resolved by an element that has it. */
function colour(name) {
  const probe = document.createElement('i');
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}
const DASHES = [[], [6, 3], [2, 3], [8, 3, 2, 3]];
const sync = uPlot.sync('page');
const AXIS = 62;
const RIGHT = 26;

/** Columns of an object while the component exists. */
export function useColumns(kind, name, names, range) {
  const [columns, setColumns] = useState(null);
  const key = `${kind}/${name}/${names}/${RANGES[range] <= 900}`;
  useEffect(() => {
    const made = new Columns(kind, name, names, range);
    setColumns(made);
    return () => made.end();
  }, [key]);
  return columns;
}

/** Steps between axis marks, in seconds and in bytes. */
const TIMES = [1, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 14400, 21600];
const POWERS = Array.from({ length: 48 }, (_, n) => 2 ** n);
/** An axis value: without trailing zeros, and without the title's unit. */
export const tick = (text) => text.replace(/\/s$| cores$/, '').replace(/(\.\d*?)0+(?=\D|$)/, '$1').replace(/\.(?=\D|$)/, '');

function options(series, unit, range, width, height) {
  const [dim, grid] = [colour('--dim'), colour('--grid')];
  const as = UNIT[unit];
  const font = '12px system-ui, sans-serif';
  const axis = { stroke: dim, font, grid: { stroke: grid, width: 1 }, ticks: { show: false } };
  const long = RANGES[range] > 900;
  return {
    width,
    height,
    padding: [8, RIGHT, 0, 0],
    legend: { show: false },
    cursor: { sync: { key: sync.key, setSeries: false }, drag: { x: false, y: false }, points: { size: 6 } },
    scales: {
      x: { time: true },
      y: { range: (_, __, high) => (high === null || high <= 0 ? [0, 1] : [0, high * 1.12]) },
    },
    axes: [
      { ...axis, space: 62, size: 26, incrs: TIMES, values: (_, ticks) => ticks.map((at) => clock(at * 1000, !long && RANGES[range] <= 300)) },
      { ...axis, size: AXIS, space: 34, incrs: unit.startsWith('byte') ? POWERS : undefined, values: (_, ticks) => ticks.map((value) => tick(as(value))) },
    ],
    series: [
      {},
      ...series.map((_, place) => ({
        stroke: colour(`--series-${place + 1}`),
        width: 1.5,
        dash: DASHES[place],
        points: { show: false },
        spanGaps: false,
        fill: series.length === 1 ? colour('--series-1').replace('rgb(', 'rgba(').replace(')', ', 0.09)') : undefined,
      })),
    ],
  };
}

const Swatch = ({ place }) => html`<svg viewBox="0 0 18 6" aria-hidden="true"><line x1="0" y1="3" x2="18" y2="3" stroke=${`var(--series-${place + 1})`} stroke-width="2.5" stroke-dasharray=${DASHES[place].join(' ')} /></svg>`;

/** The trend of a series, in words. */
function trend(column) {
  const known = column.filter((value) => value !== null);
  if (known.length < 10) return '';
  const part = Math.ceil(known.length / 4);
  const mean = (list) => list.reduce((sum, value) => sum + value, 0) / list.length;
  const [before, after] = [mean(known.slice(0, -part)), mean(known.slice(-part))];
  if (after > before * 1.15) return ', rising';
  return after < before * 0.85 ? ', falling' : ', steady';
}

/** `series` are `{ name, label }` of the columns, `unit` one of `UNIT`. */
export function Plot({ title, columns, series, unit, range }) {
  const box = useRef(null);
  const [asTable, setAsTable] = useState(false);
  const shown = useRef(null);
  const [cursor, setCursor] = useState(null);
  const version = columns?.version.value;
  const data = columns?.slice(range, series.map((one) => one.name)) ?? { from: 0, to: 1, times: [], columns: series.map(() => []) };
  const latest = useRef(data);
  latest.current = data;
  theme.value;

  useEffect(() => {
    if (asTable) return undefined;
    const element = box.current;
    const made = new uPlot(options(series, unit, range, element.clientWidth, 168), [[], ...series.map(() => [])], element);
    made.root.setAttribute('aria-hidden', 'true');
    made.over.addEventListener('mouseleave', () => setCursor(null));
    made.hooks.setCursor = [(plot) => setCursor(plot.cursor.idx ?? null)];
    shown.current = made;
    draw();
    const watch = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height: 168 }));
    watch.observe(element);
    return () => {
      watch.disconnect();
      made.destroy();
      shown.current = null;
    };
  }, [range, unit, asTable, theme.value]);

  const draw = () => {
    const { from, to, times, columns: found } = latest.current;
    shown.current?.batch(() => {
      shown.current.setData([times, ...found], false);
      shown.current.setScale('x', { min: from, max: to });
    });
  };
  useEffect(draw, [version, columns]);

  const as = UNIT[unit];
  const at = cursor ?? data.times.length - 1;
  const said = (column) => as(column[at]);
  const sentence = series.map((one, place) => `${one.label} ${as(data.columns[place].at(-1))}${trend(data.columns[place])}`).join('; ');
  return html`<figure class="panel" aria-label=${title}>
    <header><h2>${title}</h2>
      <div class="right">
        ${cursor !== null && html`<span class="dim num">${clock(data.times[at] * 1000)}</span>`}
        <button type="button" class="plain" aria-pressed=${String(asTable)} aria-label=${`${title} as a table`} onClick=${() => setAsTable(!asTable)}>${asTable ? 'Plot' : 'Table'}</button>
      </div>
    </header>
    <div class="legend" aria-hidden="true">${series.map((one, place) => html`<span><${Swatch} place=${place} />${one.label} <b>${said(data.columns[place])}</b></span>`)}</div>
    <figcaption class="hidden">${title}: ${data.times.length ? sentence : 'nothing yet'}.</figcaption>
    <div class="plot">${asTable
      ? html`<div class="table" tabindex="0" role="region" aria-label=${`${title}, values`}><table>
          <thead><tr><th scope="col">Time</th>${series.map((one) => html`<th scope="col" class="n">${one.label}</th>`)}</tr></thead>
          <tbody>${data.times.map((time, row) => html`<tr key=${time}><td class="num">${clock(time * 1000)}</td>${data.columns.map((column) => html`<td class="n">${as(column[row])}</td>`)}</tr>`).reverse().slice(0, 120)}</tbody>
        </table></div>`
      : html`<div class="box" ref=${box}></div>`}</div>
  </figure>`;
}

/** Values per second in the buckets of a histogram of times. Darker means more. */
export function Heat({ title, columns, series, range, percentiles }) {
  const canvas = useRef(null);
  const [cursor, setCursor] = useState(null);
  const version = columns?.version.value;
  const bounds = layout.value?.bounds ?? [];
  theme.value;

  useEffect(() => {
    const element = canvas.current;
    const draw = () => heat(element, columns, series, range, bounds);
    draw();
    const watch = new ResizeObserver(draw);
    watch.observe(element);
    return () => watch.disconnect();
  }, [version, columns, range, theme.value]);

  const move = (event) => {
    const rect = canvas.current.getBoundingClientRect();
    setCursor(under(event.clientX - rect.left, event.clientY - rect.top, rect, columns, series, range, bounds));
  };
  const sentence = percentiles.map(({ label, value }) => `${label} ${seconds(value)}`).join(', ');
  return html`<figure class="panel heat" aria-label=${title}>
    <header><h2>${title}</h2></header>
    <div class="legend" aria-hidden="true">${cursor
      ? html`<span>${cursor.time}</span><span>${cursor.bucket}</span><span><b>${cursor.count}</b></span>`
      : percentiles.map(({ label, value, error }) => html`<span>${label} <b>${seconds(value)}</b> ${error}</span>`)}</div>
    <figcaption class="hidden">${title}: ${sentence}.</figcaption>
    <canvas ref=${canvas} aria-hidden="true" onMouseMove=${move} onMouseLeave=${() => setCursor(null)}></canvas>
  </figure>`;
}

const BOTTOM = 26;
const TOP = 6;

function heat(element, columns, series, range, bounds) {
  const [width, height, scale] = [element.clientWidth, element.clientHeight, devicePixelRatio || 1];
  if (!width) return;
  [element.width, element.height] = [width * scale, height * scale];
  const at = element.getContext('2d');
  at.scale(scale, scale);
  at.font = '12px system-ui, sans-serif';
  const [dim, grid] = [colour('--dim'), colour('--grid')];
  const rows = bounds.length + 1;
  const rowHeight = (height - TOP - BOTTOM) / rows;
  const y = (row) => TOP + (rows - 1 - row) * rowHeight;
  at.fillStyle = dim;
  at.textAlign = 'right';
  at.textBaseline = 'middle';
  bounds.forEach((bound, row) => {
    if (row % 3 !== 2) return;
    at.fillText(tick(seconds(bound)), AXIS - 8, y(row));
    at.fillStyle = grid;
    at.fillRect(AXIS, Math.round(y(row)), width - AXIS - RIGHT, 1);
    at.fillStyle = dim;
  });
  const cells = visibleCells(columns, series, range, width);
  const most = Math.max(1e-9, ...cells.map((cell) => Math.max(...cell.counts)));
  at.fillStyle = colour('--series-1');
  for (const { x, wide, counts } of cells) {
    counts.forEach((count, row) => {
      if (!(count > 0)) return;
      at.globalAlpha = 0.12 + 0.88 * Math.sqrt(count / most);
      at.fillRect(x, y(row), wide, Math.max(1, rowHeight - 0.5));
    });
  }
  at.globalAlpha = 1;
  at.fillStyle = dim;
  at.textAlign = 'center';
  const { from, to } = columns?.slice(range, []) ?? { from: 0, to: 1 };
  const marks = Math.max(2, Math.min(6, Math.floor((width - AXIS) / 75)));
  for (let i = 1; i < marks; i++) {
    const time = from + ((to - from) * i) / marks;
    if (columns) at.fillText(clock(time * 1000, RANGES[range] <= 300), AXIS + ((width - AXIS - RIGHT) * i) / marks, height - BOTTOM / 2);
  }
}

/** The drawing: a column of counts for each moment, with its place. */
function visibleCells(columns, series, range, width) {
  if (!columns) return [];
  const { from, to } = columns.slice(range, []);
  const step = columns.by === 'second' ? 1 : 60;
  const per = (width - AXIS - RIGHT) / (to - from);
  const found = columns.columns[series];
  return columns.at
    .map((at, i) => ({ at: at / 1000, x: AXIS + (at / 1000 - step - from) * per, wide: Math.max(1, step * per + 0.3), counts: found.map((column) => column[i] ?? 0) }))
    .filter((cell) => cell.x >= AXIS - 1 && cell.counts.length);
}

function under(x, y, rect, columns, series, range, bounds) {
  const cell = visibleCells(columns, series, range, rect.width).find((one) => x >= one.x && x < one.x + one.wide);
  const rows = bounds.length + 1;
  const row = rows - 1 - Math.floor((y - TOP) / ((rect.height - TOP - BOTTOM) / rows));
  if (!cell || row < 0 || row >= rows) return null;
  const low = row === 0 ? '0' : seconds(bounds[row - 1]);
  const bucket = row === rows - 1 ? `over ${low}` : `${low} to ${seconds(bounds[row])}`;
  return { time: clock(cell.at * 1000), bucket, count: cell.counts[row] ? UNIT.rate(cell.counts[row]) : NOTHING };
}
