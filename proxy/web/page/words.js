// Numbers and moments as text, and elements as elements. Text that came from elsewhere only ever becomes a text node.

export const NONE = '–';

export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key === 'own') element.style.setProperty('--own', value);
    else if (key === 'style') Object.assign(element.style, value);
    else if (key.startsWith('on')) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? '' : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function time(ms) {
  if (ms === null || ms === undefined) return NONE;
  if (ms < 1) return `${ms.toFixed(2)} ms`;
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 999.5) return `${ms.toFixed(0)} ms`;
  if (ms < 9995) return `${(ms / 1000).toFixed(2)} s`;
  return `${(ms / 1000).toFixed(1)} s`;
}

// The same for a scale: round numbers, so nothing behind the point that says nothing.
export function timeTick(ms) {
  return ms === 0 ? '0' : ms < 1000 ? `${+ms.toFixed(2)} ms` : `${+(ms / 1000).toFixed(2)} s`;
}

export function moneyTick(usd) {
  return usd === 0 ? '0' : usd < 0.001 ? `$${usd.toExponential(0)}` : `$${+usd.toPrecision(3)}`;
}

export function shareTick(value) {
  return value === 0 ? '0' : `${+(value * 100).toPrecision(3)} %`;
}

export function share(value) {
  if (value === null || value === undefined) return NONE;
  if (value === 0) return '0 %';
  if (value < 0.0001) return '< 0.01 %';
  const percent = value * 100;
  return `${percent < 1 ? percent.toFixed(2) : percent < 10 ? percent.toFixed(1) : percent.toFixed(0)} %`;
}

export function money(usd) {
  if (usd === null || usd === undefined) return NONE;
  if (usd === 0) return '$0';
  if (usd < 0.00001) return `$${usd.toExponential(1)}`;
  return `$${usd < 0.01 ? usd.toPrecision(2) : usd < 100 ? usd.toFixed(usd < 1 ? 3 : 2) : count(Math.round(usd))}`;
}

export function count(value) {
  return value === null || value === undefined ? NONE : value.toLocaleString('en-GB');
}

export function short(value) {
  if (value === null || value === undefined) return NONE;
  if (value < 10000) return count(value);
  return value < 1e6 ? `${(value / 1e3).toFixed(value < 1e5 ? 1 : 0)}k` : `${(value / 1e6).toFixed(1)}M`;
}

export function rate(perSecond) {
  return perSecond >= 100 ? perSecond.toFixed(0) : perSecond >= 10 ? perSecond.toFixed(1) : perSecond.toFixed(2);
}

export function clock(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString('en-GB');
}

export function between(low, high, words) {
  return low === null || high === null ? null : `${words(low)} – ${words(high)}`;
}

// A target keeps its colour whatever else is configured or shown: by its name, moved on only where two would clash.
const SLOTS = 8;
const taken = new Map();

export function colour(target) {
  if (!taken.has(target)) {
    let slot = [...target].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) >>> 0, 7) % SLOTS;
    const used = new Set(taken.values());
    while (used.size < SLOTS && used.has(slot)) slot = (slot + 1) % SLOTS;
    taken.set(target, slot);
  }
  return `var(--c${taken.get(target)})`;
}

export function named(target) {
  return h('span', { own: colour(target) }, h('span', { class: 'swatch' }), target);
}
