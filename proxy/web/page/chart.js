// One small chart: lines or stacked areas over time, each named at its end. Moving over one chart reads all of them.

import { h, NONE } from './words.js';

const GUTTER = 104;
const LINE_PX = 13;
const charts = [];

function resolved(colour) {
  const probe = h('span', { style: { color: colour, display: 'none' } });
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

export class Chart {
  // `words` turns a value into text, `tick` one on the scale; `stacked`: the series are parts of a whole.
  constructor(title, words, tick, { stacked = false, most = null, nothing = 'Nothing in this time.' } = {}) {
    this.words = words;
    this.tick = tick;
    this.stacked = stacked;
    this.most = most;
    this.title = title;
    this.side = h('span');
    this.plot = h('div', { class: 'plot', tabindex: '0', role: 'img', 'aria-label': title });
    this.ends = h('div', { class: 'ends', 'aria-hidden': 'true' });
    this.nothing = h('p', { class: 'nothing' }, nothing);
    this.element = h('section', { class: 'chart' }, h('h3', {}, title, this.side), this.plot);
    this.plot.append(this.ends);
    this.plot.addEventListener('keydown', (event) => this.#step(event));
    this.plot.addEventListener('blur', () => this.#point(null));
    new ResizeObserver(() => this.drawn && this.drawn.setSize(this.#size())).observe(this.plot);
    charts.push(this);
  }

  // at: seconds since the epoch. series: [{name, colour, values}], values null where there is nothing to tell.
  show(at, series) {
    this.series = series;
    this.at = at;
    const some = series.some((one) => one.values.some((value) => value !== null));
    if (!some) {
      this.drawn?.destroy();
      this.drawn = null;
      this.ends.replaceChildren();
      this.plot.append(this.nothing);
      this.plot.setAttribute('aria-label', `${this.title}: ${this.nothing.textContent}`);
      return;
    }
    this.nothing.remove();
    this.tops = this.stacked ? this.#piled(series) : series.map((one) => one.values);
    const data = [at, ...(this.stacked ? [...this.tops].reverse() : this.tops)];
    const names = series.map((one) => one.name + one.colour + (one.wide ?? '')).join('\n');
    if (this.drawn && this.names === names) {
      this.drawn.setData(data);
    } else {
      this.names = names;
      this.drawn?.destroy();
      this.drawn = new uPlot(this.#options(), data, this.plot);
    }
    const last = series.map((one) => `${one.name} ${this.#text(one.values.findLast((value) => value !== null) ?? null)}`);
    this.plot.setAttribute('aria-label', `${this.title}. Latest: ${last.join(', ')}`);
    this.#name();
  }

  redraw() {
    this.names = null;
    if (this.series) this.show(this.at, this.series);
  }

  #text(value) {
    return value === null || value === undefined ? NONE : this.words(value);
  }

  #piled(series) {
    const sums = this.at.map(() => 0);
    return series.map((one) => one.values.map((value, place) => (value === null ? null : (sums[place] += value))));
  }

  #size() {
    return { width: this.plot.clientWidth, height: this.plot.clientHeight };
  }

  #options() {
    const quiet = resolved('var(--quiet)');
    const line = resolved('var(--line)');
    const font = '11px system-ui, sans-serif';
    const drawn = this.stacked ? [...this.series].reverse() : this.series;
    return {
      ...this.#size(),
      padding: [10, GUTTER, 0, 0],
      legend: { show: false },
      cursor: { sync: { key: 'all', setSeries: false }, y: false, points: { show: false }, drag: { x: false, y: false } },
      scales: { x: { time: true }, y: { range: (_, __, high) => [0, this.most ?? (high > 0 ? high * 1.08 : 1)] } },
      axes: [
        { stroke: quiet, font, grid: { show: false }, ticks: { stroke: line, size: 4 }, space: 64, size: 24,
          values: (_, ticks, __, ___, step) => ticks.map((t) => new Date(t * 1000).toLocaleTimeString('en-GB', step < 60 ? {} : { hour: '2-digit', minute: '2-digit' })) },
        { stroke: quiet, font, grid: { stroke: line, width: 1 }, ticks: { show: false }, size: 56, gap: 6, space: 28,
          values: (_, ticks) => ticks.map((tick) => this.tick(tick)) },
      ],
      series: [{}, ...drawn.map((one) => {
        const stroke = resolved(one.colour);
        return {
          label: one.name, stroke, width: one.wide ?? 1.5, spanGaps: false,
          fill: this.stacked || one.filled ? resolved(`color-mix(in srgb, ${one.colour} ${this.stacked ? 72 : 15}%, var(--card))`) : undefined,
          points: { show: false, size: 4, fill: stroke, filter: alone },
        };
      })],
      hooks: { setCursor: [() => this.#name()], draw: [() => this.#name()] },
    };
  }

  // The series' names at their ends; at the cursor while there is one.
  #name() {
    const drawn = this.drawn;
    if (!drawn) return;
    const place = drawn.cursor.idx;
    const read = place !== null && place !== undefined;
    this.side.textContent = read ? new Date(this.at[place] * 1000).toLocaleTimeString('en-GB') : '';
    const ratio = drawn.bbox.width / drawn.over.clientWidth || 1;
    const labels = [];
    this.series.forEach((one, number) => {
      const at = read ? place : one.values.findLastIndex((value) => value !== null);
      const value = one.values[at] ?? null;
      if (at < 0 || (value === null && !read)) return;
      const top = this.tops[number][at];
      const below = this.stacked && number ? this.tops[number - 1][at] : 0;
      const height = this.stacked ? (top + below) / 2 : top;
      const y = value === null ? drawn.over.clientHeight : drawn.valToPos(height, 'y');
      // A line that ended some time ago is still named, but its last value is no news.
      const past = !read && (at < this.at.length - 3 || (this.stacked && value === 0));
      labels.push({ y: y + drawn.bbox.top / ratio - LINE_PX / 2, one, value, past });
    });
    labels.sort((a, b) => a.y - b.y);
    const bottom = this.plot.clientHeight - 22;
    for (let i = 1; i < labels.length; i++) labels[i].y = Math.max(labels[i].y, labels[i - 1].y + LINE_PX);
    for (let i = labels.length - 1, limit = bottom; i >= 0; i--, limit -= LINE_PX) labels[i].y = Math.min(labels[i].y, limit - LINE_PX + 4);
    const left = `${this.plot.clientWidth - GUTTER + 6}px`;
    this.ends.replaceChildren(...labels.map(({ y, one, value, past }) => h('span',
      { class: past && 'past', style: { top: `${y}px`, left, width: `${GUTTER - 10}px`, color: one.colour } },
      past ? null : h('b', {}, `${this.#text(value)} `), one.name)));
  }

  #step(event) {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === 'Escape') this.#point(null);
    if (!by || !this.drawn) return;
    event.preventDefault();
    const from = this.drawn.cursor.idx ?? (by < 0 ? this.at.length : -1);
    this.#point(Math.min(Math.max(from + by, 0), this.at.length - 1));
  }

  #point(place) {
    if (!this.drawn) return;
    const left = place === null ? -10 : this.drawn.valToPos(this.at[place], 'x');
    this.drawn.setCursor({ left, top: place === null ? -10 : 1 }, true, true);
  }
}

// A value with nothing on either side has no line to be seen by: it is shown as a point.
function alone(drawn, number) {
  const values = drawn.data[number];
  const found = [];
  for (let i = 0; i < values.length; i++) {
    if (values[i] !== null && (values[i - 1] ?? null) === null && (values[i + 1] ?? null) === null) found.push(i);
  }
  return found.length ? found : null;
}

export function redrawAll() {
  for (const chart of charts) chart.redraw();
}
