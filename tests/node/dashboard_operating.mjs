// Top, traces and messages by hand in the dashboard, as a person uses them.
// tests/service/dashboard_pages.rs starts the service. Arguments: those of browser.mjs, and the address of its listener.

import { strict as assert } from 'node:assert';
import { readFileSync } from 'node:fs';
import { api, end, examine, expected, forget, logIn, looks, mqtt, open, origin, reader, rest, text, until, writer } from './browser.mjs';

const HOSTILE = '<img src=x onerror=alert(1)>\u202egpj';
const connect = (clientId, options = {}) =>
  mqtt.connectAsync(`mqtt://${rest[0]}`, { clientId, protocolVersion: 5, reconnectPeriod: 0, ...options });
const busy = await connect(HOSTILE, { username: 'ada', password: 'hunter2' });
for (let n = 0; n < 20; n++) await busy.publishAsync('plant/7/temp', '{"t":21.5}', { qos: 1 });
for (let n = 0; n < 3; n++) await busy.publishAsync('plant/8/<b>image', Buffer.alloc(20_000), { qos: 1 });
await busy.publishAsync('plnt/7/temp', 'x', { qos: 1 });

const page = await open();
await logIn(page, writer);
const rows = (label) => page.getByRole('region', { name: label, exact: true }).getByRole('row');
const dialog = page.getByRole('dialog');

// Top: topics, clients, what nobody gets.
await page.getByRole('link', { name: 'Top', exact: true }).click();
await until('the busiest topic is first', async () => (await rows('Top').count()) === 4 && (await rows('Top').nth(1).innerText()).startsWith('plant/7/temp'));
await page.getByRole('button', { name: 'tree', exact: true }).click();
const level = page.locator('.levels > li').filter({ hasText: 'plant' }).first();
await until('two topics below plant', async () => /^plant .*2 topics$/.test((await level.locator('summary').first().innerText()).replace(/\s+/g, ' ')));
await level.locator('summary').first().press('Enter');
await level.locator(".levels summary").filter({ has: page.locator('code', { hasText: /^8$/ }) }).press('Enter');
await until('what a client chose is text there, too', async () => (await level.innerText()).includes('<b>image'));
await page.waitForTimeout(2500);
assert.ok(await level.getByRole('button', { name: 'plant/8/<b>image' }).isVisible(), 'what was opened stays open');
await level.getByRole('button', { name: 'plant/8/<b>image' }).click();
await page.getByRole('region', { name: 'Who gets it' }).getByText('plant/8/<b>image').waitFor();
await page.getByLabel('Who gets topic').fill('');
await page.getByRole('button', { name: 'list', exact: true }).click();
await page.getByRole('button', { name: 'bytes', exact: true }).click();
await until('by bytes another one is', async () => (await rows('Top').nth(1).innerText()).startsWith('plant/8/<b>image'));
await page.getByRole('button', { name: 'clients', exact: true }).click();
await until('the client that publishes', async () => (await rows('Top').nth(1).innerText()).startsWith('<img src=x onerror=alert(1)>\\u{202e}gpj'));
await page.getByRole('button', { name: 'unmatched', exact: true }).click();
await until('what nobody gets', async () => (await rows('Top').count()) === 2 && (await rows('Top').nth(1).innerText()).startsWith('plnt/7/temp'));
await page.getByRole('button', { name: 'plnt/7/temp' }).click();
await page.getByText('Nobody gets messages of this topic').waitFor();
await page.getByLabel('Who gets topic').fill('plant/9/x');
await until('who gets a topic', async () => (await page.getByRole('link', { name: 'all', exact: true }).count()) === 1);
await page.getByLabel('Who gets topic').fill('plant/#');
await until('what is no topic is said', async () => (await page.getByRole('alert').count()) === 1);
await expected('400');
await examine(page, 'top');
console.log('top is read');

// A trace of the client: begun, seen, ended.
await page.getByRole('link', { name: 'Traces', exact: true }).click();
await page.getByRole('button', { name: 'New trace' }).click();
await examine(page, 'a trace that is to begin');
await dialog.getByLabel('Client ID').fill(HOSTILE);
await dialog.getByRole('button', { name: 'Begin' }).press('Enter');
await page.getByText('None yet').waitFor();
await busy.publishAsync('plant/9/temp', 'seen by the trace', { qos: 1, properties: { userProperties: { site: 'berlin' } } });
await until('what the client sends and is sent', async () => {
  const shown = (await text(page)).replaceAll('\t', ' ');
  return shown.includes('seen by the trace') && shown.includes('site=berlin') && shown.includes('PUBACK');
});
assert.equal(await page.locator('img[src="x"], main script').count(), 0);
await busy.endAsync();
const again = await connect(HOSTILE, { username: 'ada', password: 'hunter2' });
await until('its next connection', async () => (await text(page)).includes('user ada, with a password'));
assert.ok(!(await text(page)).includes('hunter2'));
await examine(page, 'a trace');
const { body: listed } = await api(page, 'traces');
const id = listed.traces[0].id;
const [file] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Download' }).click()]);
assert.equal(file.suggestedFilename(), `trace-${id}.json`);
const saved = JSON.parse(readFileSync(await file.path(), 'utf8'));
assert.ok(saved.trace.id === id && saved.packets.some(({ payload }) => payload === 'seen by the trace'), JSON.stringify(saved));
await page.getByRole('button', { name: 'End', exact: true }).click();
await dialog.getByText('Its packets are forgotten').waitFor();
await dialog.getByRole('button', { name: 'End', exact: true }).click();
await until('it has ended', async () => (await api(page, `traces/${id}`)).status === 404);
await page.getByText('There may be four').waitFor();

// A filter that is none, then one that is.
await page.getByRole('button', { name: 'New trace' }).click();
await dialog.getByLabel('What clients publish').check();
await dialog.getByLabel('Topic filter').fill('plant/#/x');
await dialog.getByRole('button', { name: 'Begin' }).click();
await dialog.getByRole('alert').getByText('is not a topic filter').waitFor();
await expected('400');
// The page may have asked for the trace once more while it ended.
forget('404');
await dialog.getByLabel('Topic filter').fill('plant/#');
await dialog.getByRole('button', { name: 'Begin' }).click();
await page.getByText('None yet').waitFor();
await again.publishAsync('plant/10/temp', Buffer.from([0, 255]), { qos: 0 });
await until('a message of the topic, with its client', async () => {
  const row = await rows('Packets').nth(1).innerText();
  return row.includes('plant/10/temp') && row.includes('base64 AP8=') && row.includes('<img src=x');
});
// An address with what is traced opens the dialog, also on the page itself, and for something else.
for (const [of, label] of [['filter=plnt/%23', 'Topic filter'], ['client=gets', 'Client ID']]) {
  await page.goto(`${origin}/ui/#/traces`);
  await page.getByRole('heading', { level: 1, name: 'Traces', exact: true }).waitFor();
  await page.goto(`${origin}/ui/#/traces?${of}`);
  await until(`the dialog for ${of}`, async () => (await dialog.getByLabel(label).inputValue()) === decodeURIComponent(of.split('=')[1]));
  if (label === 'Topic filter') {
    await page.evaluate(() => (location.hash = '#/traces?filter=other'));
    await until('and for another one', async () => (await dialog.getByLabel(label).inputValue()) === 'other');
  }
  await page.keyboard.press('Escape');
}
console.log('traces are followed');

// A message by hand.
const got = await connect('gets');
await got.subscribeAsync('made/#', { qos: 1 });
const heard = new Promise((done) => got.once('message', (topic, payload, packet) => done([topic, String(payload), packet.qos])));
await page.getByRole('link', { name: 'Top', exact: true }).click();
await page.getByRole('button', { name: 'Publish a message' }).click();
await dialog.getByLabel('Topic').fill('made/1');
await dialog.getByLabel('Payload').fill('by hand');
await examine(page, 'a message by hand');
await dialog.getByRole('button', { name: 'Publish' }).press('Enter');
await dialog.getByRole('status').getByText('Published.').waitFor();
assert.deepEqual(await heard, ['made/1', 'by hand', 1]);
await dialog.getByLabel('Topic').fill('$SYS/x');
await dialog.getByRole('button', { name: 'Publish' }).click();
await dialog.getByRole('alert').getByText("the service's own").waitFor();
await expected('400');
await dialog.getByRole('button', { name: 'Close' }).click();
console.log('a message is published');

// A ban: made, in force, ended.
await page.getByRole('link', { name: 'Bans', exact: true }).click();
await page.getByText('Nobody is banned').waitFor();
await page.getByRole('button', { name: 'New ban' }).click();
await examine(page, 'a ban that is to be made');
await dialog.getByLabel('Kind').selectOption('Address');
await dialog.getByLabel('Address to ban').fill('nowhere');
await dialog.getByRole('button', { name: 'Ban', exact: true }).click();
await dialog.getByRole('alert').getByText('address').waitFor();
await expected('400');
await dialog.getByLabel('Kind').selectOption('Client ID');
await dialog.getByLabel('Client ID to ban').fill('gets');
await dialog.getByLabel('Why').fill('<b>it floods</b>');
const kicked = new Promise((done) => got.once('disconnect', (packet) => done(packet.reasonCode)));
await dialog.getByRole('button', { name: 'Ban', exact: true }).press('Enter');
assert.equal(await kicked, 0x98, 'the client is told');
await until('the ban is listed', async () => (await rows('Bans').count()) === 2 && (await rows('Bans').nth(1).innerText()).includes('<b>it floods</b>'));
await assert.rejects(connect('gets'), /Banned/);
await examine(page, 'bans');
await rows('Bans').getByRole('button', { name: 'End' }).click();
await dialog.getByText('It may connect again').waitFor();
await dialog.getByRole('button', { name: 'End', exact: true }).click();
await page.getByText('Nobody is banned').waitFor();
await (await connect('gets')).endAsync();
console.log('a ban is made and ended');

// Who may only read sees packets without what is in messages, and begins nothing.
const { body: running } = await api(page, 'traces');
const other = await open();
await logIn(other, reader);
await other.goto(`${origin}/ui/#/traces`);
await other.getByRole('link', { name: /plant/ }).waitFor();
assert.ok(await other.getByRole('button', { name: 'New trace' }).isDisabled());
await other.goto(`${origin}/ui/#/traces/${running.traces[0].id}`);
await until('packets without payloads', async () => (await text(other)).includes('plant/10/temp'));
assert.ok(!(await text(other)).includes('AP8='));
await other.goto(`${origin}/ui/#/top`);
await other.getByRole('button', { name: 'Publish a message' }).waitFor();
assert.ok(await other.getByRole('button', { name: 'Publish a message' }).isDisabled());
await other.context().close();

await api(page, 'bans', { method: 'POST', data: JSON.stringify({ username: 'y'.repeat(3_000), reason: 'looks' }) });
await looks({ bans: 'Bans', top: 'Top', 'top?of=clients&topic=plant/7/temp': 'Top', 'top?as=tree': 'Top', traces: 'Traces', [`traces/${running.traces[0].id}`]: 'plant' });
await again.endAsync();
await end();
