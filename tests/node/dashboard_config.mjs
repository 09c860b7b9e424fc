// The configuration file in the dashboard, as a person checks, changes and takes it back. tests/service/dashboard_pages.rs starts the service.
// Arguments: those of browser.mjs, its configuration file, and the address of its second listener.

import { strict as assert } from 'node:assert';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { api, end, examine, expected, logIn, looks, mqtt, open, origin, reader, rest, text, until, writer } from './browser.mjs';

const [file, listener] = rest;
const now = () => readFileSync(file, 'utf8');
const first = now();
const page = await open();
await logIn(page, writer);
await page.getByRole('link', { name: 'Configuration' }).click();
await page.getByRole('heading', { level: 1, name: 'Configuration' }).waitFor();
const field = page.getByRole('textbox', { name: 'The file' });
const check = async () => page.getByRole('button', { name: 'Check' }).click();
const would = page.getByRole('region', { name: 'What would change' });
const inForce = async (name) => (await api(page, 'config')).body.sink.find((sink) => sink.name === name);
await until('the file is there, as it is', async () => (await field.inputValue()) === first);

// Mistakes stand at their line, with the cure.
const wrong = (line, what) => until(`line ${line}: ${what}`, async () => {
  const said = await page.locator('.mistakes li').allInnerTexts();
  const marked = await page.locator('.code pre .wrong').allInnerTexts();
  return said.some((one) => one.startsWith(`Line ${line}`) && one.includes(what)) && marked.some((one) => one.trim() === String(line));
});
const lines = first.split('\n').length;
await field.fill(`${first}lingr = "1s"\n\n[[sink]]\nname = "two"\nfilters = "2/#"\ntopic = "no topic"\n`);
await check();
await wrong(lines, 'did you mean "linger"?');
await wrong(lines + 5, 'not a valid Kafka topic');
await page.getByRole('button', { name: `Line ${lines + 5}` }).click();
assert.equal(await field.evaluate((one) => one.value.slice(one.selectionStart, one.selectionEnd)), 'topic = "no topic"');
await examine(page, 'mistakes of the file');
assert.equal(now(), first);

// What runs stays as it is where the text alone changes.
await field.fill(`${first}# a comment\n`);
await check();
await would.getByText('What runs stays as it is: only the text changes.').waitFor();
assert.equal(await would.getByText('it is so already').count(), 0);

// What would happen: at once, with a restart, and to connections.
const device = await mqtt.connectAsync(`mqtt://${listener}`, { clientId: 'device', protocolVersion: 5, reconnectPeriod: 0 });
const second = '[[listener]] # the second\nbind = "127.0.0.1:0"\n';
assert.ok(first.includes(second));
const changed = `${first.replace(second, '')}linger = "9ms"\n\n[log]\nformat = "json"\n`;
await field.fill(changed);
await check();
for (const said of ['Applied now: listener 127.0.0.1:0 (removed); sink all (changed: linger)', 'Needs a restart: log.format', 'Closes connections: clients of listener 127.0.0.1:0']) await would.getByText(said).waitFor();
// A shard that is too busy to count its clients is asked again.
await until('how many clients are disconnected', async () => {
  if ((await would.getByText('1 client is disconnected').count()) === 1) return true;
  await check();
  await would.getByText('Applied now').waitFor();
  return false;
});
const diff = async (kind) => (await page.locator(`.diff span.${kind}`).allInnerTexts()).map((line) => line.trim());
assert.deepEqual(await diff('old'), ['- [[listener]] # the second', '- bind = "127.0.0.1:0"']);
assert.ok((await diff('new')).includes('+ linger = "9ms"'));
await examine(page, 'what would change');
const gone = new Promise((done) => device.once('disconnect', (packet) => done(packet.reasonCode)));
await page.getByRole('button', { name: 'Save and apply' }).click();
await page.getByRole('region', { name: 'Done' }).getByText('Applied now').waitFor();
assert.deepEqual([now(), readFileSync(`${file}.bak`, 'utf8'), statSync(file).mode & 0o777, await gone], [changed, first, statSync(`${file}.bak`).mode & 0o777, 0x98]);
assert.equal((await inForce('all')).linger, '9ms');
await page.getByRole('region', { name: 'The file is not what is in force' }).getByText('Waits for a restart: log.format').waitFor();
console.log('saved and applied');

// Somebody else writes it meanwhile: nothing of theirs is lost.
await field.fill(changed.replace('9ms', '8ms'));
writeFileSync(file, changed.replace('# what machines say', '# what all machines say'));
await check();
await page.getByRole('button', { name: 'Save and apply' }).click();
const other = page.getByRole('region', { name: 'The file has changed since it was read' });
await other.getByText('+ # what all machines say').waitFor();
await expected('412');
assert.ok(!now().includes('8ms'));
await examine(page, 'the file of somebody else');
await other.getByRole('button', { name: 'Go on with mine' }).click();
await other.waitFor({ state: 'detached' });
await check();
await would.getByText('Applied now: sink all (changed: linger)').waitFor();
assert.deepEqual(await diff('new'), ['+ # what machines say', '+ linger = "8ms"'], 'what theirs would lose is seen before');
await page.getByRole('button', { name: 'As it was read' }).click();
assert.ok((await field.inputValue()).includes('# what all machines say'));

// A change on the machine is seen, and taken with a reload.
writeFileSync(file, now().replace('9ms', '7ms'));
await page.reload();
await page.getByText('A reload would apply: sink all (changed: linger)').waitFor();
await page.getByRole('button', { name: 'Reload' }).click();
await until('it is in force', async () => (await inForce('all')).linger === '7ms');
await until('and nothing is left to reload', async () => (await page.getByText('A reload would apply').count()) === 0);

// Back to what it was before the last change, by keyboard.
await page.getByRole('button', { name: 'As before the last change' }).focus();
await page.keyboard.press('Enter');
assert.equal(await field.inputValue(), first);
await page.getByRole('button', { name: 'Check' }).focus();
await page.keyboard.press('Enter');
await would.getByText('listener 127.0.0.1:0 (added)').waitFor();
await page.getByRole('button', { name: 'Save and apply' }).click();
await until('the file is as it was', async () => now() === first);

// Keys of [control] are for the machine; so are files.
await until('it is shown', async () => (await field.inputValue()) === first);
await field.fill(first.replace('[control]\n', '[control]\norigins = ["https://evil.example"]\n'));
await check();
await page.getByText('its keys are changed on the machine only').waitFor();
await expected('409');
await field.fill(`${first}dead_letters_file = "/etc/cron.d/x"\n`);
await check();
await wrong(lines, 'control.file_dirs');
assert.equal(now(), first);

// Who may only read sees none of it.
const another = await open();
await logIn(another, reader);
await another.goto(`${origin}/ui/#/config`);
await another.getByText('this needs a token with the role write').waitFor();
assert.ok(!(await text(another)).includes('[[sink]]'));
assert.equal((await api(another, 'config/file')).status, 403);
console.log('who reads sees no file');

await looks({ config: 'Configuration', flow: 'Flow' });
await device.endAsync(true);
await end();
