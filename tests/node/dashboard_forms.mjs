// Sinks and clusters by forms, as a person fills them in: rows T5 to T10 of TBMQ's guide, and E18 to E22, E29 to E31, E40 to E42 of EMQX's.
// tests/service/dashboard_pages.rs starts the service. Arguments: those of browser.mjs, the address of its listener, its configuration file,
// and the address of a Kafka.

import { strict as assert } from 'node:assert';
import { readFileSync } from 'node:fs';
import { api, end, examine, expected, logIn, looks, mqtt, open, origin, reader, records, rest, until, writer } from './browser.mjs';

const [listener, file, kafka] = rest;
const device = await mqtt.connectAsync(`mqtt://${listener}`, { clientId: 'device', protocolVersion: 5, reconnectPeriod: 0 });
const kcat = (topic) => records(kafka, topic, '%k %s\n');
const text = () => readFileSync(file, 'utf8');
const stamp = `${Date.now()}`;
let page;
/** What was made by clicks is deleted by clicks. */
async function deleted(part, name) {
  await page.goto(`${origin}/ui/#/${part}/${name}`);
  await page.getByRole('button', { name: 'Delete' }).click();
  await page.getByRole('dialog').getByLabel('Also in the configuration file').check();
  await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
  await until(`${part} ${name} is deleted`, async () => (await api(page, `${part}/${name}`)).status === 404 && (await page.getByRole('dialog').count()) === 0);
}

// TBMQ's guide from its first step to its last, in light and in dark.
for (const theme of ['light', 'dark']) {
  page = await open({ theme });
  await logIn(page, writer);

  // T5: "+" and the kind; T6: the filter is tbmq/#.
  await page.goto(`${origin}/ui/#/sinks`);
  await page.getByRole('link', { name: 'New sink' }).click();
  await page.getByRole('button', { name: 'As in TBMQ' }).click();
  const value = (label) => page.getByLabel(label, { exact: true }).inputValue();
  assert.equal(await value('Name'), 'tbmq');
  assert.equal(await value('MQTT topic filters'), 'tbmq/#');
  assert.equal(await value('Kafka topic'), 'tbmq.messages');
  // E40: what is not required is below "Advanced", closed.
  assert.equal(await page.getByLabel('Linger', { exact: true }).first().isVisible(), false);

  // T7: bootstrap servers, in a cluster that is made in place (E18, E31). T8: two documented set-ups.
  const cluster = page.getByRole('region', { name: 'New cluster' });
  assert.equal(await cluster.getByLabel('Name of the cluster').inputValue(), 'tbmq');
  const brokers = cluster.getByRole('textbox', { name: 'Bootstrap brokers', exact: true });
  assert.equal(await brokers.inputValue(), '127.0.0.1:9092', 'E20');
  await cluster.getByRole('button', { name: 'Confluent Cloud' }).click();
  const toml = cluster.getByLabel('TOML of the cluster');
  await until('TLS and a login (E22)', async () => /tls = \{\}\nsasl = \{ mechanism = "PLAIN"/.test(await toml.innerText()));
  await examine(page, 'a form with groups');
  await cluster.getByRole('button', { name: 'Plain Kafka' }).click();
  await until('neither', async () => !(await toml.innerText()).includes('tls'));
  await cluster.getByLabel('Name of the cluster').fill('tbmq');
  // T10: the connection is checked, and whether the topic is there; an address that is none says why.
  await brokers.fill('127.0.0.1:1');
  await cluster.getByRole('button', { name: 'Test the connection' }).click();
  await page.getByRole('region', { name: 'It cannot be reached' }).waitFor();
  await brokers.fill(kafka);
  await page.getByLabel('Kafka topic', { exact: true }).fill(`missing-${stamp}`);
  await cluster.getByRole('button', { name: 'Test the connection' }).click();
  await page.getByRole('region', { name: 'It can be reached' }).getByText(`Topic missing-${stamp}: topic missing it does not exist`).waitFor();
  await page.getByLabel('Kafka topic', { exact: true }).fill('tbmq.messages');
  await cluster.getByLabel('Description', { exact: true }).fill('The Kafka of the plant');
  await cluster.getByRole('button', { name: 'Test the connection' }).click();
  await page.getByRole('region', { name: 'It can be reached' }).getByText(theme === 'dark' ? /^Topic tbmq.messages: works [\d,]+ partitions/ : 'Topic tbmq.messages').waitFor();
  await examine(page, 'a tried cluster');
  await cluster.getByLabel('Name of the cluster').fill('embedded');
  await cluster.getByRole('button', { name: 'Check the cluster' }).click();
  await cluster.getByRole('alert').getByText('There is a cluster embedded already').waitFor();
  await cluster.getByLabel('Name of the cluster').fill('tbmq');
  // What it does is said before it is done: the other sink names its cluster, as there will be two.
  await cluster.getByRole('button', { name: 'Check the cluster' }).click();
  const changes = cluster.getByRole('region', { name: 'What it changes' });
  await changes.getByText('Applied now: kafka tbmq (added)').waitFor();
  if (theme === 'light') await changes.getByText('Written as well, so that it stays as it is: sink all (kafka = "embedded")').waitFor();
  await changes.getByText('It is created at once').waitFor();
  assert.equal((await api(page, 'clusters')).body.clusters.length, 1, 'so far nothing has changed');
  await examine(page, 'a cluster that is to be made');
  await changes.getByLabel('Also in the configuration file').check();
  await changes.getByText('In force, not in the file').waitFor({ state: 'detached' });
  await changes.getByRole('button', { name: 'Create the cluster' }).click();
  await cluster.waitFor({ state: 'detached' });
  await until('the cluster is chosen', async () => (await value('Kafka cluster')) === 'tbmq');
  await until('it connects by itself (E23)', async () => (await api(page, 'clusters/tbmq')).body.reachable);
  assert.ok(text().includes('[kafka.tbmq]') && text().includes('description = "The Kafka of the plant"'), 'E19');

  // A mistake stands at its field; then T9: it is saved. The end shows the TOML.
  const topic = page.getByLabel('Kafka topic', { exact: true });
  await topic.fill('no topic');
  await page.getByRole('button', { name: 'Check' }).click();
  await until('the mistake is at the field', async () => (await topic.getAttribute('aria-invalid')) === 'true' && (await page.locator('#sink-topic-says').innerText()).includes('not a valid Kafka topic'));
  await expected('422');
  await examine(page, 'a form with a mistake');
  await topic.fill('tbmq.messages');
  await page.getByLabel('Description', { exact: true }).fill('What TBMQ sent');
  await page.getByText('Advanced').click();
  await page.getByLabel('Headers', { exact: true }).fill('site = berlin\nstamp = ${clientid}');
  const written = await page.getByLabel('TOML', { exact: true }).innerText();
  for (const line of ['kafka = "tbmq"', 'filters = "tbmq/#"', 'topic = "tbmq.messages"', 'value_format = "json"', 'acknowledge = "replicated"', 'description = "What TBMQ sent"', 'headers = { site = "berlin", stamp = "${clientid}" }']) assert.ok(written.includes(line), line);
  await page.getByRole('button', { name: 'Check' }).click();
  const would = page.getByRole('region', { name: 'What would change' });
  await would.getByText('Applied now: sink tbmq (added)').waitFor();
  await would.getByLabel('Also in the configuration file').check();
  await would.getByRole('button', { name: 'Apply' }).click();
  await page.getByRole('heading', { level: 1, name: 'tbmq' }).waitFor();
  assert.ok(/\[\[sink\]\]\nname = "tbmq"\n/.test(text()) && text().includes('description = "What TBMQ sent"'), 'E30');

  // T29: the client in the page, the default connection. T30: published with Send, to a topic that the sink's filter matches. T31: it is in Kafka.
  await page.getByRole('link', { name: 'Client', exact: true }).click();
  await page.getByRole('button', { name: 'Connect', exact: true }).click();
  await page.getByRole('status').getByText('Connected', { exact: true }).waitFor();
  assert.equal(await value('Topic'), 'tbmq/kafka-integration');
  await page.getByLabel('Payload').fill(`hello ${theme} ${stamp}`);
  await page.getByRole('button', { name: 'Send' }).click();
  await until('kcat reads tbmq.messages', async () => kcat('tbmq.messages').includes(`hello ${theme} ${stamp}`));
  await page.getByRole('button', { name: 'Disconnect', exact: true }).click();
  if (theme === 'dark') break;
  await deleted('sinks', 'tbmq');
  await deleted('clusters', 'tbmq');
  assert.ok(!text().includes('tbmq'), 'nothing of them is left in the file');
  await page.context().close();
}
const would = page.getByRole('region', { name: 'What would change' });
const topic = page.getByLabel('Kafka topic', { exact: true });
const cluster = page.getByRole('region', { name: 'New cluster' });

// E41, E42: it is listed, and the way of its messages shows.
await page.getByRole('link', { name: 'Flow' }).click();
const way = page.getByRole('region', { name: 'Ways of messages' }).getByRole('row').filter({ hasText: 'tbmq/#' });
await until('topic, sink and Kafka', async () => /tbmq\/#\s+→\s*none\s+→\s*tbmq\s+running\s+→\s*tbmq\.messages\s+tbmq/.test(await way.innerText()));

// As in EMQX, with the cluster that there is (E29): by keyboard alone.
await page.goto(`${origin}/ui/#/sinks?new=yes`);
await page.getByRole('button', { name: 'As in EMQX' }).focus();
await page.keyboard.press('Enter');
await page.getByLabel('Kafka cluster', { exact: true }).selectOption('tbmq');
await until('the other cluster is not made', async () => (await cluster.count()) === 0);
await topic.fill(`emqx-${stamp}`);
await topic.press('Enter');
await would.getByText('Applied now: sink my_rule (added)').waitFor();
await would.getByRole('button', { name: 'Apply' }).focus();
await page.keyboard.press('Enter');
await page.getByRole('heading', { level: 1, name: 'my_rule' }).waitFor();
await device.publishAsync('t/1', '{ "msg": "Hello Kafka" }', { qos: 1 });
await until('it is in Kafka, by client', async () => /^device \{.*Hello Kafka/m.test(kcat(`emqx-${stamp}`)));

// A cluster by a form of its own; and changed by the form: what is in force is in it.
await page.goto(`${origin}/ui/#/clusters?new=yes`);
await page.getByRole('button', { name: 'Plain Kafka' }).click();
await page.getByLabel('Name', { exact: true }).fill('second');
await page.getByRole('textbox', { name: 'Bootstrap brokers', exact: true }).fill(kafka);
await page.getByRole('button', { name: 'Check' }).click();
await would.getByText('Applied now: kafka second (added)').waitFor();
await would.getByRole('button', { name: 'Apply' }).click();
await page.getByRole('heading', { level: 1, name: 'second' }).waitFor();
await page.getByRole('button', { name: 'Change' }).click();
await page.getByRole('button', { name: 'Form' }).click();
await page.getByLabel('Description', { exact: true }).fill('A second way');
await page.getByRole('button', { name: 'Check' }).click();
await would.getByText('Applied now: kafka second (changed: description)').waitFor();
await would.getByRole('button', { name: 'Apply' }).click();
await until('it is changed', async () => (await api(page, 'clusters/second')).body.description === 'A second way');

// Who may only read can try nothing.
const other = await open();
await logIn(other, reader);
await other.goto(`${origin}/ui/#/clusters`);
await other.getByRole('link', { name: 'second' }).waitFor();
assert.equal(await other.getByRole('button', { name: 'New cluster' }).getAttribute('title'), 'needs a token with the role write');
await other.goto(`${origin}/ui/#/clusters/second`);
assert.ok(await other.getByRole('button', { name: 'Change' }).isDisabled());

await looks({ 'sinks?new=yes': 'New sink', 'clusters?new=yes': 'New cluster', 'clusters/second?edit=yes': 'Change', flow: 'Flow' });
await device.endAsync(true);
await end();
