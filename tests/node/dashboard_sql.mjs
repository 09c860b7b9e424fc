// SQL, rules and the flow in the dashboard, as a person uses them: rows E13, E14, E27, E29 to E31, E41, E42, E47 and E56 of EMQX's guide.
// tests/service/dashboard_pages.rs starts the service. Arguments: those of browser.mjs, the address of its listener, its configuration file,
// the address of a Kafka, and the Kafka topic of the sink `all`.

import { strict as assert } from 'node:assert';
import { readFileSync } from 'node:fs';
import { api, end, examine, expected, faults, logIn, looks, mqtt, open, origin, reader, records, rest, tabTo, text, until, writer } from './browser.mjs';

const [listener, file, kafka, all] = rest;
const page = await open();
await logIn(page, writer);
const device = await mqtt.connectAsync(`mqtt://${listener}`, { clientId: 'device', protocolVersion: 5, reconnectPeriod: 0 });
const kcat = (topic) => records(kafka, topic, '%s\n');
const publish = (topic, payload) => device.publishAsync(topic, typeof payload === 'string' ? payload : JSON.stringify(payload), { qos: 1 });
const rows = (label) => page.getByRole('region', { name: label, exact: true }).getByRole('row');
const dialog = page.getByRole('dialog');
/** By the navigation. */
const goes = (name) => page.getByRole('navigation').getByRole('link', { name, exact: true }).click();
const HOSTILE = '<img src=x onerror=alert(1)>\u202egpj';

// E56: one message in, one out, and running.
await publish('t/1', { temp: 31.5, room: 7 });
await page.goto(`${origin}/ui/#/sinks/all`);
await until('the sink has one in and one out, and runs', async () => {
  const shown = (await text(page)).replace(/\s+/g, ' ');
  return shown.includes('1 since the start') && shown.includes('1 in Kafka') && (await page.locator('.head .state').innerText()).includes('running');
});

// E27: an example, and a test without any message of a client. Mistakes stand at their line.
await goes('SQL');
await page.getByRole('heading', { level: 1, name: 'SQL' }).waitFor();
const field = page.getByRole('textbox', { name: 'Statement' });
const run = () => page.getByRole('button', { name: 'Run', exact: true }).click();
const outputs = async () => (await page.locator('pre[aria-label="Output"]').allInnerTexts()).map((one) => JSON.parse(one));
const result = (word) => until(`the result is ${word}`, async () => (await page.getByRole('region', { name: 'Output', exact: true }).locator('header .state').allInnerTexts()).join() === word);
const example = (title) => page.getByRole('combobox', { name: 'Example', exact: true }).selectOption({ label: title });
const wrong = (line, what) => until(`line ${line}: ${what}`, async () => {
  const said = await page.locator('.mistakes li').allInnerTexts();
  const marked = await page.locator('.code pre .wrong').allInnerTexts();
  return said.some((one) => one.startsWith(`Line ${line}`) && one.includes(what)) && marked.some((one) => one.trim() === String(line));
});
await example('Fields of the payload, where a condition holds');
await run();
await result('passed');
assert.deepEqual(await outputs(), [{ temp: 31.5, clientid: 'c1' }]);
await page.getByLabel('Payload', { exact: true }).fill('{"temp": 19}');
await run();
await result('filtered');
await page.getByLabel('MQTT topic', { exact: true }).fill('other/1');
await run();
await result('not matching');
await page.getByLabel('MQTT topic', { exact: true }).fill('t/1');
await field.fill('SELECT topic,\n  uper(topic) AS up\nFROM "t/#"');
await run();
await wrong(2, 'did you mean `upper`?');
await expected('422');
await page.getByRole('button', { name: 'Line 2' }).click();
assert.equal(await field.evaluate((one) => one.value.slice(one.selectionStart, one.selectionEnd)), '  uper(topic) AS up');
await examine(page, 'a mistake of a statement');
// Words are offered for the one that is begun; by arrows and Enter, or by mouse, and only then. Tab and Enter do what they always do.
const offered = page.getByRole('listbox', { name: 'Suggestions' });
await field.fill('');
await field.pressSequentially('SELECT payload.te');
await offered.getByRole('option', { name: 'payload.temp field' }).waitFor();
await examine(page, 'what is offered for a word');
await field.press('End');
await field.press('m');
await offered.getByRole('option', { name: 'payload.temp field' }).waitFor();
await field.press('ArrowDown');
await offered.getByRole('option', { selected: true }).waitFor();
assert.equal(await field.evaluate((one) => document.getElementById(one.getAttribute('aria-activedescendant')).getAttribute('aria-selected')), 'true');
await field.press('Enter');
await until('a field of the sample is taken', async () => (await field.inputValue()) === 'SELECT payload.temp' && (await offered.count()) === 0);
await field.press('Control+z');
await until('and given back', async () => (await field.inputValue()) === 'SELECT payload.tem');
await field.fill('');
await field.pressSequentially('SELECT ');
await field.press('Control+ ');
await offered.getByRole('option', { selected: true }).getByText('client_attrs').waitFor();
await field.press('Escape');
await until('Escape closes it', async () => (await offered.count()) === 0);
await field.pressSequentially('up');
await offered.getByRole('option', { name: /^upper/ }).click();
await until('a function, by mouse', async () => (await field.inputValue()) === 'SELECT upper(');
await field.pressSequentially('topic) AS u');
await offered.getByRole('option', { name: 'username field' }).waitFor();
await field.press('Enter');
await field.pressSequentially('FROM "$ev');
await offered.getByRole('option', { name: '$events/client/connected' }).waitFor();
await field.press('Tab');
await until('Tab leads on, and nothing is taken', async () => (await field.inputValue()) === 'SELECT upper(topic) AS u\nFROM "$ev' && (await offered.count()) === 0);
assert.equal(await field.evaluate((one) => one === document.activeElement), false);
await field.fill('SELECT topic\nFROM "t/#"\nWHERE payload.temp - 1 > 0');
await page.getByLabel('Payload', { exact: true }).fill(`{"temp": "${HOSTILE}"}`);
await run();
await wrong(3, 'number');
await result('failed');
await field.fill('SELECT payload\nFROM "t/#"');
await run();
await until('what is in messages is text', async () => (await page.locator('pre[aria-label="Output"]').allInnerTexts()).join().includes('<img src=x onerror=alert(1)>\\u{202e}gpj'));
assert.equal(await page.locator('img[src="x"]').count(), 0);

// E47: the value of a variable was read. Events and records have forms of their own.
await example('Dates, and a variable of the environment');
await run();
await until('the variable is read', async () => (await outputs())[0]?.kafka_topic === 'from-the-environment');
await example('Clients that come');
await run();
await until('an event', async () => (await outputs())[0]?.event === 'client.connected');
await example('Records of a source');
await run();
await until('a record', async () => (await outputs())[0]?.msg === 'Hello EMQX');
await examine(page, 'a record to try on');
await page.getByText('Other fields').click();
await page.getByLabel('A JSON object').fill('{');
await run();
await page.getByRole('alert').waitFor();

// A function is put where the cursor is.
await example('Everything');
await page.getByText('Functions', { exact: true }).click();
await page.getByLabel('Search', { exact: true }).fill('now_rfc');
await field.evaluate((one) => one.setSelectionRange(7, 8));
await page.getByRole('button', { name: 'now_rfc3339' }).click();
assert.equal(await field.inputValue(), 'SELECT now_rfc3339()\nFROM "t/#"');

// A message of a trace, and a dead letter, are what it is tried on.
const trace = (await api(page, 'traces', { method: 'POST', data: { filter: 't/#' } })).body.id;
await publish('t/traced', { temp: 44, room: 9 });
await publish('t/bad', 'not JSON');
await page.reload();
await page.getByRole('heading', { level: 1, name: 'SQL' }).waitFor();
await example('Everything');
const take = page.getByRole('combobox', { name: 'Take a message of', exact: true });
await until('the trace is offered', async () => (await take.locator('option').allInnerTexts()).some((one) => one.startsWith(`trace ${trace}`)));
await take.selectOption(`trace ${trace}`);
await page.getByRole('button', { name: 't/traced' }).click();
assert.deepEqual([await page.getByLabel('MQTT topic', { exact: true }).inputValue(), await page.getByRole('textbox', { name: 'Client ID', exact: true }).inputValue()], ['t/traced', 'device']);
await run();
await until('it is tried', async () => (await outputs())[0]?.payload === '{"temp":44,"room":9}');
await take.selectOption('letters alarms');
await page.getByRole('button', { name: 't/bad' }).click();
assert.equal(await page.getByLabel('Payload', { exact: true }).inputValue(), 'not JSON');
await examine(page, 'a message that was taken');
console.log('messages are taken');

// What runs, and what is written: the difference, the records of its sinks, and on past records.
await page.getByRole('combobox', { name: 'Rule', exact: true }).selectOption('hot');
await until('its statement', async () => (await field.inputValue()).includes('WHERE temp > 30'));
await field.fill((await field.inputValue()).replace('30', '20'));
const diff = async (kind) => (await page.locator(`.diff span.${kind}`).allInnerTexts()).map((line) => line.trim());
await until('the difference', async () => (await diff('old')).join() === '- WHERE temp > 30' && (await diff('new')).join() === '+ WHERE temp > 20');
await page.getByLabel('MQTT topic', { exact: true }).fill('t/1');
await page.getByLabel('Payload', { exact: true }).fill('{"temp": 25, "room": 7}');
await run();
await until('the record that its sink would write', async () => {
  const record = (await rows('Records that its sinks would write').nth(1).innerText()).split('\t');
  return record[0].includes('alarms') && record[1] === `${all}-alarms` && record[3] === '{"temp":25,"room":7}';
});
for (const temp of [10, 25, 40]) await publish('t/1', { temp, room: 1 });
await until('they are in Kafka', async () => kcat(all).trim().split('\n').length === 6);
await page.getByLabel('Kafka topic', { exact: true }).fill(all);
assert.equal(await page.getByRole('combobox', { name: 'Compare with', exact: true }).inputValue(), 'hot');
await page.getByRole('button', { name: 'Run on past records' }).click();
await until('what it makes of past records', async () => {
  const table = (await rows('Result on past records').allInnerTexts()).map((row) => row.split('\t'));
  return table[1]?.join() === 'Passed,4, outputs 4,3, outputs 3' && table[2]?.join() === 'Filtered,1,2' && table[3]?.[1].startsWith('1 (decode');
});
assert.ok((await rows('Messages of them').allInnerTexts()).some((row) => row.includes('"temp":25') && row.includes('filtered')));
await examine(page, 'past records');
await page.getByLabel('Kafka topic', { exact: true }).fill('there-is-no-such-topic');
await page.getByRole('button', { name: 'Run on past records' }).click();
await page.getByRole('region', { name: 'On past records' }).locator('.banner.bad').waitFor();
if (faults.some((fault) => fault.includes('422'))) await expected('422');
console.log('past records');

// It is put into the rule, by way of the form of all parts: checked, compared, written to the file, in force.
await page.getByRole('button', { name: 'Put into the rule' }).click();
await page.getByRole('heading', { level: 1, name: 'Change' }).waitFor();
const would = page.getByRole('region', { name: 'What would change' });
await until('the form has it', async () => (await field.inputValue()).includes('WHERE temp > 20'));
await page.getByRole('button', { name: 'Check' }).click();
await would.getByText('Applied now: rule hot (changed: sql)').waitFor();
assert.ok((await diff('new')).some((line) => line.includes('WHERE temp > 20')));
await examine(page, 'the form of a rule');
await would.getByLabel('Also in the configuration file').check();
await would.getByRole('button', { name: 'Apply' }).click();
await until('it is in the file', async () => readFileSync(file, 'utf8').includes('WHERE temp > 20') && page.url().endsWith('#/rules/hot'));
await publish('t/1', { temp: 22, room: 22 });
await until('it is in force', async () => kcat(`${all}-alarms`).includes('"room":22'));

// E41: a rule is listed with what it has done, and its page says why it failed.
await until('the numbers of the rule are those of the API', async () => {
  const { body } = await api(page, 'rules/hot');
  const shown = (await text(page)).replace(/\s+/g, ' ');
  return body.passed > 0 && shown.includes(`${body.passed} since the start`) && shown.includes(`decode ${body.failures.decode}`) && shown.includes('It failed at') && shown.includes('t/bad');
});
await goes('Rules');
await until('it is listed', async () => /^hot/.test(await rows('Rules').nth(1).innerText()));
assert.ok((await text(page)).includes('\\u{202e}gpj') && (await page.locator('img[src="x"]').count()) === 0, 'a description is text');

// E29 to E31: a new rule with a new sink, made in place.
await page.getByRole('link', { name: 'New rule' }).click();
await page.getByLabel('Name', { exact: true }).fill('cold');
await field.fill('SELEC 1');
await page.getByRole('button', { name: 'Check' }).click();
await wrong(1, 'SELECT');
await expected('422');
await examine(page, 'the form of a rule with a mistake');
await field.fill('SELECT payload.room AS room\nFROM "t/#"\nWHERE payload.temp < 5');
// It is tried on the way, and comes back with the name.
await page.getByRole('button', { name: 'Try it' }).click();
await page.getByRole('heading', { level: 1, name: 'SQL' }).waitFor();
await run();
await result('filtered');
await page.getByRole('button', { name: 'Put into a new rule' }).click();
await page.getByRole('heading', { level: 1, name: 'New rule' }).waitFor();
assert.equal(await page.getByLabel('Name', { exact: true }).inputValue(), 'cold');
await page.getByRole('button', { name: 'New sink for this rule' }).click();
const made = page.getByRole('region', { name: 'New sink' });
await made.getByLabel('Name of the sink').fill('cold');
await made.getByLabel('Kafka topic', { exact: true }).fill(`${all}-cold`);
await made.getByRole('combobox', { name: 'Kafka cluster' }).selectOption('main');
await made.getByRole('button', { name: 'Check the sink' }).click();
await made.getByText('Applied now: sink cold (added)').waitFor();
await made.getByRole('button', { name: 'Create the sink' }).click();
await made.waitFor({ state: 'detached' });
await until('the sink is chosen', async () => page.getByRole('checkbox', { name: 'cold' }).isChecked());
// And one that is there (E29).
await page.getByRole('checkbox', { name: 'alarms' }).check();
await page.getByRole('button', { name: 'Add', exact: true }).click();
await page.getByLabel('Topic', { exact: true }).fill('cold/${room}');
await page.getByLabel('Payload', { exact: true }).fill('${.}');
await page.getByRole('button', { name: 'Check' }).click();
await would.getByText('Applied now: rule cold (added)').waitFor();
await would.getByRole('button', { name: 'Apply' }).click();
await page.getByRole('heading', { level: 1, name: 'cold' }).waitFor();
const heard = new Promise((done) => device.once('message', (topic) => done(topic)));
await device.subscribeAsync('cold/#', { qos: 1 });
await publish('t/1', { temp: 1, room: 3 });
assert.equal(await heard, 'cold/3');
await until('its record is in Kafka', async () => kcat(`${all}-cold`).includes('"room":3'));
await until('and of the other sink', async () => kcat(`${all}-alarms`).includes('"room":3'));

// E42: the way of messages, with what goes along.
await goes('Flow');
const picture = page.getByRole('region', { name: 'The way of messages, as a picture' });
const box = (name) => picture.getByRole('link').filter({ hasText: name });
await until('topic, rule, sink and Kafka topic are drawn', async () => {
  const drawn = (await picture.getByRole('link').allInnerTexts()).map((one) => one.split('\n')[0]);
  return ['t/#', 'hot', 'cold', 'alarms', 'all', 'cold/${room}', `${all}-alarms`].every((one) => drawn.includes(one));
});
const busy = setInterval(() => publish('t/2', { temp: 50, room: 2 }).catch(() => {}), 50);
await until('rates of what goes along', async () => /hot\s+running\s+[1-9][\d.]*\/s/.test((await box('hot').allInnerTexts()).join('\n')) && (await picture.locator('path.busy').count()) >= 3);
// E13: so has the sink, on its page and in the list.
await goes('Sinks');
await until('the rate of a sink', async () => {
  const cells = (await rows('Sinks').filter({ hasText: 'alarms' }).first().innerText()).split('\t').map((cell) => cell.trim());
  const { body } = await api(page, 'sinks/alarms');
  return body.rate.delivered_per_second > 0 && [cells[4], cells[5]].every((cell) => /^[1-9][\d.]*\/s$/.test(cell));
});
clearInterval(busy);
await page.getByRole('link', { name: 'alarms', exact: true }).click();
await until('its numbers are those of the API: totals, success, failure', async () => {
  const { body } = await api(page, 'sinks/alarms');
  const shown = (await text(page)).replace(/\s+/g, ' ');
  return shown.includes(`${body.records_in.toLocaleString('en')} since the start`) && shown.includes(`${body.delivered.toLocaleString('en')} in Kafka`) && new RegExp(`Failed ${body.failed} `).test(shown);
});
await goes('Flow');
const way = rows('Ways of messages').filter({ hasText: 'alarms' }).filter({ hasText: 't/#' });
await until('the same as a table', async () => /t\/#\s+→\s*hot\s+running\s+→\s*alarms\s+running\s+→\s*\S+-alarms\s+main/.test(await way.first().innerText()));
await examine(page, 'the flow');
await box('hot').first().press('Enter');
await page.getByRole('heading', { level: 1, name: 'hot' }).waitFor();

// E14, by keyboard alone: paused, resumed, deleted.
await tabTo(page, 'Pause');
await page.keyboard.press('Enter');
await dialog.getByText('as if no message matched').waitFor();
await examine(page, 'a rule that is to be paused');
await dialog.getByRole('button', { name: 'Pause' }).press('Enter');
await until('it is paused', async () => (await api(page, 'rules/hot')).body.state === 'disabled');
await until('the page shows it', async () => (await page.locator('.head .state').innerText()).includes('disabled'));
await page.getByRole('button', { name: 'Resume' }).click();
await dialog.getByRole('button', { name: 'Resume' }).click();
await until('and resumed', async () => (await api(page, 'rules/hot')).body.state === 'running');
await page.goto(`${origin}/ui/#/rules/cold`);
await page.getByRole('button', { name: 'Delete' }).click();
await dialog.getByRole('button', { name: 'Delete' }).click();
await until('it is deleted', async () => (await api(page, 'rules/cold')).status === 404);

// Who may only read sees rules, and can try and change nothing.
const other = await open();
await logIn(other, reader);
await other.goto(`${origin}/ui/#/sql?rule=hot`);
await until('the statement is there', async () => (await other.getByRole('textbox', { name: 'Statement' }).inputValue()).includes('WHERE temp > 20'));
assert.ok(await other.getByRole('button', { name: 'Run', exact: true }).isDisabled());
assert.ok(await other.getByRole('button', { name: 'Run on past records' }).isDisabled());
await other.goto(`${origin}/ui/#/rules/hot`);
assert.ok(await other.getByRole('button', { name: 'Delete' }).isDisabled());
await other.close();

await looks({ sql: 'SQL', 'sql?rule=hot': 'SQL', rules: 'Rules', 'rules/hot': 'hot', 'rules?new=yes': 'New rule', 'rules/hot?edit=yes': 'Change', flow: 'Flow' });
await device.endAsync(true);
await end();
