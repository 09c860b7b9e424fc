// Sources and bridges in the dashboard, as a person uses them: rows E13, E14, E61, E62, E65, E80 and E81 of EMQX's guide.
// tests/service/dashboard_pages.rs starts the service. Arguments: those of browser.mjs, the address of its listener, its configuration file,
// the address of a Kafka, a topic there, and the address of another MQTT broker.

import { strict as assert } from 'node:assert';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { api, end, examine, expected, logIn, looks, mqtt, open, origin, reader, rest, tabTo, text, until, writer } from './browser.mjs';

const [listener, file, kafka, topic, remote] = rest;
const page = await open();
await logIn(page, writer);
const connect = (to, clientId) => mqtt.connectAsync(`mqtt://${to}`, { clientId, protocolVersion: 5, reconnectPeriod: 0 });
const produce = (value) => execFileSync('kcat', ['-P', '-q', '-b', kafka, '-t', topic, '-p', '0'], { input: `${value}\n` });
const rows = (label) => page.getByRole('region', { name: label, exact: true }).getByRole('row');
const dialog = page.getByRole('dialog');
/** By the navigation. */
const goes = (name) => page.getByRole('navigation').getByRole('link', { name, exact: true }).click();
const would = page.getByRole('region', { name: 'What would change' });
const HOSTILE = '<img src=x onerror=alert(1)>\u202egpj';
/** Payloads of messages that come, by client. */
const hears = (client) => {
  const heard = [];
  client.on('message', (of, payload) => heard.push([of, String(payload)]));
  return heard;
};
const device = await connect(listener, 'device');
const heard = hears(device);
await device.subscribeAsync('t/#', { qos: 1 });
produce(`{"msg": "before ${HOSTILE}"}`);

// E65: an input is added, of a cluster that is made in place. E61: its connection is tried before.
await goes('Sources');
await page.getByText('There is no source').waitFor();
await page.getByRole('link', { name: 'New source' }).click();
await page.getByRole('button', { name: 'As in EMQX' }).click();
const value = (label) => page.getByLabel(label, { exact: true }).inputValue();
assert.deepEqual([await value('Name'), await value('Kafka topic'), await value('MQTT topic')], ['my-kafka-source', 'testtopic-out', 't/1']);
const cluster = page.getByRole('region', { name: 'New cluster' });
await cluster.getByLabel('Name of the cluster').fill('my-kafka-source');
await cluster.getByRole('textbox', { name: 'Bootstrap brokers', exact: true }).fill(kafka);
await page.getByLabel('Kafka topic', { exact: true }).fill(topic);
await cluster.getByRole('button', { name: 'Test the connection' }).click();
await page.getByRole('region', { name: 'It can be reached' }).getByText(`Topic ${topic}`).waitFor();
await cluster.getByRole('button', { name: 'Check the cluster' }).click();
await cluster.getByText('It is created at once').waitFor();
await cluster.getByLabel('Also in the configuration file').check();
await cluster.getByText('In force, not in the file: kafka').waitFor({ state: 'detached' });
await cluster.getByRole('button', { name: 'Create the cluster' }).click();
await cluster.waitFor({ state: 'detached' });
await until('the cluster is chosen', async () => (await value('Kafka cluster')) === 'my-kafka-source');

// E80: the source is tried before it is there; a mistake stands at its field.
await page.getByRole('button', { name: 'Test the source' }).click();
await page.getByRole('region', { name: 'It works' }).waitFor();
await until('what becomes of the newest record', async () => (await rows('Newest records').nth(1).innerText()).includes('t/1'));
assert.ok((await text(page)).includes('\\u{202e}gpj') && (await page.locator('img[src="x"]').count()) === 0, 'what is in records is text');
assert.equal((await api(page, 'sources/my-kafka-source')).status, 404, 'it is not there yet');
await examine(page, 'a source that was tried');
const begin = page.getByLabel('Without an offset, begin with', { exact: true });
await begin.fill('never');
await page.getByRole('button', { name: 'Check' }).click();
await until('the mistake is at its field', async () => (await begin.getAttribute('aria-invalid')) === 'true');
await expected('422');
await begin.fill('earliest');
await page.getByLabel('Description', { exact: true }).fill(HOSTILE);
await page.getByRole('button', { name: 'Check' }).click();
await would.getByText('Applied now: source my-kafka-source (added)').waitFor();
await would.getByLabel('Also in the configuration file').check();
await would.getByRole('button', { name: 'Apply' }).click();
await page.getByRole('heading', { level: 1, name: 'my-kafka-source' }).waitFor();
assert.ok(/\[\[source\]\]\nname = "my-kafka-source"/.test(readFileSync(file, 'utf8')));
await until('its record is a message', async () => heard.some(([of, payload]) => of === 't/1' && payload.includes('before')));

// E62: a rule of its records is offered, and begins with them.
await page.getByRole('link', { name: 'Make a rule of its records' }).click();
await page.getByRole('heading', { level: 1, name: 'New rule' }).waitFor();
assert.equal(await page.getByRole('textbox', { name: 'Statement' }).inputValue(), 'SELECT *\nFROM "$bridges/kafka_consumer:my-kafka-source"');
await page.getByLabel('Name', { exact: true }).fill('from_kafka');
await page.getByRole('textbox', { name: 'Statement' }).fill('SELECT value.msg AS msg\nFROM "$bridges/kafka_consumer:my-kafka-source"');
await page.getByLabel('Topic', { exact: true }).fill('t/rule');
await page.getByRole('button', { name: 'Check' }).click();
await would.getByText('Applied now: rule from_kafka (added)').waitFor();
await would.getByRole('button', { name: 'Apply' }).click();
await page.getByRole('heading', { level: 1, name: 'from_kafka' }).waitFor();
produce('{"msg": "Hello EMQX"}');
await until('records are messages, and go to the rule', async () => heard.some(([of]) => of === 't/1') && heard.some(([of, payload]) => of === 't/rule' && payload === '{"msg":"Hello EMQX"}'));

// E81, E13: it is listed, with what it has done; one has its partitions.
await goes('Sources');
await until('it is listed', async () => {
  const row = await rows('Sources').nth(1).innerText();
  return row.startsWith('my-kafka-source') && row.includes('running') && row.includes(topic) && row.includes('\\u{202e}gpj');
});
await page.getByRole('link', { name: 'my-kafka-source' }).click();
await until('its numbers are those of the API', async () => {
  const { body } = await api(page, 'sources/my-kafka-source');
  const shown = (await text(page)).replace(/\s+/g, ' ');
  return body.records === 2 && shown.includes('2 since the start') && shown.includes(`${body.assigned_partitions} `);
});
await until('its partitions', async () => (await rows('Partitions').nth(1).innerText()).split('\t').map((cell) => cell.trim()).slice(0, 3).join() === `${topic},0,reading`);
assert.ok((await text(page)).includes('from_kafka'), 'the rule that names it');
await page.getByRole('button', { name: 'Test the source' }).click();
await page.getByRole('region', { name: 'It works' }).waitFor();

// Read again, from the beginning; a place that is none is said.
await page.getByRole('button', { name: 'Read from' }).click();
await examine(page, 'a source that is to read from elsewhere');
await dialog.getByLabel('Place').fill('yesterday');
await dialog.getByRole('button', { name: 'Read from there' }).click();
await dialog.getByRole('alert').waitFor();
await expected('400');
await dialog.getByLabel('Place').fill('earliest');
await dialog.getByRole('button', { name: 'Read from there' }).press('Enter');
await until('all is read again', async () => (await api(page, 'sources/my-kafka-source')).body.records === 4);

// E14, by keyboard alone: paused and resumed; then changed by the form.
await tabTo(page, 'Pause');
await page.keyboard.press('Enter');
await dialog.getByText('which keeps its offsets').waitFor();
await dialog.getByRole('button', { name: 'Pause' }).press('Enter');
await until('it is paused', async () => (await page.locator('.head .state').innerText()).includes('paused'));
assert.equal((await api(page, 'sources/my-kafka-source')).body.state, 'paused');
await page.getByRole('button', { name: 'Resume' }).click();
await dialog.getByRole('button', { name: 'Resume' }).click();
await until('it runs again', async () => (await page.locator('.head .state').innerText()).includes('running'));
await page.getByRole('button', { name: 'Change' }).click();
await page.getByRole('button', { name: 'Form' }).click();
await page.getByLabel('Payload', { exact: true }).fill('${value}');
await page.getByRole('button', { name: 'Check' }).click();
await would.getByText('Applied now: source my-kafka-source (changed: payload)').waitFor();
await would.getByRole('button', { name: 'Apply' }).click();
await until('it is applied', async () => page.url().endsWith('#/sources/my-kafka-source'));
produce('{"msg": "as it is"}');
await until('it is changed', async () => heard.some(([of, payload]) => of === 't/1' && payload === '{"msg": "as it is"}'));
console.log('sources');

// Bridges: made by the form, with a direction each.
await goes('Bridges');
await page.getByText('There is no bridge').waitFor();
await page.getByRole('link', { name: 'New bridge' }).click();
await page.getByRole('textbox', { name: 'Name', exact: true }).first().fill('plant');
await page.getByLabel('Remote broker', { exact: true }).fill('mqtt://');
await page.getByRole('button', { name: 'Check' }).click();
await until('the mistake is at its field', async () => (await page.getByLabel('Remote broker', { exact: true }).getAttribute('aria-invalid')) === 'true');
await expected('422');
await page.getByLabel('Remote broker', { exact: true }).fill(`mqtt://${remote}`);
await page.getByLabel('Filters', { exact: true }).fill('plant/#');
await page.getByRole('group', { name: 'Messages to the remote', exact: true }).getByRole('button', { name: 'Add' }).click();
await page.getByRole('group', { name: 'Messages to the remote, 1' }).getByLabel('Filters', { exact: true }).fill('alarm/#');
await examine(page, 'the form of a bridge');
await page.getByRole('button', { name: 'Test the connection' }).click();
await page.getByRole('heading', { name: 'It works' }).waitFor();
await until('a bridge is tried before it is made', async () => (await rows('Findings').count()) === 3 && (await rows('Findings').nth(2).innerText()).includes('1 filter granted'));
await examine(page, 'a bridge that was tried');
assert.deepEqual((await api(page, 'bridges')).body.bridges, []);
await page.getByRole('button', { name: 'Check' }).click();
await would.getByText('Applied now: bridge plant (added)').waitFor();
await would.getByRole('button', { name: 'Apply' }).click();
await page.getByRole('heading', { level: 1, name: 'plant' }).waitFor();
await until('it is connected', async () => (await page.locator('.head .state').innerText()).includes('connected'));
await until('the remote grants the filter', async () => (await rows('Filters of the remote').nth(1).innerText()).replaceAll('\t', ' ').includes('granted'));
const far = await connect(remote, 'far');
const heardFar = hears(far);
await far.subscribeAsync('alarm/#', { qos: 1 });
await far.publishAsync('plant/1', '21', { qos: 1 });
await device.publishAsync('alarm/1', 'hot', { qos: 1 });
await until('messages go both ways, and are counted', async () => {
  const { body } = await api(page, 'bridges/plant');
  const shown = (await text(page)).replace(/\s+/g, ' ');
  return heardFar.length === 1 && body.received === 1 && body.delivered === 1 && shown.split('1 since the start').length >= 3;
});
await until('what it has granted', async () => (await page.getByRole('region', { name: 'The remote', exact: true }).innerText()).includes('5.0'));
await examine(page, 'a bridge');
await page.getByRole('button', { name: 'Test the connection' }).click();
await page.getByRole('heading', { name: 'It works' }).waitFor();
assert.equal((await api(page, 'bridges/plant')).body.connects, 1, 'the bridge goes on beside its trial');

// Paused: messages wait, and it is not deleted with them unless somebody says so.
await tabTo(page, 'Pause');
await page.keyboard.press('Enter');
await dialog.getByRole('button', { name: 'Pause' }).press('Enter');
await until('the bridge is paused', async () => (await page.locator('.head .state').innerText()).includes('paused'));
await device.publishAsync('alarm/2', 'hotter', { qos: 1 });
await until('a message waits', async () => (await page.locator('.tile', { hasText: 'Wait' }).locator('.big').innerText()).trim() === '1');
await goes('Bridges');
await until('it is listed', async () => (await rows('Bridges').nth(1).innerText()).startsWith('plant'));

// The flow has sources and bridges as well.
await goes('Flow');
const picture = page.getByRole('region', { name: 'The way of messages, as a picture' });
await until('from Kafka and from the other broker, and back', async () => {
  const drawn = (await picture.getByRole('link').allInnerTexts()).map((one) => one.split('\n')[0]);
  return [topic, 'my-kafka-source', 'from_kafka', 't/rule', `mqtt://${remote}`, 'plant/#', 'alarm/#'].every((one) => drawn.includes(one)) && drawn.filter((one) => one === 'plant').length === 2;
});
await page.getByLabel('Search the flow').fill('alarm');
await until('by name', async () => (await rows('Ways of messages').count()) === 2);

await looks({
  sources: 'Sources', 'sources/my-kafka-source': 'my-kafka-source', 'sources?new=yes': 'New source', 'sources/my-kafka-source?edit=yes': 'Change',
  bridges: 'Bridges', 'bridges/plant': 'plant', 'bridges?new=yes': 'New bridge', 'bridges/plant?edit=yes': 'Change', flow: 'Flow',
});

await page.goto(`${origin}/ui/#/bridges/plant`);
await page.getByRole('button', { name: 'Delete' }).click();
await dialog.getByRole('button', { name: 'Delete' }).click();
await dialog.getByRole('alert').getByText('1 messages for the remote').waitFor();
await expected('409');
await dialog.getByLabel('Messages that wait for the remote may be lost').check();
await dialog.getByRole('button', { name: 'Delete' }).click();
await until('it is deleted', async () => (await api(page, 'bridges/plant')).status === 404);
await page.getByRole('heading', { level: 1, name: 'Bridges' }).waitFor();
await page.goto(`${origin}/ui/#/sources/my-kafka-source`);
await page.getByRole('button', { name: 'Delete' }).click();
await dialog.getByRole('button', { name: 'Delete' }).click();
await until('a source that a rule names stays', async () => (await dialog.getByRole('alert').count()) === 1);
await expected('422');
await page.keyboard.press('Escape');

// Who may only read can change nothing.
const other = await open();
await logIn(other, reader);
await other.goto(`${origin}/ui/#/sources/my-kafka-source`);
await other.getByRole('heading', { level: 1, name: 'my-kafka-source' }).waitFor();
await other.goto(`${origin}/ui/#/bridges?new=yes`);
assert.ok(await other.getByRole('button', { name: 'Test the connection' }).isDisabled());
await other.goto(`${origin}/ui/#/sources/my-kafka-source`);
for (const name of ['Pause', 'Change', 'Delete', 'Read from', 'Test the source']) assert.ok(await other.getByRole('button', { name }).isDisabled(), name);
await other.close();
await Promise.all([device.endAsync(true), far.endAsync(true)]);
await end();
