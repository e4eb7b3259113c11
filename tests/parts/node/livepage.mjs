// The live page in a real browser:  node livepage.mjs CHROMIUM OPEN_URL LOCKED_URL TOKEN
// Prints {name of a check: null, or what went wrong}. The proxy at OPEN_URL has had traffic with failures.

import assert from 'node:assert/strict';
import { chromium } from 'playwright-core';

const [executablePath, open, locked, token] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });
const wrong = [];
const hosts = new Set();

async function visit(url, options = {}) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  page.on('pageerror', (error) => wrong.push(`page error: ${error.message}`));
  page.on('console', (message) => {
    // A refused token is in the console as a failed request; everything else there is a fault.
    if (['error', 'warning'].includes(message.type()) && !message.text().includes('401')) wrong.push(message.text());
  });
  page.on('request', (request) => hosts.add(new URL(request.url()).host));
  await page.goto(url);
  return page;
}

const drawn = (page) => page.evaluate(() => [...document.querySelectorAll('.chart')].map((chart) => {
  const canvas = chart.querySelector('canvas');
  const name = chart.querySelector('h3').firstChild.textContent;
  if (!canvas) return [name, 'no canvas'];
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  const colours = new Set();
  for (let i = 0; i < data.length; i += 4) if (data[i + 3] > 200 && Math.max(data[i], data[i + 1], data[i + 2]) - Math.min(data[i], data[i + 1], data[i + 2]) > 60) colours.add(1);
  return [name, colours.size && chart.querySelector('.ends').textContent ? 'drawn' : 'blank'];
}));

const checks = {
  async 'every chart is drawn, wide and narrow, dark and light'() {
    for (const colorScheme of ['dark', 'light']) {
      for (const width of [1440, 360]) {
        const page = await visit(open, { colorScheme, viewport: { width, height: 900 } });
        await page.locator('canvas').nth(8).waitFor();
        const charts = await drawn(page);
        assert.equal(charts.length, 9);
        assert.deepEqual(charts.filter(([, how]) => how !== 'drawn'), []);
        const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        assert.ok(overflow <= 0, `${overflow} px too wide at ${width}`);
        await page.context().close();
      }
    }
  },
  async 'it shows what the API says'() {
    const page = await visit(open);
    await page.locator('#targets tbody tr').first().waitFor();
    const stats = await (await fetch(`${open}api/stats?window=5m`)).json();
    const figures = await page.locator('#figures').innerText();
    assert.ok(figures.includes(`${stats.totals.errors_before_failover.failed} of`), figures);
    assert.match(figures, /Errors after failover\s+0 %/);
    const rows = await page.locator('#targets tbody th').allInnerTexts();
    assert.deepEqual(rows, stats.targets.map((row) => row.target));
  },
  async 'what a client wrote is text, never markup'() {
    const page = await visit(open);
    await page.locator('[data-exchange]').first().waitFor();
    assert.match(await page.locator('#exchanges').innerText(), /<img src=x onerror=/);
    assert.equal(await page.locator('main img').count(), 0);
  },
  async 'it updates by itself, and pauses'() {
    const page = await visit(open);
    let asked = 0;
    page.on('request', (request) => { asked += request.url().includes('/api/stats'); });
    await page.waitForRequest((request) => request.url().includes('/api/stats'));
    await page.getByRole('button', { name: 'Pause' }).click();
    await page.locator('#status', { hasText: 'paused' }).waitFor();
    const then = asked;
    await page.getByRole('button', { name: 'Go on' }).click();
    await page.locator('#status', { hasText: 'live' }).waitFor();
    await page.waitForRequest((request) => request.url().includes('/api/stats'));
    assert.ok(asked > then);
  },
  async 'everything is reached by keyboard, with the focus visible'() {
    const page = await visit(open, { viewport: { width: 1280, height: 900 } });
    await page.locator('[data-exchange]').first().waitFor();
    await page.getByRole('button', { name: 'Pause' }).click();
    await page.locator('.skip').focus();
    const seen = [];
    for (let i = 0; i < 60; i++) {
      await page.keyboard.press('Tab');
      const one = await page.evaluate(() => {
        const element = document.activeElement;
        const outline = getComputedStyle(element);
        return { name: element.getAttribute('aria-label') || element.textContent, visible: outline.outlineStyle !== 'none' && outline.outlineWidth !== '0px',
          exchange: Boolean(element.dataset.exchange) };
      });
      assert.ok(one.name.trim(), 'an element that takes the focus has no name');
      assert.ok(one.visible, `the focus on ${one.name} is not visible`);
      seen.push(one);
      if (one.exchange) break;
    }
    const names = seen.map((one) => one.name).join('\n');
    for (const wanted of ['1h', 'Go on', 'Errors before and after failover. Latest', 'E2E p99. Latest', 'Failed over']) assert.ok(names.includes(wanted), `${wanted} is not reached:\n${names}`);
    await page.keyboard.press('Enter');
    await page.locator('#drawer[open] .body').waitFor();
    assert.match(await page.locator('#drawer').innerText(), /The whole record/);
    await page.keyboard.press('Escape');
    await page.locator('#drawer[open]').waitFor({ state: 'detached' });
    assert.ok(await page.evaluate(() => Boolean(document.activeElement.dataset.exchange)), 'the focus does not come back');
  },
  async 'the list stands still while somebody reads it'() {
    const page = await visit(open, { viewport: { width: 1280, height: 1600 } });
    await page.locator('[data-exchange]').first().waitFor();
    await page.locator('#exchanges tbody tr').nth(3).hover();
    await page.locator('#exchanges-note', { hasText: 'Held still' }).waitFor();
    await page.mouse.move(2, 2);
    await page.locator('#exchanges-note', { hasText: 'The latest' }).waitFor();
    await page.locator('.skip').focus();
    await page.locator('[data-exchange]').first().focus();
    await page.keyboard.press('Enter');
    await page.locator('#drawer[open] .body').waitFor();
    await page.locator('#exchanges-note', { hasText: 'Held still' }).waitFor();
    await page.keyboard.press('Escape');
    await page.locator('#drawer[open]').waitFor({ state: 'detached' });
    assert.ok(await page.evaluate(() => Boolean(document.activeElement.dataset.exchange)), 'the focus does not come back');
  },
  async 'the arrows read the charts'() {
    const page = await visit(open);
    await page.locator('canvas').nth(8).waitFor();
    await page.getByRole('button', { name: 'Pause' }).click();
    await page.locator('.plot').first().focus();
    await page.keyboard.press('ArrowLeft');
    assert.match(await page.locator('.chart h3 span').first().innerText(), /^\d\d:\d\d:\d\d$/);
    assert.match(await page.locator('.chart h3 span').nth(4).innerText(), /^\d\d:\d\d:\d\d$/, 'the others follow');
  },
  async 'breakers and shadow experiments are shown'() {
    const page = await visit(open);
    await page.locator('#verdicts tbody tr').first().waitFor();
    const experiment = await page.locator('#verdicts tbody tr').first().innerText();
    assert.match(experiment, /good-for-chat\s+chat\s+good\/m\s+report only/);
    const states = await page.locator('#targets tbody td:nth-child(2)').allInnerTexts();
    assert.ok(states.slice(0, 2).every((text) => /closed|open|half open/.test(text)), states.join());
  },
  async 'the drawer explains a failover'() {
    const page = await visit(open);
    await page.getByRole('button', { name: 'Failed over' }).click();
    await page.locator('.tries .failed').first().waitFor();
    await page.locator('[data-exchange]').first().click();
    await page.locator('#drawer .track').nth(1).waitFor();
    const text = await page.locator('#drawer').innerText();
    assert.match(text, /Answered by good\/m, after bad\/m failed \(server error 503\)/);
    assert.match(text, /Plan\s+Route chat, policy ordered/);
    assert.match(text, /\d+ in, \d+ out/);
    assert.match(text, /Cost\s+\$\d/);
  },
  async 'beyond its own machine it asks for the token, and keeps it in the tab'() {
    const page = await visit(locked);
    await page.locator('#token[open]').waitFor();
    assert.equal(await page.locator('#targets tr').count(), 0, 'nothing is shown before');
    await page.getByRole('textbox', { name: 'Token' }).fill('not it');
    await page.keyboard.press('Enter');
    await page.locator('#token-wrong', { hasText: 'This is not the token' }).waitFor();
    await page.getByRole('textbox', { name: 'Token' }).fill(token);
    await page.keyboard.press('Enter');
    await page.locator('#status', { hasText: 'live' }).waitFor();
    await page.reload();
    await page.locator('#status', { hasText: 'live' }).waitFor();
    await page.locator('#limits tbody tr').waitFor();
    assert.match(await page.locator('#limits tbody').innerText(), /app\s+600 of 600 left\s+–\s+\$0 of \$5\S* a day renews \d\d-\d\d 00:00 UTC/);
    const kept = await page.evaluate(() => [localStorage.length, document.cookie, location.href]);
    assert.deepEqual(kept, [0, '', locked]);
  },
  async 'no error, and no request to another host'() {
    assert.deepEqual(wrong, []);
    assert.deepEqual([...hosts].sort(), [new URL(open).host, new URL(locked).host].sort());
  },
};

const told = {};
for (const [name, check] of Object.entries(checks)) {
  try {
    await check();
    told[name] = null;
  } catch (error) {
    told[name] = String(error.message).slice(0, 1500);
  }
  for (const context of browser.contexts()) await context.close();
}
await browser.close();
console.log(JSON.stringify(told));
