// The plotted values: the history of the service, then live values.

import { effect, signal } from './vendor/preact.js';
import { get, name as escaped } from './api.js';
import { anew, at as liveAt, buckets, layout, peek, tick } from './live.js';

/** Ranges, each with its step of the history. */
export const RANGES = { '1m': 60, '5m': 300, '15m': 900, '1h': 3600, '6h': 21600, '24h': 86400 };
export const isBySecond = (range) => RANGES[range] <= 900;

const KEEP_S = { second: 15 * 60, minute: 24 * 3600 };

/** Columns of some series of an object. `version` changes with them. */
export class Columns {
  constructor(kind, name, names, range) {
    this.kind = kind;
    this.name = name;
    this.names = names;
    this.by = isBySecond(range) ? 'second' : 'minute';
    this.at = [];
    this.columns = Object.fromEntries(names.map((series) => [series, []]));
    this.version = signal(0);
    this.loading = false;
    this.ended = false;
    this.stops = [
      effect(() => {
        anew.value;
        this.load();
      }),
      effect(() => {
        tick.value;
        if (this.by === 'second') this.push();
        else if (liveAt - (this.at.at(-1) ?? 0) > 61_000 && liveAt - (this.asked ?? 0) > 5_000) this.load();
      }),
    ];
  }

  end() {
    this.ended = true;
    this.stops.forEach((stop) => stop());
  }

  async load() {
    if (this.loading || !layout.peek()) return;
    this.loading = true;
    this.asked = liveAt;
    const of = { totals: '', sink: 'sink', source: 'source', rule: 'rule', bridge: 'bridge', cluster: 'kafka' }[this.kind];
    const which = of && `&${of}=${escaped(this.name)}`;
    try {
      const { at, values } = await get(`history?by=${this.by}&metric=${this.names.join(',')}${which}`);
      this.at = at;
      for (const series of this.names) this.columns[series] = values[series] ?? [];
      this.version.value++;
    } catch {
      // Live values are unaffected.
    }
    this.loading = false;
  }

  push() {
    if (this.loading || !layout.peek() || liveAt <= (this.at.at(-1) ?? 0)) return;
    const old = this.at.findIndex((at) => at > liveAt - KEEP_S.second * 1000);
    this.at.push(liveAt);
    if (old > 0) this.at.splice(0, old);
    for (const series of this.names) {
      const column = this.columns[series];
      if (series.endsWith('_buckets')) {
        buckets(this.kind, this.name).forEach((value, place) => {
          (column[place] ??= new Array(this.at.length - 1).fill(null)).push(value);
          if (old > 0) column[place].splice(0, old);
        });
      } else {
        column.push(peek(this.kind, this.name, series));
        if (old > 0) column.splice(0, old);
      }
    }
    this.version.value++;
  }

  /** Times in seconds and columns of a range, with gaps for missing values. */
  slice(range, names) {
    const step = this.by === 'second' ? 1 : 60;
    const end = Math.max(this.at.at(-1) ?? 0, liveAt);
    const begin = this.at.findIndex((at) => at >= end - RANGES[range] * 1000);
    const [times, columns] = [[], names.map(() => [])];
    for (let i = begin; begin >= 0 && i < this.at.length; i++) {
      const now = this.at[i] / 1000;
      if (times.length && now - times.at(-1) > 2.5 * step) {
        times.push(now - step);
        columns.forEach((column) => column.push(null));
      }
      times.push(now);
      names.forEach((series, place) => columns[place].push(this.columns[series][i] ?? null));
    }
    return { from: end / 1000 - RANGES[range], to: end / 1000, times, columns };
  }
}
