// Sinks as a person makes, changes, tries and deletes them in the dashboard; and their dead letters. tests/service/dashboard_pages.rs starts the service.
// Arguments: those of browser.mjs, the address of its listener, and its configuration file.

import { strict as assert } from 'node:assert';
import { readFileSync } from 'node:fs';
import { api, end, examine, expected, logIn, looks, mqtt, open, origin, reader, rest, text, until, writer } from './browser.mjs';

const HOSTILE = '<img src=x onerror=alert(1)>\u202egpj';
const page = await open();
await logIn(page, writer);
const sinks = async () => (await api(page, 'sinks')).body.sinks.map(({ name }) => name);
const inForce = async (name) => (await api(page, 'config')).body.sink.find((sink) => sink.name === name);

// A new one. What is wrong stands at its line.
await page.goto(`${origin}/ui/#/sinks`);
await page.getByRole('link', { name: 'New sink' }).click();
await page.getByRole('button', { name: 'Text', exact: true }).click();
await page.getByLabel('Name').fill('made.here');
const keys = page.getByRole('textbox', { name: 'Keys' });
const check = async () => page.getByRole('button', { name: 'Check' }).click();
const wrong = (line, what) => until(`line ${line}: ${what}`, async () => {
  const said = await page.locator('.mistakes li').allInnerTexts();
  const marked = await page.locator('.code pre .wrong').allInnerTexts();
  return said.some((one) => one.startsWith(`Line ${line}`) && one.includes(what)) && marked.some((one) => one.trim() === String(line));
});
await keys.fill('filters = "made/#"\ntopic = = "made"\n');
await check();
await wrong(2, 'extra `=`');
await expected('422');
await keys.fill('filters = "made/#"\ntopic = "no topic"\n\nlingr = "1s"\nheaders = { site = "${nothing}" }\n');
await check();
for (const [line, what] of [[2, 'not a valid Kafka topic'], [4, 'did you mean "linger"'], [5, 'unknown variable']]) await wrong(line, what);
await expected('422');
await page.getByRole('button', { name: 'Line 4' }).click();
assert.equal(await keys.evaluate((field) => field.value.slice(field.selectionStart, field.selectionEnd)), 'lingr = "1s"', 'the line of a mistake is selected');
await examine(page, 'mistakes');
const made = 'filters = "made/#"\nkey = "${clientid}"\ntopic = "made"\n';
await keys.fill(made);
await check();
await page.getByRole('region', { name: 'What would change' }).getByText('Applied now: sink made.here').waitFor();
assert.deepEqual(await page.locator('.diff span.new').allInnerTexts().then((lines) => lines.map((line) => line.trim())), made.trim().split('\n').map((line) => `+ ${line}`));
assert.ok(!(await sinks()).includes('made.here'), 'so far nothing has changed');
await examine(page, 'a difference');
await page.getByRole('button', { name: 'Apply' }).click();
await page.getByRole('heading', { level: 1, name: 'made.here' }).waitFor();
assert.ok((await sinks()).includes('made.here'));
console.log('a sink is made');

// What it makes of a message, before one comes.
await page.getByRole('button', { name: 'Test' }).click();
const dialog = page.getByRole('dialog');
await dialog.getByLabel('MQTT topic').fill('made/7');
await dialog.getByLabel('Client ID').fill('sensor-7');
await dialog.getByLabel('Payload').fill('21.5');
await dialog.getByRole('button', { name: 'Try' }).click();
await until('its record is shown', async () => /Kafka topic\s+made\s+Key\s+sensor-7\s+Value\s+21\.5/.test(await dialog.innerText()));
await examine(page, 'a trial');
await page.keyboard.press('Escape');

// Changed, for good: the difference is shown, by keyboard.
await page.getByRole('button', { name: 'Change' }).click();
await until('its own keys are there, and no default', async () => (await keys.inputValue()) === made);
await keys.fill(`${made}linger = "20ms"\n`);
await keys.press('Tab');
await page.keyboard.press('Enter');
await page.getByRole('region', { name: 'What would change' }).waitFor();
const lines = async (kind) => (await page.locator(`.diff span.${kind}`).allInnerTexts()).map((line) => line.trim());
assert.deepEqual([await lines('old'), await lines('new')], [[], ['+ linger = "20ms"']]);
await page.getByLabel('Also in the configuration file').check();
await page.getByRole('button', { name: 'Apply' }).click();
await until('the sink has another linger', async () => (await inForce('made.here')).linger === '20ms');
await until('it is in the file', () => readFileSync(rest[1], 'utf8').includes('linger = "20ms"'));
await page.getByRole('heading', { level: 1, name: 'made.here' }).waitFor();

// Two tabs: the second does not undo a change of the first before its user has seen it.
await page.getByRole('button', { name: 'Change' }).click();
await until('its keys are there', async () => (await keys.inputValue()).includes('linger = "20ms"'));
const second = await page.context().newPage();
await second.goto(`${origin}/ui/#/sinks/made.here?edit=yes`);
const keysThere = second.getByRole('textbox', { name: 'Keys' });
await until('the second tab has them too', async () => (await keysThere.inputValue()).includes('linger = "20ms"'));
await keysThere.fill((await keysThere.inputValue()).replace('linger = "20ms"', 'linger = "30ms"'));
await second.getByRole('button', { name: 'Check' }).click();
await second.getByRole('button', { name: 'Apply' }).click();
await second.getByRole('heading', { level: 1, name: 'made.here' }).waitFor();
await second.close();
await keys.fill(`${await keys.inputValue()}description = "of the first tab"\n`);
await check();
const would = page.getByRole('region', { name: 'What would change' });
await would.getByRole('alert').getByText('Somebody else has changed it').waitFor();
assert.deepEqual(await lines('old'), ['- linger = "30ms"']);
assert.deepEqual((await lines('new')).sort(), ['+ description = "of the first tab"', '+ linger = "20ms"']);
await examine(page, 'what somebody else has changed');
assert.equal((await api(page, 'sinks/made.here', { method: 'PUT', headers: { Origin: origin, 'Content-Type': 'application/toml' }, data: 'filters = "made/#"\ntopic = "made"\nlinger = "40ms"\n' })).status, 200);
await would.getByRole('button', { name: 'Apply' }).click();
await until('and once more between check and change', async () => (await lines('old')).includes('- linger = "40ms"'));
assert.equal((await inForce('made.here')).linger, '40ms');
await would.getByRole('button', { name: 'Apply' }).click();
await until('who has seen it may go on', async () => (await inForce('made.here')).linger === '20ms');
await page.getByRole('heading', { level: 1, name: 'made.here' }).waitFor();

// A new one does not replace one of the same name.
await page.goto(`${origin}/ui/#/sinks?new=yes`);
await page.getByLabel('Name', { exact: true }).fill('made.here');
await check();
await page.getByRole('alert').getByText('There is a sink made.here already').waitFor();
await page.goto(`${origin}/ui/#/sinks/made.here`);

// Deleted.
await page.getByRole('button', { name: 'Delete' }).click();
await dialog.getByText('0 records wait; they are still delivered').waitFor();
await dialog.getByRole('button', { name: 'Delete' }).click();
await until('the sink is deleted', async () => !(await sinks()).includes('made.here'));
await page.getByRole('heading', { level: 1, name: 'Sinks' }).waitFor();

// Dead letters: what devices chose is text. Enough of them for several pages.
const device = mqtt.connect(`mqtt://${rest[0]}`, { clientId: HOSTILE, protocolVersion: 5, reconnectPeriod: 0 });
for (let n = 0; n < 45; n++) await device.publishAsync(`dead/${n}`, `<b>letter ${n}</b>`, { qos: 1 });
await page.goto(`${origin}/ui/#/sinks/bad`);
const letters = page.getByRole('region', { name: 'Dead letters' });
await page.reload();
await until('dead letters are shown, the newest first', async () => (await letters.first().innerText()).includes('<b>letter 44</b>'));
assert.ok((await letters.first().innerText()).includes('<img src=x onerror=alert(1)>\\u{202e}gpj'));
assert.equal(await page.locator('img[src="x"]').count(), 0);
await page.getByRole('button', { name: 'Older' }).click();
await until('and older ones', async () => (await letters.first().innerText()).includes('<b>letter 24</b>'));
await page.getByRole('button', { name: 'Newest' }).click();
await until('and the newest again', async () => (await letters.first().innerText()).includes('<b>letter 44</b>'));

// Who may only read sees none of it.
const other = await open();
await logIn(other, reader);
await other.goto(`${origin}/ui/#/sinks/bad`);
await other.getByText('They show what is in messages').waitFor();
assert.ok(!(await text(other)).includes('letter 44'));
assert.equal((await api(other, 'dead-letters/bad')).status, 403);
for (const name of ['Test', 'Change', 'Delete']) assert.ok(await other.getByRole('button', { name }).isDisabled(), name);
await other.goto(`${origin}/ui/#/sinks`);
await other.getByRole('link', { name: 'bad', exact: true }).waitFor();
assert.ok(await other.getByRole('button', { name: 'New sink' }).isDisabled());
console.log('who reads sees no letter');

await looks({ 'sinks/bad': 'bad', 'sinks/all?edit=yes': 'Change', 'sinks?new=yes': 'New sink' });

// A default that is written down changes nothing that runs, and the page says that.
await page.goto(`${origin}/ui/#/sinks/all?edit=yes`);
await until('the keys of the file', async () => (await keys.inputValue()).includes('topic = "all"'));
await keys.fill(`${await keys.inputValue()}paused = false\n`);
await check();
await would.getByText('What runs stays as it is: only the text changes.').waitFor();
assert.deepEqual([await lines('new'), await would.getByText('it is so already').count()], [['+ paused = false'], 0]);

// T28: the events of a sink: what was done with it, its errors, its statistics of a minute. Those are reported once a minute.
await page.goto(`${origin}/ui/#/sinks/bad`);
await page.getByRole('heading', { level: 1, name: 'bad' }).waitFor();
for (const action of ['Pause', 'Resume']) {
  await page.getByRole('button', { name: action }).click();
  await dialog.getByRole('button', { name: action }).click();
  await until(`${action} is done`, async () => (await dialog.count()) === 0);
}
await page.getByRole('region', { name: 'Events', exact: true }).first().getByRole('link', { name: 'All' }).click();
await page.getByRole('heading', { level: 1, name: 'Events' }).waitFor();
// What was paused and resumed is as the file has it.
const { body: standing } = await api(page, 'reload?dry_run=true', { method: 'POST', headers: { Origin: origin } });
assert.deepEqual(standing.not_in_file.filter((one) => one.includes('bad')), []);
const happened = async () => (await page.getByRole('region', { name: 'Events', exact: true }).getByRole('row').allInnerTexts()).join('\n').replaceAll('\t', ' ');
await until('what was done with the sink, and its dead letters', async () => /admin_action[^]*pause[^]*bad/.test(await happened()) && (await happened()).includes('dead_letters'));
await page.getByLabel('Class').selectOption('statistics');
await until('its statistics', async () => (await happened()).includes('sink_statistics'));
await device.endAsync();
await end();
