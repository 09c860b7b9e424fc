// The dashboard in Chromium, as a person uses it. tests/service/dashboard_pages.rs starts the service and feeds it.
// Arguments: those of browser.mjs, the tokens file, and a folder for pictures or "".
// Prints a line for each thing that was seen; the last one is `done`.

import { strict as assert } from 'node:assert';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { address, api, end, examine, expected, faults, logIn, looks, open, origin, reader, rest, tabTo, text, until, writer } from './browser.mjs';

const [tokensFile, pictures] = rest;
const base = `${origin}/ui/`;
async function picture(page, name) {
  if (pictures) await page.screenshot({ path: join(pictures, `${name}.png`), fullPage: true });
}

// Without a token there is a login, and nothing else. A wrong one is refused in words.
const page = await open();
await page.goto(base);
await page.getByLabel('Token').waitFor();
assert.equal(await page.getByRole('navigation').count(), 0);
await page.getByLabel('Token').fill('wrong');
await page.keyboard.press('Enter');
await page.getByRole('alert').waitFor();
// That answer is a 401, which a browser writes to its console.
await until('a wrong token is refused', () => faults.length === 1 && faults[0].includes('401'));
await expected('401');
// Another one at once is not looked at, and the page says for how long; a right one is.
await page.getByLabel('Token').fill('wrong again');
await page.keyboard.press('Enter');
await until('the next wrong one has to wait', async () => (await page.getByRole('alert').innerText()).includes('wrong tokens came from this address'));
await expected('429');
await logIn(page, writer);
assert.equal(await page.evaluate(() => document.cookie), '', 'no script sees the cookie');
console.log('a right one is taken');

// Numbers are those of /metrics. The test has stopped publishing.
const metrics = await (await page.request.get(`http://${address}/metrics`)).text();
const metric = (name) => metrics.split('\n').filter((line) => line.startsWith(name)).reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
const shown = (n) => new Intl.NumberFormat('en').format(n);
const delivered = metric('forebay_sink_records_out_total');
assert.ok(delivered > 0);
await until('the ledger is that of /metrics', async () => {
  const ledger = (await page.locator('.ledger').innerText()).replace(/\s+/g, ' ');
  return ledger.includes(`${shown(metric('forebay_sink_records_in_total'))} records taken`) && ledger.includes(`${shown(delivered)} in Kafka`);
});
await until('so is the number of connections', async () =>
  (await page.locator('.tile', { hasText: 'Connections' }).locator('.big').innerText()).startsWith(shown(metric('forebay_connections{'))));

// All pages, in light and dark, at a desktop's width and a phone's, with what it takes to use them.
await looks({ overview: 'Overview', sinks: 'Sinks', 'sinks/all': 'all', events: 'Events', about: 'About' }, picture);

// What devices choose is text: a name with markup and one that turns text around are shown, and do nothing.
await page.goto(`${base}#/events?class=connection`);
await until('a hostile client id is shown as text', async () => (await text(page)).includes('<img src=x onerror=alert(1)>'));
assert.ok((await text(page)).includes('\\u{202e}'), 'what turns text around is made visible');
assert.equal(await page.locator('img[src="x"]').count(), 0);
await page.goto(`${base}#/sinks/${encodeURIComponent('<script>alert(1)</script>')}`);
await until('so is a name in the address', async () => (await text(page)).includes('no sink'));
await until('and the browser says that there is none', () => faults.some((fault) => fault.includes('404')));
await expected('404');

// An address that is none shows the first page.
for (const hash of ['nothing', '__proto__', 'constructor']) {
  await page.goto(`${base}#/about`);
  await page.getByRole('heading', { level: 1, name: 'About' }).waitFor();
  await page.goto(`${base}#/${hash}`);
  await page.getByRole('heading', { level: 1, name: 'Overview' }).waitFor();
}

// By keyboard alone: the link to the page, to a sink, its pause and what is asked before.
await page.goto(`${base}#/sinks`);
await page.getByRole('link', { name: 'all', exact: true }).waitFor();
await page.reload();
await page.getByRole('link', { name: 'all', exact: true }).waitFor();
await page.keyboard.press('Tab');
assert.equal(await page.evaluate(() => document.activeElement.className), 'skip', 'the first is the link past the navigation');
await tabTo(page, 'all');
await page.keyboard.press('Enter');
await page.getByRole('heading', { level: 1, name: 'all' }).waitFor();
await tabTo(page, 'Pause');
await page.keyboard.press('Enter');
await page.getByRole('dialog').getByText('Nothing new is sent to Kafka').waitFor();
await examine(page, 'a dialog');
await page.keyboard.press('Escape');
await until('Escape closes the dialog', async () => (await page.locator('dialog[open]').count()) === 0);
await tabTo(page, 'Pause');
await page.keyboard.press('Enter');
await page.getByRole('dialog').getByRole('button', { name: 'Pause' }).press('Enter');
await until('the sink is paused, by the keyboard alone', async () =>
  (await api(page, 'sinks/all')).body.state === 'paused');
await until('the page shows it', async () => (await page.locator('.head .state').innerText()).includes('paused'));
await page.getByRole('button', { name: 'Resume' }).click();
await page.getByRole('dialog').getByRole('button', { name: 'Resume' }).click();
await until('and resumed', async () => (await page.locator('.head .state').innerText()).includes('running'));

// The same in a shell.
await page.getByRole('button', { name: 'As a command' }).first().click();
await page.getByRole('dialog').getByText(`forebay sinks all --control ${address}`).waitFor();
await page.keyboard.press('Escape');
console.log('as a command');

// A plot as a table.
await page.getByRole('button', { name: 'Records as a table' }).click();
await page.getByRole('region', { name: 'Records, values' }).getByRole('row').nth(1).waitFor();
console.log('a plot as a table');

// A page of another site gets nothing, whatever it tries with the cookie of this browser.
const foreign = await (await page.context().newPage());
await foreign.route('http://other.example/**', (route) => route.fulfill({ contentType: 'text/html', body: '<p>other' }));
await foreign.goto('http://other.example/');
const tried = await foreign.evaluate(async (address) => {
  const api = `http://${address}/api/v1`;
  const got = [];
  for (const [path, options] of [['/sinks', {}], ['/sinks', { headers: { 'X-Forebay': '1' } }], ['/sinks/all/pause', { method: 'POST' }], ['/live', {}]]) {
    got.push(await fetch(api + path, { credentials: 'include', ...options }).then((answer) => answer.status, () => 'nothing'));
  }
  got.push(await new Promise((done) => {
    const image = Object.assign(new Image(), { onload: () => done('an image'), onerror: () => done('nothing'), src: `http://${address}/ui/icon.svg` });
    document.body.append(image);
  }));
  return got;
}, address);
assert.deepEqual(tried, ['nothing', 'nothing', 'nothing', 'nothing', 'nothing']);
await foreign.close();
console.log('another site gets nothing');

// Who may only read sees why a button is off.
const other = await open();
await logIn(other, reader);
await other.goto(`${base}#/sinks/all`);
const pause = other.getByRole('button', { name: 'Pause' });
await pause.waitFor();
assert.ok(await pause.isDisabled());
assert.equal(await pause.getAttribute('title'), 'needs a token with the role write');
await other.getByRole('button', { name: 'Log out' }).click();
await other.getByLabel('Token').waitFor();
console.log('who reads changes nothing, and may log out');

// A token that is withdrawn ends what its page shows: it asks for another one, and then goes on.
const kept = readFileSync(tokensFile, 'utf8');
await other.close();
await page.goto(`${base}#/events`);
await page.getByRole('heading', { level: 1, name: 'Events' }).waitFor();
writeFileSync(tokensFile, kept.split('\n').filter((line) => !line.startsWith('ops ')).join('\n'));
await page.getByLabel('Token').waitFor();
assert.equal(await page.getByRole('navigation').count(), 0, 'nothing of the page is left');
await until('the page of a withdrawn token asks for another one', () => faults.some((fault) => fault.includes('401')));
await expected('401');
await page.getByLabel('Token').fill(reader);
await page.keyboard.press('Enter');
await page.getByRole('heading', { level: 1, name: 'Events' }).waitFor();
await page.getByText('Live', { exact: true }).waitFor();
console.log('and goes on with it');
writeFileSync(tokensFile, kept);

await end();
