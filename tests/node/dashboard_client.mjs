// The MQTT client in the dashboard, as a person uses it: rows T29 to T31 of TBMQ's guide. tests/service/dashboard_pages.rs starts the service.
// Arguments: those of browser.mjs, and the address of a Kafka with the sink's topic.

import { strict as assert } from 'node:assert';
import { readFileSync, writeFileSync } from 'node:fs';
import { api, end, examine, expected, logIn, looks, open, origin, reader, records, rest, until, writer } from './browser.mjs';

const [kafka] = rest;
const kcat = (topic) => records(kafka, topic, '%k %s\n');
const page = await open();
await logIn(page, writer);

// T29: the page, the default connection, Connect, status "Connected".
await page.getByRole('link', { name: 'Client', exact: true }).click();
await page.getByRole('heading', { level: 1, name: 'Client' }).waitFor();
await page.getByRole('button', { name: 'Connect', exact: true }).click();
await page.getByRole('status').getByText('Connected', { exact: true }).waitFor();
const messages = page.getByRole('region', { name: 'Messages', exact: true }).last();
const says = (...parts) => until(parts.join(', '), async () => (await messages.getByRole('row').allInnerTexts()).some((row) => parts.every((part) => row.includes(part))));
await says('CONNACK', 'success');
const id = await page.getByLabel('Client ID').inputValue();
assert.equal((await api(page, `clients/${id}`)).body.connected, true);

// What comes is shown; T30: publish to tbmq/kafka-integration with Send; T31: it is in Kafka.
await page.getByLabel('Topic filter').fill('tbmq/#');
await page.getByRole('button', { name: 'Subscribe', exact: true }).click();
await says('SUBSCRIBE', 'tbmq/#', 'granted QoS 1');
const stamp = `${Date.now()}`;
assert.equal(await page.getByLabel('Topic', { exact: true }).inputValue(), 'tbmq/kafka-integration');
await page.getByLabel('Payload').fill(`{"t":${stamp}}<img src=x onerror=alert(1)>\u202e`);
await page.getByText('Properties', { exact: true }).click();
await page.getByLabel('Content type').fill('application/json');
await page.getByLabel('User properties').fill('site = berlin\nline = a=b');
await page.getByRole('button', { name: 'Send' }).click();
await says('PUBLISH', 'acknowledged: success');
await says('in', 'tbmq/kafka-integration', `{"t":${stamp}}<img src=x onerror=alert(1)>\\u{202e}`, 'content type application/json', '"site":"berlin","line":"a=b"');
assert.equal(await page.locator('img[src="x"]').count(), 0);
await until('kcat reads tbmq.messages', async () => kcat('tbmq.messages').includes(stamp));
await examine(page, 'a client with messages');

// QoS 0 and 2, retained; by keyboard.
await page.getByRole('region', { name: 'Publish' }).getByLabel('QoS').selectOption('2');
await page.getByLabel('Topic', { exact: true }).fill('tbmq/two');
await page.getByLabel('Topic', { exact: true }).press('Enter');
await says('PUBLISH', 'tbmq/two', 'acknowledged: success');

// A topic that is none: the service ends the connection, and the publish is not forgotten.
await page.getByLabel('Topic', { exact: true }).fill('tbmq/#');
await page.getByRole('button', { name: 'Send' }).click();
await says('PUBLISH', 'tbmq/#', 'no answer', '0x81');
await page.getByRole('button', { name: 'Connect', exact: true }).click();
await page.getByRole('status').getByText('Connected', { exact: true }).waitFor();
// What was typed is there after it.
assert.deepEqual([await page.getByLabel('Topic', { exact: true }).inputValue(), await page.getByLabel('Topic filter').inputValue()], ['tbmq/#', 'tbmq/#']);
await page.getByRole('button', { name: 'Subscribe', exact: true }).click();
await page.getByRole('button', { name: 'Unsubscribe' }).waitFor();

// It stays connected while other pages are shown.
await page.getByRole('link', { name: 'Overview' }).click();
await page.getByRole('heading', { level: 1, name: 'Overview' }).waitFor();
await page.getByRole('link', { name: 'Client', exact: true }).click();
await page.getByRole('status').getByText('Connected', { exact: true }).waitFor();
await page.getByRole('button', { name: 'Unsubscribe' }).click();
await says('UNSUBSCRIBE', 'tbmq/#');

// Disconnected by somebody: the reason is shown.
assert.equal((await api(page, `clients/${id}/disconnect`, { method: 'POST', headers: { Origin: origin } })).status, 204);
await page.getByText('the service has disconnected it: 0x98').first().waitFor();
await page.getByRole('button', { name: 'Connect', exact: true }).waitFor();

// Under the access control of the first listener, as a user of its own: in 3.1.1 as well.
const listener = encodeURIComponent('127.0.0.1:0');
const changed = await api(page, `listeners/${listener}`, { method: 'PUT', headers: { Origin: origin }, data: { auth: 'devices' } });
assert.equal(changed.status, 200, JSON.stringify(changed.body));
await page.getByRole('button', { name: 'Connect', exact: true }).click();
await page.getByRole('status').getByText('Connected', { exact: true }).waitFor();
assert.equal((await api(page, `clients/${id}`)).body.auth, 'devices');
await page.getByRole('region', { name: 'Publish' }).getByLabel('QoS').selectOption('1');
await page.getByLabel('Topic', { exact: true }).fill('forbidden/x');
await page.getByRole('button', { name: 'Send' }).click();
await until('a denied publish says its code', async () => /PUBLISH\s+forbidden\/x[^]*?(0x87|Not authorized)/i.test(await messages.innerText()));
await page.getByLabel('Topic', { exact: true }).fill('tbmq/allowed');
await page.getByRole('button', { name: 'Send' }).click();
await says('PUBLISH', 'tbmq/allowed', 'acknowledged: success');
await page.getByRole('button', { name: 'Disconnect', exact: true }).click();
await page.getByRole('button', { name: 'Connect', exact: true }).waitFor();
await page.locator('form.filters').getByLabel('MQTT').selectOption('3.1.1');
await page.getByRole('button', { name: 'Connect', exact: true }).click();
await page.getByRole('status').getByText('Connected', { exact: true }).waitFor();
await page.getByRole('button', { name: 'Send' }).click();
await says('PUBLISH', 'tbmq/allowed', 'acknowledged: success');

// It ends with the login.
await page.getByRole('button', { name: 'Log out' }).click();
await page.getByLabel('Token').waitFor();
const other = await open();
await logIn(other, writer);
await until('the client has gone with the login', async () => !(await api(other, `clients/${id}`)).body.connected);

// And with its token, which is withdrawn.
const tokens = /^tokens_file = "(.*)"$/m.exec((await api(other, 'config/file')).body.text)[1];
const kept = readFileSync(tokens, 'utf8');
await other.goto(`${origin}/ui/#/client`);
const again = await other.getByLabel('Client ID').inputValue();
await other.getByRole('button', { name: 'Connect', exact: true }).click();
await other.getByRole('status').getByText('Connected', { exact: true }).waitFor();
writeFileSync(tokens, kept.split('\n').filter((line) => !line.startsWith('ops ')).join('\n'));
await other.getByLabel('Token').waitFor();
await expected('401');
const withReader = { headers: { Authorization: `Bearer ${reader}` } };
await until('the client has gone with the token', async () => !(await (await fetch(`${origin}/api/v1/clients/${again}`, withReader)).json()).connected);
writeFileSync(tokens, kept);
await until('the token is back', async () => (await fetch(`${origin}/api/v1/session`, { headers: { Authorization: `Bearer ${writer}` } })).ok);
await other.context().close();

// Who may only read has none.
const third = await open();
await logIn(third, reader);
await third.goto(`${origin}/ui/#/client`);
await third.getByText('this needs a token with the role write').waitFor();
console.log('who reads has no client');

await looks({ client: 'Client' });
await end();
