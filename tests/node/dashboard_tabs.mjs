// Many tabs of one browser where the page came over plain HTTP from another machine; and what was typed before a login ended.
// tests/service/dashboard_pages.rs starts the service, on all addresses. Arguments: those of browser.mjs.

import { strict as assert } from 'node:assert';
import { address, end, examine, expected, logIn, open, reader, tabTo, until, writer } from './browser.mjs';

// A browser has six connections to a host, and Web Locks only where the page came safely.
const TABS = 8;
const from = `http://rebound.example:${address.split(':').at(-1)}`;
const ui = (hash) => `${from}/ui/#/${hash}`;
const page = await open({ from });
const streams = new Set();
const watch = (tab) => {
  const isLive = (request) => new URL(request.url()).pathname.endsWith('/api/v1/live');
  tab.on('request', (request) => isLive(request) && streams.add(request));
  for (const over of ['requestfinished', 'requestfailed']) tab.on(over, (request) => streams.delete(request));
};
watch(page);
await logIn(page, writer, ui('overview'));
assert.equal(await page.evaluate(() => isSecureContext || Boolean(navigator.locks)), false);
const tabs = [page];
for (let n = 1; n < TABS; n++) {
  const tab = await page.context().newPage();
  watch(tab);
  await tab.goto(ui('sinks'), { timeout: 20_000 });
  tabs.push(tab);
}
const live = (tab) => tab.getByText('Live', { exact: true });
for (const tab of tabs) await live(tab).waitFor();
await until('all of them have numbers by one stream', () => streams.size === 1);
const reads = tabs.find((tab) => [...streams].some((request) => request.frame().page() === tab));
await reads.close();
streams.clear();
const left = tabs.filter((tab) => tab !== reads);
await until('another one reads where that has gone', () => streams.size === 1);
await left[0].waitForTimeout(3500);
for (const tab of left) assert.equal(await live(tab).count(), 1);
assert.equal(streams.size, 1, 'and it alone');
console.log('eight tabs, one stream');
for (const tab of left.slice(1)) await tab.close();

// A login that has ended, noticed by a press of a button: what was typed is there after the next one of that token.
const kept = left[0];
const ended = async (tab, button) => {
  await tab.context().clearCookies();
  // The page may notice by itself before.
  await button.click({ timeout: 3000 }).catch(() => {});
  await tab.getByLabel('Token').waitFor();
  assert.equal(await tab.getByRole('navigation').count(), 0, 'nothing of the page is shown');
  assert.equal(await tab.getByRole('button', { name: 'Go on without' }).count(), 0);
};
const again = async (tab, token) => {
  await tab.getByLabel('Token').fill(token);
  await tab.keyboard.press('Enter');
  await tab.getByRole('navigation').waitFor();
};
const statement = (tab) => tab.getByRole('textbox', { name: /Statement/ });
const check = (tab) => tab.getByRole('button', { name: 'Check' });
await kept.goto(ui('config'));
const file = kept.getByRole('textbox', { name: 'The file' });
await until('the file is there', async () => (await file.inputValue()).includes('[control]'));
await file.fill(`${await file.inputValue()}\n# typed\n`);
await ended(kept, check(kept));
await examine(kept, 'a login before a page');
await again(kept, writer);
assert.ok((await file.inputValue()).endsWith('\n# typed\n'));
await check(kept).click();
await kept.getByRole('region', { name: 'What would change' }).waitFor();
await live(kept).waitFor();
console.log('the text of the configuration');

await kept.goto(ui('sinks?new=yes'));
await kept.getByLabel('Name', { exact: true }).fill('typed');
await kept.getByLabel('Kafka topic', { exact: true }).fill('a-topic');
await ended(kept, check(kept));
await again(kept, writer);
assert.deepEqual([await kept.getByLabel('Name', { exact: true }).inputValue(), await kept.getByLabel('Kafka topic', { exact: true }).inputValue()], ['typed', 'a-topic']);
console.log('a form');

await kept.goto(ui('sql'));
const sql = statement(kept);
await sql.fill('SELECT 1 AS typed FROM "t"');
await ended(kept, kept.getByRole('button', { name: 'Run', exact: true }));
await again(kept, writer);
assert.equal(await sql.inputValue(), 'SELECT 1 AS typed FROM "t"');
console.log('a statement');

await kept.goto(ui('top'));
await kept.getByRole('button', { name: 'Publish' }).click();
const dialog = kept.getByRole('dialog');
await dialog.getByLabel('Topic').fill('typed/7');
await ended(kept, dialog.getByRole('button', { name: 'Publish' }));
await tabTo(kept, 'Log in');
await again(kept, writer);
assert.equal(await dialog.getByLabel('Topic').inputValue(), 'typed/7');
console.log('a dialog');

// A login in one tab is one in all of them, and so is its end. What was typed stays as after any login.
const second = await kept.context().newPage();
await second.goto(ui('sql'));
await second.getByRole('heading', { level: 1, name: 'SQL' }).waitFor();
await statement(second).fill('SELECT 2 AS typed FROM "t"');
await ended(kept, dialog.getByRole('button', { name: 'Publish' }));
await second.getByRole('button', { name: 'Run', exact: true }).click({ timeout: 3000 }).catch(() => {});
await second.getByLabel('Token').waitFor();
await again(second, writer);
await kept.getByRole('navigation').waitFor();
assert.deepEqual([await dialog.getByLabel('Topic').inputValue(), await statement(second).inputValue()], ['typed/7', 'SELECT 2 AS typed FROM "t"']);
for (const tab of [kept, second]) await live(tab).waitFor();
await second.getByRole('button', { name: 'Log out' }).click();
for (const tab of [kept, second]) await tab.getByLabel('Token').waitFor();
assert.equal(await kept.locator('dialog').count(), 0, 'nothing of the page is left');
await again(second, writer);
await kept.getByRole('heading', { level: 1, name: 'Top' }).waitFor();
await second.close();
console.log('a login is one of all tabs');
await kept.getByRole('button', { name: 'Publish' }).click();
await dialog.getByLabel('Topic').fill('typed/8');

// Another token is somebody else: they get nothing of it.
await ended(kept, dialog.getByRole('button', { name: 'Publish' }));
await again(kept, reader);
await kept.getByRole('heading', { level: 1, name: 'Top' }).waitFor();
assert.equal(await kept.locator('dialog[open]').count(), 0);
await kept.goto(ui('sql'));
assert.notEqual(await sql.inputValue(), 'SELECT 1 AS typed FROM "t"');
console.log('somebody else has nothing of it');
if (kept === page) await expected('401');
await end();
