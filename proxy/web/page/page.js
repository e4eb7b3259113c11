// The live page: asks `/api/stats` and `/api/exchanges` every few seconds and shows what they say.

import { Denied, askForToken, read } from './api.js';
import { Chart, redrawAll } from './chart.js';
import { explain } from './drawer.js';
import { NONE, between, clock, colour, count, h, money, moneyTick, named, rate, share, shareTick, short, time, timeTick } from './words.js';

const WINDOWS = { '1m': 60, '5m': 300, '15m': 900, '1h': 3600, '6h': 21600, '24h': 86400 };
const LONG = { '1m': 'minute', '5m': '5 minutes', '15m': '15 minutes', '1h': 'hour', '6h': '6 hours', '24h': '24 hours' };
const STATS_MS = 2000;
const EXCHANGES_MS = 4000;
const QUANTILES = ['p50', 'p95', 'p99'];
const FILTERS = { all: 'All', moved: 'Failed over', failed: 'Failed' };

const $ = (id) => document.getElementById(id);
const state = { window: '5m', filter: 'all', paused: false, exchanges: [], waiting: null };

// -- charts

const charts = {
  errors: new Chart('Errors before and after failover', share, shareTick, { nothing: 'No requests in this time.' }),
  traffic: new Chart('Traffic share', share, shareTick, { stacked: true, most: 1, nothing: 'No requests in this time.' }),
  cost: new Chart('Cost per hour', money, moneyTick, { stacked: true, nothing: 'No priced traffic in this time. “weighbridge check” shows the price of every target.' }),
  ...Object.fromEntries(['ttft', 'e2e'].flatMap((what) => QUANTILES.map((q) => [
    what + q, new Chart(`${what === 'ttft' ? 'TTFT' : 'E2E'} ${q}`, time, timeTick,
      { nothing: what === 'ttft' ? 'No streams in this time.' : 'No answers in this time.' })]))),
};
$('charts').append(...Object.values(charts).map((chart) => chart.element));

function drawCharts(stats) {
  const { at, targets } = stats.series;
  const all = stats.targets.map((row) => row.target);
  const names = all.filter((name) => name !== 'none');
  const last = stats.now - at.at(-1);
  // A step that has only just begun says little of a rate; one before the start of the process says nothing.
  const end = last < stats.step_s / 2 && at.length > 1 ? at.length - 1 : at.length;
  const started = stats.now - stats.covered_s;
  const begin = at.findIndex((t) => t + stats.step_s > started);
  const steps = at.slice(begin, end);
  const seconds = steps.map((t) => Math.max(Math.min(stats.step_s, stats.now - t, t + stats.step_s - started), 0.5));
  const of = (name, field) => targets[name][field].slice(begin, end);
  const sum = (field, over = all) => steps.map((_, i) => over.reduce((total, name) => total + targets[name][field][begin + i], 0));
  const ratio = (a, b) => a.map((value, i) => (b[i] ? value / b[i] : null));

  charts.errors.show(steps, [
    { name: 'before', colour: 'var(--bad)', values: ratio(sum('attempts_failed'), sum('attempts')), filled: true },
    { name: 'after', colour: 'var(--good)', values: ratio(sum('requests_failed'), sum('requests')), wide: 2.5 },
  ]);
  const requests = sum('requests', names);
  const active = names.filter((name) => of(name, 'requests').some(Boolean));
  charts.traffic.show(steps, active.map((name) => ({ name, colour: colour(name), values: ratio(of(name, 'requests'), requests) })));
  const paid = names.filter((name) => of(name, 'cost_usd').some(Boolean));
  charts.cost.show(steps, paid.map((name) => ({
    name, colour: colour(name), values: of(name, 'cost_usd').map((usd, i) => (usd / seconds[i]) * 3600) })));
  for (const what of ['ttft', 'e2e']) {
    for (const q of QUANTILES) {
      const shown = names.filter((name) => targets[name][`${what}_ms`].n.slice(begin, end).some(Boolean));
      charts[what + q].show(steps, shown.map((name) => ({
        name, colour: colour(name), values: targets[name][`${what}_ms`][q].slice(begin, end) })));
    }
  }
}

// -- figures

function figure(name, value, unit, under, kind = '') {
  return h('dl', { class: 'figure' }, h('dt', {}, name),
    h('dd', { class: kind }, value, unit ? h('small', {}, ` ${unit}`) : null), h('dd', { class: 'under' }, under || NONE));
}

function drawFigures(stats) {
  const all = stats.totals;
  const before = all.errors_before_failover;
  const after = all.errors_after_failover;
  const quantile = (name, times) => {
    const { p50, p95, p99 } = times;
    return figure(name, time(p95.value), 'p95', `p50 ${time(p50.value)} · p99 ${time(p99.value)} · n ${short(times.n)}`);
  };
  const errors = (name, one, what, bad) => figure(name, share(one.rate), null,
    one.n ? `${count(one.failed)} of ${short(one.n)} ${what} · ${between(one.low, one.high, share)}` : `no ${what}`, bad);
  const input = Object.entries(all.tokens).filter(([name]) => /input|cache/.test(name)).reduce((sum, [, n]) => sum + n, 0);
  const output = Object.values(all.tokens).reduce((sum, n) => sum + n, 0) - input;
  $('figures').replaceChildren(
    figure('Requests', rate(all.requests / stats.covered_s), '/s', `${count(all.requests)} · ${stats.in_flight} in flight`),
    errors('Errors before failover', before, 'attempts', before.failed ? 'warn' : ''),
    errors('Errors after failover', after, 'requests', after.failed ? 'bad' : after.n ? 'good' : ''),
    quantile('TTFT', all.ttft_ms),
    quantile('E2E', all.e2e_ms),
    figure('Failovers', count(all.failovers), null, `${count(all.retries)} retries`),
    figure('Stalled streams', all.streams ? share(all.stalled_streams / all.streams) : NONE, null, `${count(all.stalled_streams)} of ${short(all.streams)} streams`),
    figure('Cost', money(all.cost_per_hour_usd), all.cost_per_hour_usd === null ? null : '/h',
      all.unpriced_attempts ? `${short(all.unpriced_attempts)} attempts without a price` : `${short(input)} tokens in · ${short(output)} out`),
  );
}

// -- tables

const BREAKER = { closed: ['good', 'closed'], open: ['bad', 'open'], half_open: ['warn', 'half open'] };

function breaker(row) {
  if (!row.breaker) return h('span', { class: 'quiet' }, NONE);
  const [kind, text] = BREAKER[row.breaker] ?? ['quiet', row.breaker];
  const barred = row.barred && row.barred !== 'breaker_open' ? row.barred.replaceAll('_', ' ') : null;
  const left = row.seconds ? `${Math.ceil(row.seconds)} s` : null;
  return h('span', { class: `state ${barred && kind === 'good' ? 'warn' : kind}`, title: row.last_error ? `last error: ${row.last_error.replaceAll('_', ' ')}` : null },
    h('span', { class: 'dot', 'aria-hidden': 'true' }), barred ?? text, left ? h('small', {}, left) : null);
}

function drawTargets(stats) {
  const heads = [['Target', 1, 'left'], ['Breaker', 1, 'left'], ['Share', 1, 'left'], ['Requests', 1], ['In flight', 1], ['Attempts', 1],
    ['failed', 1], ['why', 1, 'left'], ['TTFT p50', 1], ['p95', 1], ['p99', 1], ['E2E p50', 1], ['p95', 1], ['p99', 1], ['Stalled', 1], ['Cost/h', 1]];
  const quantiles = (times) => QUANTILES.map((q) => {
    const one = times[q];
    const range = between(one.low, one.high, time);
    return h('td', { title: one.value === null ? `n = ${times.n}: too few` : `n = ${times.n}${range ? `, 95 % interval ${range}` : ''}` }, time(one.value));
  });
  const rows = stats.targets.map((row) => {
    const failed = row.errors_before_failover;
    const kinds = Object.entries(row.error_kinds).sort((a, b) => b[1] - a[1]);
    return h('tr', { own: colour(row.target) },
      h('th', { scope: 'row' }, named(row.target)),
      h('td', { class: 'left' }, breaker(row)),
      h('td', { class: 'left' }, h('span', { class: 'bar', 'aria-hidden': 'true' }, h('i', { style: { width: `${(row.share ?? 0) * 100}%` } })), share(row.share)),
      h('td', {}, count(row.requests)), h('td', {}, count(row.in_flight)), h('td', {}, count(row.attempts)),
      h('td', { class: failed.failed ? 'bad' : '', title: failed.n ? `95 % interval ${between(failed.low, failed.high, share)}` : null }, share(failed.rate)),
      h('td', { class: 'left quiet' }, kinds.slice(0, 2).map(([kind, n]) => `${kind.replaceAll('_', ' ')} ${count(n)}`).join(', ') || NONE),
      quantiles(row.ttft_ms), quantiles(row.e2e_ms),
      h('td', {}, row.streams ? share(row.stalled_streams / row.streams) : NONE), h('td', {}, money(row.cost_per_hour_usd)));
  });
  if (!rows.length) rows.push(h('tr', {}, h('td', { class: 'left quiet', colspan: heads.length }, 'No routes are configured: targets appear as clients name them, as provider/model.')));
  $('targets').replaceChildren(
    h('thead', {}, h('tr', {}, heads.map(([name, span, kind]) => h('th', { scope: 'col', colspan: span > 1 ? span : null, class: kind }, name)))),
    h('tbody', {}, rows));
}

const VERDICTS = { promote: 'good', reject: 'bad', inconclusive: 'warn', budget_exhausted: 'warn' };
const STANDINGS = { shown: ['good', 'shown'], harmed: ['bad', 'harmed'], open: ['quiet', 'open'] };

function drawVerdicts(experiments) {
  $('shadow').hidden = !experiments.length;
  const heads = ['Experiment', 'Route', 'Candidate', 'Verdict', 'Metrics: candidate against primary, above 0 is better (× below 1); 95 % sequence'];
  const number = (metric, value) => (value === null ? NONE : metric.is_ratio ? `× ${value.toFixed(2)}` : `${value > 0 ? '+' : ''}${value.toFixed(3)}`);
  const metric = (one) => {
    const [kind, text] = STANDINGS[one.standing] ?? ['quiet', one.standing];
    const range = one.n ? ` ${number(one, one.estimate)} (${number(one, one.low)} to ${number(one, one.high)})` : '';
    return h('span', { class: 'metric', title: `${one.role}, n = ${one.n}: ${one.rule}` }, one.name, h('small', {}, range), ' ', h('span', { class: kind }, text));
  };
  $('verdicts').replaceChildren(
    h('thead', {}, h('tr', {}, heads.map((name) => h('th', { scope: 'col', class: 'left' }, name)), ['Units', 'Spent'].map((name) => h('th', { scope: 'col' }, name)))),
    h('tbody', {}, experiments.flatMap((one) => [h('tr', {},
      h('th', { scope: 'row' }, one.name),
      h('td', { class: 'left' }, one.routes.join(', ')),
      h('td', { class: 'left' }, named(one.candidate)),
      h('td', { class: `left ${VERDICTS[one.state] ?? 'quiet'}`, title: one.why || null },
        one.primary === null && one.state === 'running' ? 'report only' : one.state.replaceAll('_', ' '), one.label ? h('small', {}, ` ${one.label}`) : null),
      h('td', { class: 'left metrics' }, one.metrics.map(metric)),
      h('td', {}, `${count(one.units)} of ${short(one.max_units)}`), h('td', {}, money(one.spent_usd))),
    h('tr', {}, h('td', { class: 'left next', colspan: 7 }, h('div', {}, one.next.split('`').map((part, at) => (at % 2 ? h('code', {}, part) : part)))))])));
}

// -- keys with limits

function drawKeys(keys) {
  $('keys').hidden = !keys.length;
  const heads = [['Key', 'left'], ['Requests a minute'], ['Tokens a minute'], ['Budgets', 'left'], ['Refused', 'left']];
  const room = (one) => (one === null ? NONE : h('span', { class: one.left < one.limit / 10 ? 'bad' : null }, `${short(Math.max(0, Math.floor(one.left)))} of ${short(one.limit)} left`));
  const spans = { day: 'a day', month: 'a month', total: 'in all' };
  const budget = (one) => h('span', { class: 'metric' },
    h('span', { class: one.spent_usd >= one.limit_usd ? 'bad' : one.spent_usd >= 0.8 * one.limit_usd ? 'warn' : null }, `${money(one.spent_usd)} of ${money(one.limit_usd)} ${spans[one.span]}`),
    one.renews_at === null ? null : h('small', {}, ` renews ${new Date(one.renews_at * 1000).toISOString().slice(5, 16).replace('T', ' ')} UTC`));
  const refused = (one) => Object.entries(one.refused).filter(([, n]) => n).map(([limit, n]) => `${limit} ${count(n)}`).join(', ');
  $('limits').replaceChildren(
    h('thead', {}, h('tr', {}, heads.map(([name, kind]) => h('th', { scope: 'col', class: kind }, name)))),
    h('tbody', {}, keys.map((one) => h('tr', {}, h('th', { scope: 'row' }, one.key),
      h('td', {}, room(one.rpm)), h('td', {}, room(one.tpm)),
      h('td', { class: 'left metrics' }, one.budget.length ? one.budget.map(budget) : NONE),
      h('td', { class: `left ${refused(one) ? 'warn' : 'quiet'}` }, refused(one) || NONE)))));
}

// -- exchanges

function drawExchanges() {
  const focused = document.activeElement?.dataset?.exchange;
  const rows = state.exchanges.map((one) => h('tr', {},
    h('th', { scope: 'row' }, h('button', { type: 'button', class: 'link', 'data-exchange': one.id, onclick: () => explain(one.id),
      'aria-label': `Explain the exchange of ${clock(Date.parse(one.at) / 1000)}` }, clock(Date.parse(one.at) / 1000))),
    h('td', { class: 'left' }, one.route ?? one.model,
      one.operation && one.operation !== 'chat' ? h('small', {}, ` ${one.operation.replace('_', ' ')}`) : null),
    h('td', { class: 'left', own: one.target ? colour(one.target) : null }, tries(one), one.target ?? NONE),
    h('td', { class: `left ${one.outcome === 'ok' ? '' : ['client_closed', 'client_error'].includes(one.outcome) ? 'quiet' : 'bad'}` }, one.outcome.replaceAll('_', ' ')),
    h('td', { class: 'left' }, one.stream ? 'stream' : 'whole'),
    h('td', {}, time(one.ttft_ms)), h('td', {}, time(one.e2e_ms)),
    h('td', {}, one.input_tokens === null ? NONE : `${short(one.input_tokens)} → ${short(one.output_tokens)}`),
    h('td', {}, money(one.cost_usd))));
  const heads = [['Time', 'left'], ['Route', 'left'], ['Target', 'left'], ['Outcome', 'left'], ['Answer', 'left'], ['TTFT'], ['E2E'], ['Tokens'], ['Cost']];
  if (!rows.length) rows.push(h('tr', {}, h('td', { class: 'left quiet', colspan: heads.length },
    state.noStore ?? (state.filter === 'all' ? 'No records yet.' : `None in the last ${LONG[state.window]}.`))));
  $('exchanges').replaceChildren(h('thead', {}, h('tr', {}, heads.map(([name, kind]) => h('th', { scope: 'col', class: kind }, name)))), h('tbody', {}, rows));
  $('exchanges-note').textContent = state.exchanges.length ? 'The latest. Choose a time to see why its request went where it went.' : '';
  if (focused) document.querySelector(`[data-exchange="${CSS.escape(focused)}"]`)?.focus();
}

function tries(one) {
  const failed = Math.max(0, one.attempts - (one.winner_no ? 1 : 0));
  const text = `${one.attempts} ${one.attempts === 1 ? 'attempt' : 'attempts'}, ${failed} failed`;
  return h('span', { class: 'tries', role: 'img', 'aria-label': text, title: text },
    Array.from({ length: Math.min(failed, 6) }, () => h('i', { class: 'failed' })), one.winner_no ? h('i', { class: 'won' }) : null);
}

// -- the whole

function notice(stats) {
  const lost = stats.losses.reduce((sum, one) => sum + one.records, 0);
  $('notices').replaceChildren(...[
    ...stats.degraded.map((text) => h('p', {}, text)),
    lost ? h('p', { class: 'bad' }, `${count(lost)} records were lost since the start (${stats.losses.map((one) => `${one.sink}: ${one.reason} ${count(one.records)}`).join(', ')}). Requests were not.`) : null,
  ].filter(Boolean));
}

function empty(stats) {
  const none = stats.totals.requests === 0;
  $('empty').hidden = !none;
  $('charts').hidden = none;
  if (!none) return;
  const body = '{"model": "MODEL", "messages": [{"role": "user", "content": "Hello"}]}';
  $('empty').replaceChildren(
    h('p', {}, `No requests in the last ${LONG[state.window]}. GET v1/models lists the names to ask for; an app needs only this base URL:`),
    h('pre', {}, `curl ${location.origin}/v1/chat/completions \\\n  -H 'content-type: application/json' \\\n  -d '${body}'`));
}

function tell(kind, text) {
  $('status').dataset.state = kind;
  $('status-text').textContent = text;
  document.body.classList.toggle('stale', kind === 'lost');
}

async function refresh() {
  const stats = await read(`api/stats?window=${state.window}`);
  $('version').textContent = stats.version;
  stats.targets.map((row) => row.target).sort().forEach(colour);
  notice(stats);
  empty(stats);
  drawFigures(stats);
  if (!$('charts').hidden) drawCharts(stats);
  drawTargets(stats);
  if (stats.draining) tell('draining', 'draining');
  else tell('live', state.paused ? `paused at ${clock(stats.now)}` : 'live');
}

// Whoever reads the list must not lose what he reads: it stands still under the pointer, under a keyboard's focus and
// behind the drawer. `state.anew`: something else was asked for.
function held() {
  const list = $('exchanges');
  const reading = list.matches(':hover') || list.querySelector(':focus-visible') || document.getElementById('drawer').open;
  return Boolean(reading) && state.exchanges.length > 0 && !state.anew;
}

async function refreshExchanges() {
  if (held()) {
    $('exchanges-note').textContent = 'Held still while you are on it; it goes on when you leave.';
    return;
  }
  state.anew = false;
  try {
    state.exchanges = (await read(`api/exchanges?limit=15&origin=live${narrowed()}`)).exchanges;
    state.noStore = null;
  } catch (error) {
    if (error instanceof Denied || !error.code) throw error;
    state.exchanges = [];
    state.noStore = error.message;
  }
  drawExchanges();
}

function narrowed() {
  if (state.filter === 'all') return '';
  const since = new Date(Date.now() - WINDOWS[state.window] * 1000).toISOString();
  return `&since=${since}&${state.filter === 'moved' ? 'min_attempts=2' : 'failed=1'}`;
}

let exchangesDue = 0;

async function turn() {
  clearTimeout(state.waiting);
  try {
    await refresh();
    if (performance.now() >= exchangesDue) {
      await refreshExchanges();
      drawVerdicts((await read('api/shadow')).experiments);
      drawKeys((await read('api/keys')).keys);
      exchangesDue = performance.now() + EXCHANGES_MS - STATS_MS / 2;
    }
  } catch (error) {
    if (error instanceof Denied) {
      tell('lost', 'locked');
      await askForToken(error.message);
      return turn();
    }
    tell('lost', error.code ? 'not allowed' : 'not reachable');
    $('notices').replaceChildren(h('p', { class: 'bad' }, error.code ? error.message : `The proxy does not answer (${error.message}). Trying again.`));
  }
  if (!state.paused) state.waiting = setTimeout(turn, document.hidden ? 10 * STATS_MS : STATS_MS);
}

function choice(box, options, chosen, choose) {
  box.replaceChildren(...Object.entries(options).map(([value, text]) => h('button', { type: 'button', 'aria-pressed': `${value === chosen}`,
    onclick: () => {
      box.querySelectorAll('button').forEach((one) => one.setAttribute('aria-pressed', `${one.textContent === text}`));
      choose(value);
    } }, text)));
}

choice($('window'), Object.fromEntries(Object.keys(WINDOWS).map((one) => [one, one])), state.window, (value) => {
  state.window = value;
  state.anew = true;
  exchangesDue = 0;
  turn();
});
choice($('filter'), FILTERS, state.filter, (value) => {
  state.filter = value;
  state.anew = true;
  exchangesDue = 0;
  turn();
});
$('pause').addEventListener('click', () => {
  state.paused = !state.paused;
  $('pause').setAttribute('aria-pressed', `${state.paused}`);
  $('pause').textContent = state.paused ? 'Go on' : 'Pause';
  exchangesDue = 0;
  turn();
});
document.addEventListener('visibilitychange', () => document.hidden || state.paused || turn());
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', redrawAll);
turn();
