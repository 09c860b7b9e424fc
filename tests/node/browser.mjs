// A Chromium for the tests of the dashboard, and what must not happen on any page.
// Arguments of each test: the address of the control plane, a token with the role write, one with the role read, and its own.

import { strict as assert } from 'node:assert';
import { createRequire } from 'node:module';
import { join } from 'node:path';

export const [address, writer, reader, ...rest] = process.argv.slice(2);
const require = createRequire(join(process.env.FOREBAY_NODE, 'package.json'));
const { chromium } = require('playwright-core');
const axe = require('axe-core').source;
export const mqtt = require('mqtt');

export const origin = `http://${address}`;
const PATIENCE = 60_000;
export const browser = await chromium.launch({
  executablePath: process.env.FOREBAY_CHROMIUM || '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--host-resolver-rules=MAP rebound.example 127.0.0.1'],
});

export const faults = [];
/** Forgets what the browser itself says of an answer that is meant to be refused. */
export function expected(text) {
  assert.ok(faults.some((fault) => fault.includes(text)), `nothing was said of ${text}`);
  for (let i = faults.length - 1; i >= 0; i--) if (faults[i].includes(text)) faults.splice(i, 1);
}
/** A page of its own browser; `from`: where its requests may go. */
export async function open(theme, viewport = { width: 1280, height: 900 }, from = origin) {
  const context = await browser.newContext({ viewport, colorScheme: theme });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  page.on('console', (message) => message.type() === 'verbose' || faults.push(`console: ${message.text()}`));
  page.on('pageerror', (error) => faults.push(`error: ${error.stack}`));
  page.on('request', (request) => request.url().startsWith(`${from}/`) || faults.push(`a request to ${request.url()}`));
  page.on('dialog', (dialog) => faults.push(`a dialog: ${dialog.message()}`));
  await page.addInitScript(() => addEventListener('securitypolicyviolation', (event) => console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`)));
  return page;
}
export async function logIn(page, token, base = `${origin}/ui/`) {
  await page.goto(base);
  await page.getByLabel('Token').fill(token);
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: 'Overview' }).waitFor();
}
/** What axe finds on a page: WCAG 2.2 AA. */
export async function axeFinds(page, where) {
  await page.evaluate(axe);
  const found = await page.evaluate(() => window.axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'] }));
  found.violations.forEach((one) => faults.push(`axe, ${where}: ${one.id}: ${one.nodes.map((node) => `${node.target} ${node.failureSummary}`).join('; ')}`));
}
export const text = (page) => page.evaluate(() => document.body.innerText);
export async function until(what, holds) {
  const end = Date.now() + PATIENCE;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`not within a minute: ${what}`);
    await new Promise((done) => setTimeout(done, 100));
  }
  console.log(what);
}
/** What the API answers to the login of a page. */
export async function api(page, path, options = {}) {
  const answer = await page.request.fetch(`${origin}/api/v1/${path}`, { headers: { 'X-Forebay': '1' }, ...options });
  return { status: answer.status(), body: await answer.json().catch(() => null) };
}
/** Looks at pages in both themes, at a desktop's width and a phone's. `titles`: by what follows `#/`. */
export async function looks(titles, picture = async () => {}) {
  for (const theme of ['light', 'dark']) {
    for (const [size, viewport] of Object.entries({ wide: { width: 1280, height: 900 }, narrow: { width: 320, height: 640 } })) {
      const page = await open(theme, viewport);
      await logIn(page, writer);
      for (const [hash, title] of Object.entries(titles)) {
        await page.goto(`${origin}/ui/#/${hash}`);
        await page.getByRole('heading', { level: 1, name: title }).waitFor();
        await page.getByText('Live', { exact: true }).waitFor();
        await page.waitForTimeout(1200);
        const [needed, there] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
        if (needed > there) faults.push(`${hash.slice(0, 60)} at ${viewport.width}: ${needed} wide`);
        await axeFinds(page, `${hash.slice(0, 60)} ${theme} ${size}`);
        await picture(page, `${hash.replaceAll('/', '-')}-${theme}-${size}`);
      }
      await page.context().close();
    }
    console.log(`pages in ${theme}`);
  }
}
/** Tabs until what has the focus has this name. */
export async function tabTo(page, name) {
  for (let i = 0; i < 90; i++) {
    if ((await page.evaluate(() => document.activeElement?.innerText?.trim())) === name) return;
    await page.keyboard.press('Tab');
  }
  throw new Error(`no Tab leads to ${name}`);
}
export async function end() {
  await browser.close();
  assert.deepEqual(faults, []);
  console.log('done');
  // Clients that are still connected keep Node.
  process.exit();
}
