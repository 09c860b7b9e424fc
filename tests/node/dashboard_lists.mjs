// Clients, subscriptions, shares, retained messages, listeners, clusters and the spool in the dashboard, as a person uses them.
// tests/service/dashboard_pages.rs starts the service. Arguments: those of browser.mjs, and the addresses of its two listeners.

import { strict as assert } from 'node:assert';
import { createServer } from 'node:net';
import { api, end, examine, expected, faults, logIn, looks, mqtt, open, origin, reader, rest, tabTo, text, until, writer } from './browser.mjs';

const HOSTILE = '<img src=x onerror=alert(1)>\u202egpj';
const LONG = `long-${'x'.repeat(20_000)}`;
const connect = (clientId, options = {}) =>
  mqtt.connectAsync(`mqtt://${rest[0]}`, { clientId, protocolVersion: 5, clean: false, reconnectPeriod: 0, properties: { sessionExpiryInterval: 3600 }, ...options });

// 250 sessions, of which most have gone; a few that do something.
for (let n = 0; n < 250; n++) await (await connect(`meter-${n}`)).endAsync();
const hostile = await connect(HOSTILE);
await hostile.subscribeAsync(`<script>alert(2)</script>/#`, { qos: 1 });
const long = await connect(LONG);
const reads = await connect('reads', { username: 'ada', password: 'x' });
await reads.subscribeAsync('plant/+/temp', { qos: 1 });
for (const n of [1, 2]) await (await connect(`worker-${n}`)).subscribeAsync('$share/workers/jobs/#', { qos: 1 });
const away = await connect('away');
await away.subscribeAsync('plant/#', { qos: 1 });
await away.endAsync();
await reads.publishAsync('plant/7/temp', '{"t":21.50,"n":1708703790535904509}', { qos: 1, retain: true });
await reads.publishAsync('plant/<b>8/bytes', Buffer.from([0, 255, 254, 65]), { qos: 1, retain: true });
await reads.publishAsync(`plant/${'y'.repeat(10_000)}`, 'z'.repeat(60_000), { qos: 0, retain: true });

const page = await open();
await logIn(page, writer);
const client = (id) => api(page, `clients/${encodeURIComponent(id)}`);
const rows = (label) => page.getByRole('region', { name: label, exact: true }).getByRole('row');

// Clients by pages, and by search.
await page.getByRole('link', { name: 'Clients', exact: true }).click();
await until('a page of a hundred', async () => (await rows('Clients').count()) === 101);
const firstOf = async () => (await rows('Clients').nth(1).innerText()).split('\n')[0];
const first = await firstOf();
await page.getByRole('button', { name: 'Next page' }).click();
await until('the next page is another one', async () => (await firstOf()) !== first && (await page.getByText('page 2').count()) === 1);
await page.getByRole('button', { name: 'First page' }).click();
await until('and the first one again', async () => (await firstOf()) === first);
for (const [what, n] of [['meter-24', 11], ['ADA', 1], ['127.0.0.1', 5], ['nobody at all', 0]]) {
  await page.getByLabel('Search').fill(what);
  await until(`search by ${what}`, async () => {
    const found = await rows('Clients').count();
    return n === 0 ? (await page.getByText('No client fits').count()) === 1 : found === n + 1;
  });
}
await page.getByLabel('Search').fill('');
await page.getByLabel('Show').selectOption('connected');
await until('only those that are connected', async () => (await rows('Clients').count()) === 6);
// The long name of one client leaves the columns beside it where they are.
const column = await page.getByRole('columnheader', { name: 'Queued' }).boundingBox();
assert.ok(column.x + column.width <= 1280, `the column ends at ${column.x + column.width}`);
// Those of one listener, by its choice and by the number on the page of listeners.
await page.getByLabel('Listener').selectOption(rest[1]);
await until('nobody has connected to the second listener', async () => (await page.getByText('No client fits').count()) === 1);
const second = await mqtt.connectAsync(`mqtt://${rest[1]}`, { clientId: 'at-the-second', protocolVersion: 5, reconnectPeriod: 0 });
await page.getByRole('link', { name: 'Listeners', exact: true }).click();
await page.getByRole('region', { name: 'Listeners' }).getByRole('row', { name: rest[1] }).getByRole('link', { name: '1', exact: true }).click();
await until('the clients of a listener', async () => (await rows('Clients').count()) === 2 && (await rows('Clients').nth(1).innerText()).startsWith('at-the-second'));
await page.getByRole('button', { name: 'As a command' }).first().click();
await page.getByRole('dialog').getByText(`forebay clients --listener ${rest[1]}`).waitFor();
await page.keyboard.press('Escape');
await second.endAsync();
await page.getByLabel('Listener').selectOption('any');
await page.getByLabel('Show').selectOption('connected');
await until('all of them again', async () => (await rows('Clients').count()) === 6);
const shown = await text(page);
assert.ok(shown.includes('<img src=x onerror=alert(1)>\\u{202e}gpj') && shown.includes('(20,005 characters)'));
assert.equal(await page.locator('img[src="x"], main script').count(), 0);
console.log('what clients chose is text');

// One client: what waits for it, and its end.
await page.getByLabel('Show').selectOption('all');
await page.getByLabel('Search').fill('away');
await page.getByRole('link', { name: 'away', exact: true }).click();
await page.getByRole('heading', { level: 1, name: 'away' }).waitFor();
await until('what waits for it is what the API says', async () => {
  const { body } = await client('away');
  const tile = await page.locator('.tile', { hasText: 'Queued messages' }).innerText();
  return body.queued_messages === 2 && tile.includes('\n2\n');
});
assert.ok((await page.getByRole('region', { name: 'Subscriptions' }).first().innerText()).includes('plant/#'));
await until('its events are there', async () => (await text(page)).includes('client_disconnected'));
assert.ok(await page.getByRole('button', { name: 'Disconnect' }).isDisabled(), 'it is not connected');
await page.goto(`${origin}/ui/#/clients/${encodeURIComponent(HOSTILE)}?auth=`);
await page.getByRole('button', { name: 'Disconnect' }).waitFor();
await until('the page has found it', async () => page.getByRole('button', { name: 'Disconnect' }).isEnabled());
const gone = new Promise((done) => hostile.once('disconnect', (packet) => done(packet.reasonCode)));
await tabTo(page, 'Disconnect');
await page.keyboard.press('Enter');
await page.getByRole('dialog').getByText('Its session stays').waitFor();
await examine(page, 'a client that is to be disconnected');
await page.getByRole('dialog').getByRole('button', { name: 'Disconnect' }).press('Enter');
assert.equal(await gone, 0x98, 'the client is told');
await until('it is disconnected, by the keyboard alone', async () => (await client(HOSTILE)).body.connected === false);
await page.getByRole('button', { name: 'End session' }).click();
await page.getByRole('dialog').getByText('1 subscription, and 0 messages').waitFor();
await page.getByRole('dialog').getByRole('button', { name: 'End the session' }).click();
await until('its session has ended', async () => (await client(HOSTILE)).status === 404);
await page.getByText('it has gone, or was never here').waitFor();
for (const one of ['404']) await until('the browser says so', () => faults.some((fault) => fault.includes(one))).then(() => expected(one));

// Subscriptions: who gets a topic, and a filter.
await page.goto(`${origin}/ui/#/subscriptions`);
await page.getByLabel('Who gets topic').fill('plant/7/temp');
await until('who gets a topic', async () => (await rows('Subscriptions').count()) === 3);
await page.getByLabel('Who gets topic').fill('');
await page.getByLabel('Topic filter').fill('plant/#');
await until('who has a filter', async () => (await rows('Subscriptions').count()) === 2 && (await rows('Subscriptions').nth(1).innerText()).includes('away'));
// Both at once: those with this filter that get this topic.
await page.getByLabel('Who gets topic').fill('plant/7/temp');
await until('who gets a topic by a filter', async () => (await rows('Subscriptions').count()) === 2 && (await rows('Subscriptions').nth(1).innerText()).includes('away'));
await page.getByLabel('Topic filter').fill('jobs/#');
await page.getByText('Nobody gets messages of this topic by a subscription to this filter').waitFor();
await page.getByLabel('Who gets topic').fill('');
await page.getByText('Nobody has subscribed to this filter').waitFor();
await page.getByLabel('Topic filter').fill('plant/#/x');
await until('what is no filter is said', async () => (await text(page)).includes('a topic filter') && (await page.getByRole('alert').count()) > 0);
await expected('400');

// Shares, and their members.
await page.goto(`${origin}/ui/#/shares`);
await until('a share with its members', async () => /workers\s+jobs\/#\s+\S+\s+2\s+2\s+0/.test((await rows('Shared subscriptions').nth(1).innerText()).replaceAll('\t', ' ')));
await page.getByRole('link', { name: 'workers' }).click();
await until('the members of a share', async () => (await rows('Subscriptions').count()) === 3 && (await text(page)).includes('worker-2'));

// Retained messages, their payloads in all forms, and the end of one.
await page.goto(`${origin}/ui/#/retained`);
await until('retained messages', async () => (await rows('Retained messages').count()) === 4);
await page.getByLabel('Topic filter').fill('plant/+/temp');
await until('those that a filter matches', async () => (await rows('Retained messages').count()) === 2);
await page.getByRole('button', { name: 'Payload' }).click();
const dialog = page.getByRole('dialog');
await dialog.getByRole('button', { name: 'JSON' }).click();
await until('a payload as JSON', async () => (await dialog.locator('pre').innerText()) === '{\n  "t": 21.50,\n  "n": 1708703790535904509\n}');
await dialog.getByRole('button', { name: 'hex' }).click();
await until('as bytes', async () => (await dialog.locator('pre').innerText()).startsWith('000000  7b 22 74 22'));
await examine(page, 'a payload');
await dialog.getByRole('button', { name: 'Delete' }).click();
await dialog.getByText('Those that have it are not told').waitFor();
await dialog.getByRole('button', { name: 'Delete' }).click();
await until('it is retained no longer', async () => (await api(page, 'retained/plant%2F7%2Ftemp')).status === 404 && (await page.getByText('No retained message has a topic').count()) === 1);
await page.getByLabel('Topic filter').fill('plant/+/bytes');
await page.getByText('plant/<b>8/bytes').waitFor();
await page.getByRole('button', { name: 'Payload' }).click();
await until('bytes that are no text', async () => (await dialog.locator('pre').innerText()).startsWith('000000  00 ff fe 41'));
await page.keyboard.press('Escape');

// Listeners, clusters, the spool: their numbers are those of the API.
await page.goto(`${origin}/ui/#/listeners`);
await until('the listener has its connections', async () => {
  const { body } = await api(page, 'listeners');
  return (await rows('Listeners').nth(1).innerText()).split('\t').map((cell) => cell.trim())[3] === String(body.listeners[0].connections);
});
// One more, by a form: made, changed, and deleted with its clients.
const server = createServer().listen(0, '127.0.0.1');
await new Promise((done) => server.once('listening', done));
const free = `127.0.0.1:${server.address().port}`;
await new Promise((done) => server.close(done));
await page.getByRole('link', { name: 'New listener' }).click();
await page.getByLabel('Address').fill(free);
await page.getByText('Advanced').click();
await page.getByLabel('Connections max').fill('7');
await page.getByRole('button', { name: 'Check' }).click();
const would = page.getByRole('region', { name: 'What would change' });
await would.getByText(`Applied now: listener ${free} (added)`).waitFor();
await examine(page, 'a new listener');
await would.getByRole('button', { name: 'Apply' }).click();
const third = rows('Listeners').filter({ hasText: free });
await until('it is there', async () => (await third.innerText()).includes('0 of 7'));
const guest = await mqtt.connectAsync(`mqtt://${free}`, { clientId: 'guest', protocolVersion: 5, reconnectPeriod: 0 });
await third.getByRole('button', { name: 'Change' }).click();
const written = page.getByRole('textbox', { name: 'Keys' });
await until('its key is there', async () => (await written.inputValue()) === 'connections_max = 7\n');
await written.fill('connections_max = 9\n');
await page.getByRole('button', { name: 'Check' }).click();
await would.getByText(`Applied now: listener ${free} (changed: connections_max)`).waitFor();
await would.getByRole('button', { name: 'Apply' }).click();
await until('it is changed, and its client has stayed', async () => (await third.innerText()).includes('1 of 9'));
const left = new Promise((done) => guest.once('disconnect', (packet) => done(packet.reasonCode)));
await third.getByRole('button', { name: 'Delete' }).click();
await page.getByRole('dialog').getByText('Its clients are disconnected').waitFor();
await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
assert.equal(await left, 0x98);
await until('it has gone', async () => (await third.count()) === 0);
await page.goto(`${origin}/ui/#/clusters`);
await page.getByRole('link', { name: 'embedded' }).click();
await page.getByRole('button', { name: 'Try to connect' }).click();
await page.getByRole('heading', { name: 'It can be reached' }).waitFor();
await page.goto(`${origin}/ui/#/spool`);
await until('what the spool has written', async () => {
  const { body } = await api(page, 'spool');
  const [shard] = body.shards;
  const ofShard = (await rows('Shards').nth(1).innerText()).split('\t').map((cell) => cell.trim());
  return body.records_written > 0 && (await page.locator('.tile', { hasText: 'Written' }).innerText()).includes(String(body.records_written))
    && ofShard[0] === '0' && ofShard[1] === 'good' && ofShard[6] === String(shard.records_written);
});

// Names that a path cannot have: browsers take `.` and `..` out of it, percent-encoded too.
const dots = await Promise.all(['.', '..'].map((id) => connect(id)));
await dots[1].publishAsync('..', 'of dots', { qos: 1, retain: true });
for (const id of ['.', '..']) {
  await page.goto(`${origin}/ui/#/clients?search=..`);
  await page.getByRole('link', { name: '..', exact: true }).waitFor();
  if (id === '..') await page.getByRole('link', { name: id, exact: true }).click();
  else await page.goto(`${origin}/ui/#/clients/~.?auth=`);
  await page.getByRole('heading', { level: 1, name: `Clients / ${id}`, exact: true }).waitFor();
  await until(`the client ${id} is found`, async () => page.getByRole('button', { name: 'Disconnect' }).isEnabled());
}
await page.getByRole('button', { name: 'End session' }).click();
await page.getByRole('dialog').getByText('/api/v1/clients/~..').waitFor();
await page.getByRole('dialog').getByRole('button', { name: 'End the session' }).click();
await until('its session has ended', async () => (await api(page, 'clients/~..')).status === 404);
assert.equal((await api(page, 'clients/~.')).body.client_id, '.');
await page.getByText('it has gone, or was never here').waitFor();
await expected('404');
await page.goto(`${origin}/ui/#/retained`);
await page.getByLabel('Topic filter').fill('..');
await until('the message of the topic ..', async () => (await rows('Retained messages').count()) === 2);
await page.getByRole('button', { name: 'Payload' }).click();
await until('has its payload', async () => (await dialog.locator('pre').innerText()) === 'of dots');
await page.keyboard.press('Escape');
await dots[0].endAsync();

// Who may only read: lists, no payloads, no end of anything.
const other = await open();
await logIn(other, reader);
await other.goto(`${origin}/ui/#/retained`);
await other.getByRole('button', { name: 'Payload' }).first().waitFor();
assert.ok(await other.getByRole('button', { name: 'Payload' }).first().isDisabled());
assert.equal((await api(other, 'retained/plant%2F%3Cb%3E8%2Fbytes')).status, 403, 'a payload needs the role write');
await other.goto(`${origin}/ui/#/clients/reads?auth=`);
await other.getByText('ada').first().waitFor();
for (const name of ['Disconnect', 'End session']) assert.ok(await other.getByRole('button', { name }).isDisabled(), name);
await other.context().close();
console.log('who reads ends nothing');

await looks({
  clients: 'Clients', 'clients/reads?auth=': 'reads', [`clients/${encodeURIComponent(LONG)}?auth=`]: 'long-', subscriptions: 'Subscriptions', shares: 'Shares',
  retained: 'Retained', listeners: 'Listeners', 'listeners?new=yes': 'New listener', clusters: 'Clusters', 'clusters/embedded': 'embedded', spool: 'Spool',
});
await Promise.all([long, reads].map((one) => one.endAsync()));
await end();
