// Dead letters in the dashboard: seen, shown, and sent again, as a person does it.
// tests/service/dashboard_pages.rs starts the service, with four letters in the topic `dead`. Arguments: those of browser.mjs.

import { strict as assert } from 'node:assert';
import { api, end, examine, expected, logIn, looks, open, origin, reader, text, until, writer } from './browser.mjs';

const page = await open();
await logIn(page, writer);
const rows = (label) => page.getByRole('region', { name: label, exact: true }).getByRole('row');
const dialog = page.getByRole('dialog');
const path = 'clusters/embedded/dead-letters/dead';

await page.getByRole('link', { name: 'Dead letters', exact: true }).click();
await until('where letters go', async () => (await rows('Where dead letters go').count()) === 2 && (await text(page)).includes('sink later'));
await examine(page, 'where letters go');
await page.getByRole('link', { name: 'dead', exact: true }).click();
await until('the newest come first', async () => (await rows('Dead letters').count()) === 5 && (await rows('Dead letters').nth(4).innerText()).includes('message 1'));
const shown = await text(page);
assert.ok(shown.includes('UNKNOWN_TOPIC_OR_PARTITION') && shown.includes('<img src=x onerror=alert(1)>\\u{202e}gpj'), shown);
assert.equal(await page.locator('img[src="x"], main script').count(), 0);
// One that no record was made of cannot be chosen.
assert.ok(await page.getByLabel('Letter 0:3').isDisabled());
await examine(page, 'letters');

// A reason, and a time that is none.
await page.getByLabel('Reason').fill('RULE_FAILED');
await until('one has this reason', async () => (await rows('Dead letters').count()) === 2);
await page.getByLabel('Reason').fill('');
await page.getByLabel('Since').fill('yesterday');
await page.getByRole('alert').getByText('write earliest').waitFor();
await expected('422');
await page.getByLabel('Since').fill('');
await until('all again', async () => (await rows('Dead letters').count()) === 5);

// One, by keyboard: shown as a whole, then sent.
await rows('Dead letters').nth(4).getByRole('button', { name: 'Show' }).press('Enter');
await dialog.getByText('Header').waitFor();
await until('its header', async () => (await dialog.innerText()).includes('berlin'));
await examine(page, 'a letter');
await dialog.getByRole('button', { name: 'Send again', exact: true }).press('Enter');
await dialog.getByText('where nothing can be deleted').waitFor();
await dialog.getByText('1 would be sent').waitFor();
await examine(page, 'a letter that is to be sent');
await dialog.getByRole('button', { name: 'Send', exact: true }).press('Enter');
await dialog.getByText('1 taken').waitFor();
assert.ok((await dialog.innerText()).includes('later-x 0:0'), await dialog.innerText());
await examine(page, 'a letter that was sent');
await dialog.getByRole('button', { name: 'Close' }).click();
await until('it is shown as sent again', async () => (await rows('Dead letters').nth(4).innerText()).replaceAll('\t', ' ').includes(' yes '));
assert.equal((await api(page, `${path}/0/0`)).body.sent_again, true);

// Some that are chosen.
await page.getByLabel('Letter 0:1').check();
await page.getByRole('button', { name: 'Send 1 again' }).click();
await dialog.getByText('1 would be sent').waitFor();
await dialog.getByRole('button', { name: 'Cancel' }).click();
assert.equal((await api(page, `${path}/0/1`)).body.sent_again, false);

// All up to one: the first is left out, and one cannot be sent.
await rows('Dead letters').nth(1).getByRole('button', { name: 'Show' }).click();
await dialog.getByText('Cannot be sent again').waitFor();
assert.ok(await dialog.getByRole('button', { name: 'Send again', exact: true }).isDisabled());
await dialog.getByRole('button', { name: 'Send all up to it' }).click();
await dialog.getByText('2 would be sent, 1 not sent').waitFor();
// One in a second, and stopped after the first: what was sent by then is said, and the rest is left.
let asked = 0;
let pass = () => {};
await page.route('**/send', async (route) => {
  asked += 1;
  if (asked === 2) await new Promise((done) => (pass = () => done()));
  await route.continue();
});
await dialog.getByLabel('At most in a second').fill('1');
await dialog.getByRole('button', { name: 'Send', exact: true }).click();
await dialog.getByText('1 taken', { exact: true }).waitFor();
await until('the second one is asked for', () => asked === 2);
await examine(page, 'letters that are being sent');
await dialog.getByRole('button', { name: 'Stop' }).click();
pass();
await dialog.getByText('It was stopped: the others were not sent again.').waitFor();
assert.equal(asked, 2);
await page.unroute('**/send');
await dialog.getByRole('button', { name: 'Close' }).click();
await rows('Dead letters').nth(1).getByRole('button', { name: 'Show' }).click();
await dialog.getByRole('button', { name: 'Send all up to it' }).click();
await dialog.getByText('1 not sent').waitFor();
assert.ok(!(await dialog.innerText()).includes('would be sent'), await dialog.innerText());
await dialog.getByRole('button', { name: 'Cancel' }).click();
const { body: now } = await api(page, path);
assert.deepEqual(now.letters.map(({ offset, sent_again: is }) => [offset, is]), [[3, false], [2, true], [1, true], [0, true]]);
console.log('letters are sent again');

// Who may only read sees where they go, and none of them.
const other = await open();
await logIn(other, reader);
await other.goto(`${origin}/ui/#/letters?kafka=embedded&topic=dead`);
await other.getByText('this needs a token with the role write').waitFor();
assert.ok(!(await text(other)).includes('message 1'));
await other.context().close();

await looks({ letters: 'Dead letters', 'letters?kafka=embedded&topic=dead': 'Dead letters / dead' });
await end();
