// A Chromium for the tests of the dashboard, and what must not happen on any page.
// Arguments of each test: the address of the control plane, a token with the role write, one with the role read, and its own.

import { strict as assert } from 'node:assert';
import { execFileSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { keyboardFinds, watchesHandlers } from './keyboard.mjs';

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
// A test that fails says what the browser had to say until then.
process.on('uncaughtExceptionMonitor', () => console.error(faults.join('\n')));
/** Waits for what the browser itself says of an answer that is meant to be refused, and forgets it. Its message may come after the page has the answer. */
export async function expected(text) {
  await until(`the browser says ${text}`, () => faults.some((fault) => fault.includes(text)));
  forget(text);
}
/** Forgets what the browser may have said. */
export function forget(text) {
  for (let i = faults.length - 1; i >= 0; i--) if (faults[i].includes(text)) faults.splice(i, 1);
}
/** A desktop, a phone, and the desktop at 200 %: half of its pixels in each direction, each twice as large. */
const SIZES = {
  wide: { viewport: { width: 1280, height: 900 } },
  narrow: { viewport: { width: 320, height: 640 } },
  zoomed: { viewport: { width: 640, height: 450 }, deviceScaleFactor: 2 },
};
/** The colour scheme of all that a test does: `FOREBAY_SCHEME=dark` has it done in dark. */
const SCHEME = process.env.FOREBAY_SCHEME || 'light';
assert.ok(['light', 'dark'].includes(SCHEME), `FOREBAY_SCHEME=${SCHEME}`);
/** A page of its own browser; `from`: where its requests may go. */
export async function open({ theme = SCHEME, viewport = SIZES.wide.viewport, from = origin, ...more } = {}) {
  const context = await browser.newContext({ viewport, colorScheme: theme, ...more });
  await context.addInitScript(watchesHandlers);
  await context.addInitScript(() => addEventListener('securitypolicyviolation', (event) => console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`)));
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  // The files of this checkout in the place of those that the service was built with. The page itself is the service's: its headers hold,
  // and its WebSocket may be opened.
  if (process.env.DASHBOARD_FILES) {
    await page.route(`${from}/ui/**`, (route) => {
      const path = new URL(route.request().url()).pathname.split('/ui/')[1];
      return !path || path === 'mqtt' ? route.continue() : route.fulfill({ path: join(process.env.DASHBOARD_FILES, path) });
    });
  }
  page.on('console', (message) => message.type() === 'verbose' || faults.push(`console: ${message.text()} ${message.location().url.split('/ui/').at(-1).split(address).at(-1)}`));
  page.on('pageerror', (error) => faults.push(`error: ${error.stack}`));
  page.on('request', (request) => request.url().startsWith(`${from}/`) || faults.push(`a request to ${request.url()}`));
  page.on('websocket', (socket) => socket.url().startsWith(`${from.replace('http', 'ws')}/`) || faults.push(`a WebSocket to ${socket.url()}`));
  page.on('dialog', (dialog) => faults.push(`a dialog: ${dialog.message()}`));
  return page;
}
export async function logIn(page, token, base = `${origin}/ui/`) {
  await page.goto(base);
  await page.getByLabel('Token').fill(token);
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: 'Overview' }).waitFor();
}
/** What axe finds on a page, or in its dialog: WCAG 2.2 AA; and what somebody without a mouse does not get there. */
export async function examine(page, where) {
  await axeFinds(page, where);
  (await keyboardFinds(page)).forEach((one) => faults.push(`keyboard, ${where}: ${one}`));
}
async function axeFinds(page, where) {
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
/** Records of a topic as kcat prints them; none while a topic that was made a moment ago is unknown still. */
export function records(kafka, topic, format) {
  try {
    return execFileSync('kcat', ['-b', kafka, '-C', '-t', topic, '-o', 'beginning', '-e', '-q', '-f', format], { encoding: 'utf8', stdio: 'pipe' });
  } catch (error) {
    if (!error.stderr?.includes('Unknown topic')) throw error;
    return '';
  }
}
/** The headers of requests by the login of a page, beside its cookie. */
export const headersOf = async (page) => ({ 'X-Forebay': await page.evaluate(() => Object.entries(sessionStorage).find(([key]) => key.startsWith('forebay-login'))?.[1] ?? '1') });
/** What the API answers to the login of a page. */
export async function api(page, path, { headers = {}, ...options } = {}) {
  const answer = await page.request.fetch(`${origin}/api/v1/${path}`, { headers: { ...(await headersOf(page)), ...headers }, ...options });
  return { status: answer.status(), body: await answer.json().catch(() => null) };
}
/** Controls of a page that nobody can get into sight: beyond its sides, or cut off by what is around them. What scrolls sideways by itself shows all of them. */
const outOfSight = () => [...document.querySelectorAll('a[href], button, input, select, textarea, summary, [tabindex="0"]')].filter((control) => {
  if (!control.checkVisibility({ visibilityProperty: true }) || control.matches('.skip')) return false;
  const { left, right, top, bottom } = control.getBoundingClientRect();
  if (right - left < 1 || bottom - top < 1) return true;
  for (let around = control.parentElement; around; around = around.parentElement) {
    const { overflowX } = getComputedStyle(around);
    if (overflowX === 'auto' || overflowX === 'scroll') return false;
    const box = around.getBoundingClientRect();
    if (overflowX !== 'visible' && (left < box.left - 1 || right > box.right + 1)) return true;
  }
  return left < -1 || right > innerWidth + 1;
}).map((control) => `${control.localName} ${(control.innerText || control.getAttribute('aria-label') || control.value || '').slice(0, 40)}`);
/**
 * Looks at pages in both schemes, or in the one of `FOREBAY_SCHEME`, at each of the sizes; those of a scheme at the same time, as most of it is waiting.
 * `titles`: by what follows `#/`.
 */
export async function looks(titles, picture = async () => {}) {
  for (const theme of process.env.FOREBAY_SCHEME ? [SCHEME] : ['light', 'dark']) {
    await Promise.all(Object.keys(SIZES).map((size) => looksAt(titles, theme, size, picture)));
    console.log(`pages in ${theme}`);
  }
}
async function looksAt(titles, theme, size, picture) {
  const { viewport, ...more } = SIZES[size];
  const page = await open({ theme, viewport, ...more });
  await logIn(page, writer);
  for (const [hash, title] of Object.entries(titles)) {
    await page.goto(`${origin}/ui/#/${hash}`);
    await page.getByRole('heading', { level: 1, name: title }).waitFor();
    await page.getByText('Live', { exact: true }).waitFor();
    await page.waitForTimeout(1200);
    const [needed, there] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    if (needed > there) faults.push(`${hash.slice(0, 60)} ${size}: ${needed} wide`);
    const unseen = await page.evaluate(outOfSight);
    if (unseen.length > 0) faults.push(`${hash.slice(0, 60)} ${size}: out of sight: ${unseen.join('; ')}`);
    // What Tab leads to is the same at each size.
    await (size === 'wide' ? examine : axeFinds)(page, `${hash.slice(0, 60)} ${theme} ${size}`);
    await picture(page, `${hash.replaceAll('/', '-')}-${theme}-${size}`);
  }
  await page.context().close();
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
