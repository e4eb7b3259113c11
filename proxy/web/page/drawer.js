// What became of one request, and why: the plan, each attempt on a time line, tokens, cost.

import { read } from './api.js';
import { NONE, colour, count, h, money, named, share as percent, time } from './words.js';

const drawer = document.getElementById('drawer');

export async function explain(id) {
  drawer.replaceChildren(top('Reading …'));
  if (!drawer.open) drawer.showModal();
  try {
    const found = await read(`api/exchanges/${encodeURIComponent(id)}`);
    drawer.replaceChildren(top(sentence(found)), h('div', { class: 'body' },
      facts(found), attempts(found), plan(found), whole(found)));
  } catch (error) {
    drawer.replaceChildren(top('This exchange cannot be shown'), h('div', { class: 'body' }, h('p', {}, error.message)));
  }
  drawer.scrollTop = 0;
}

function top(text) {
  const close = h('button', { type: 'button', onclick: () => drawer.close(), 'aria-label': 'Close' }, 'Close');
  return h('div', { class: 'top' }, h('h2', { id: 'drawer-heading' }, text), close);
}

// A click beside the drawer closes it.
drawer.addEventListener('click', (event) => {
  if (event.target === drawer) drawer.close();
});

function sentence(found) {
  const failed = found.attempts.filter((one) => one.outcome !== 'ok');
  const through = failed.length ? `, after ${failed.map((one) => `${one.target} failed (${reason(one)})`).join(', ')}` : '';
  if (found.outcome === 'ok') return `Answered by ${found.target}${through}`;
  if (!found.attempts.length) return `Refused with ${found.status}: ${words(found.error_kind ?? found.outcome)}`;
  return `Ended as ${words(found.outcome)}: ${failed.map((one) => `${one.target} ${reason(one)}`).join(', ') || words(found.error_kind)}`;
}

function reason(attempt) {
  return [words(attempt.error_kind ?? attempt.outcome), attempt.status && attempt.status >= 400 ? attempt.status : null].filter(Boolean).join(' ');
}

function words(name) {
  return (name ?? '').replaceAll('_', ' ');
}

function list(rows) {
  const shown = rows.filter(([, value]) => value !== null && value !== undefined && value !== '');
  return h('dl', {}, shown.flatMap(([name, value]) => [h('dt', {}, name), h('dd', {}, value)]));
}

function facts(found) {
  return h('section', { 'aria-label': 'Facts' }, list([
    ['Id', found.id],
    ['Arrived', new Date(found.at).toLocaleString('en-GB', { dateStyle: 'medium', timeStyle: 'medium' })],
    ['Asked for', `${found.model}${found.operation ? ` by ${found.operation.replace('_', ' ')}` : ''}${found.stream ? ', as a stream' : ''}`],
    ['Answered as', found.response_model],
    ['Key', found.key],
    ['Status', found.status ? `${found.status}` : 'none sent'],
    ['TTFT', found.ttft_ms === null ? null : time(found.ttft_ms)],
    ['E2E', time(found.e2e_ms)],
    ['Of that the proxy', found.overhead_ms === null ? null : time(found.overhead_ms)],
    ['Stalls', found.stall_count ? `${found.stall_count}, ${time(found.stall_ms)} in all` : null],
    ['Tokens', tokens(found)],
    ['Cost', cost(found)],
  ]));
}

function tokens(one) {
  if (one.input_tokens === null || one.input_tokens === undefined) return one.attempts === 0 ? null : 'not reported';
  const inside = [['cached', one.cached_tokens], ['cache write', one.cache_write_tokens], ['reasoning', one.reasoning_tokens]];
  const more = inside.filter(([, value]) => value).map(([name, value]) => `${count(value)} ${name}`).join(', ');
  return `${count(one.input_tokens)} in, ${count(one.output_tokens)} out${more ? ` (${more})` : ''}`;
}

function cost(one) {
  if (one.cost_usd === null || one.cost_usd === undefined) return 'no price is known';
  return `${money(one.cost_usd)}${one.cost_source ? `, from ${words(one.cost_source)}` : ''}`;
}

function attempts(found) {
  if (!found.attempts.length) return null;
  const end = Math.max(found.e2e_ms ?? 0, ...found.attempts.map((one) => one.marks_ms.end ?? 0)) || 1;
  return h('section', { 'aria-labelledby': 'attempts-heading' },
    h('h3', { id: 'attempts-heading' }, 'Attempts'),
    h('p', { class: 'keys' }, 'hatched: waiting on purpose', ' · ', 'pale: asked, no content yet', ' · ', 'full: content'),
    h('ol', { class: 'attempts' }, found.attempts.map((one) => attempt(one, end))),
    h('p', { class: 'axis', 'aria-hidden': 'true' }, h('span', {}, '0'), h('span', {}, time(end / 2)), h('span', {}, time(end))));
}

function attempt(one, end) {
  const marks = one.marks_ms;
  const begun = marks.received ?? one.begun_ms ?? 0;
  const over = marks.end ?? end;
  const failed = one.outcome !== 'ok';
  const bar = (kind, from, to) => to > from && h('i', { class: kind, style: { left: `${(from / end) * 100}%`, width: `${((to - from) / end) * 100}%` } });
  const content = marks.first_content ?? (failed ? null : marks.first_byte);
  const track = h('div', { class: 'track', own: colour(one.target), 'aria-hidden': 'true' },
    one.wait_ms ? bar('waiting', begun - one.wait_ms, begun) : null,
    bar(failed && content === null ? 'failed' : 'asked', begun, content ?? over),
    content === null ? null : bar(failed ? 'failed' : 'content', content, over));
  const told = [
    one.ttft_ms === null ? null : `first content ${time(one.ttft_ms)} after sending`,
    one.tpot_ms === null ? null : `${time(one.tpot_ms)} a token`,
    one.stall_count ? `${one.stall_count} stalls, the largest gap ${time(one.max_gap_ms)}` : null,
    one.input_tokens === null ? null : tokens(one),
    one.cost_usd === null ? null : money(one.cost_usd),
    one.finish_reason ? `ended with ${words(one.finish_reason)}` : null,
    one.dropped ? `not sent: ${one.dropped}` : null,
    one.detail || null,
  ].filter(Boolean);
  return h('li', {},
    h('div', { class: 'line' }, h('span', {}, `${one.attempt_no}. `, named(one.target)),
      h('span', { class: failed ? 'bad' : 'good' }, failed ? reason(one) : 'ok', ` after ${time(over - begun)}`)),
    track, h('p', { class: 'note' }, told.join(' · ')));
}

function plan(found) {
  const decision = found.decision;
  if (!decision) return null;
  const tried = new Set(found.attempts.map((one) => one.target));
  const { candidates = [], passed_over: passed = [], scores = [], propensities = [], why } = decision;
  const rows = candidates.map((target, place) => h('li', { class: 'line' },
    h('span', {}, `${place + 1}. `, named(target)),
    h('span', { class: 'quiet' }, [
      scores[place] === undefined || scores[place] === null ? null : `score ${+scores[place].toPrecision(3)}`,
      propensities[place] === undefined ? null : `chance to be first ${percent(propensities[place])}`,
      tried.has(target) ? 'tried' : 'not needed',
    ].filter(Boolean).join(' · '))));
  const others = passed.map((one) => h('li', { class: 'line' },
    named(one.target), h('span', { class: 'warn' }, `passed over: ${words(one.reason)}`)));
  const told = [`Route ${found.route ?? 'none: asked for directly'}`, `policy ${found.policy ?? NONE}`, why || null,
    found.propensity === null || found.propensity === 1 || propensities.length ? null : `the first choice had a chance of ${percent(found.propensity)}`];
  return h('section', { 'aria-labelledby': 'plan-heading' },
    h('h3', { id: 'plan-heading' }, 'Plan'),
    h('p', { class: 'note' }, `${told.filter(Boolean).join(', ')}.`),
    h('ol', {}, rows, others));
}

function whole(found) {
  return h('details', {}, h('summary', {}, 'The whole record'), h('pre', {}, JSON.stringify(found, null, 2)));
}
