// Lists of events go on while a page is open: each shows what a request for all of it would. tests/service/dashboard_pages.rs starts the service.
// Arguments: those of browser.mjs, and the address of its listener.

import { strict as assert } from 'node:assert';
import { api, end, logIn, mqtt, open, origin, rest, until, writer } from './browser.mjs';

const [listener] = rest;
const page = await open();
await logIn(page, writer);
const connect = (clientId) => mqtt.connectAsync(`mqtt://${listener}`, { clientId, protocolVersion: 5, clean: true, properties: { sessionExpiryInterval: 3600 }, reconnectPeriod: 0 });
const shown = async () => (await page.getByRole('region', { name: 'Events', exact: true }).last().getByRole('row').locator('code').allInnerTexts()).filter((kind) => /^[a-z_]+$/.test(kind));
const known = async (query) => (await api(page, `events?${query}`)).body.events.map(({ kind }) => kind);
const follows = (what, query, number) => until(what, async () => {
  const all = await known(query);
  return all.length === number && (await shown()).join() === all.join();
});

await (await connect('meter')).endAsync();
await page.goto(`${origin}/ui/#/clients/meter?auth=`);
await follows('a client has come and gone', 'client=meter', 2);
for (const [n, what] of ['it comes and goes while its page is open', 'and once more'].entries()) {
  const meter = await connect('meter');
  await follows(`${what}: it is there`, 'client=meter', 3 + 2 * n);
  await (await connect('other')).endAsync();
  await meter.endAsync();
  await follows(what, 'client=meter', 4 + 2 * n);
}
assert.deepEqual((await shown()).slice(0, 2), ['client_disconnected', 'client_connected']);

// The page Events, by what it is asked for.
for (const query of ['class=connection', 'kind=client_connected']) {
  await page.goto(`${origin}/ui/#/events?${query}`);
  const before = (await known(query)).length;
  await follows(`${query}: those before`, query, before);
  await (await connect(`next-${query.length}`)).endAsync();
  await follows(`${query}: those that come`, query, before + (query.startsWith('class') ? 2 : 1));
}
await end();
