// A picture of the live page, as docs/live-page.md has it:  node picture.mjs CHROMIUM URL FILE [dark|light]

import { chromium } from 'playwright-core';

const [executablePath, url, path, colorScheme = 'dark'] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });
const page = await browser.newPage({ viewport: { width: 1440, height: 1110 }, colorScheme });
await page.goto(url);
await page.getByRole('button', { name: '1m' }).click();
await page.locator('canvas').nth(8).waitFor();
await page.getByRole('button', { name: 'Failed over' }).click();
await page.locator('.tries .failed').first().waitFor();
await page.mouse.move(0, 0);
await page.evaluate(() => scrollTo(0, 0));
await page.screenshot({ path });
await browser.close();
