// Dialogs of the dashboard that follow one another faster than the browser says that one has closed. tests/service/dashboard_pages.rs starts the service.
// Arguments: those of browser.mjs.

import { strict as assert } from 'node:assert';
import { end, logIn, open, origin, until, writer } from './browser.mjs';

const page = await open();
await logIn(page, writer);
await page.goto(`${origin}/ui/#/sinks/all`);
await page.getByRole('button', { name: 'Pause' }).waitFor();

/** Opens the dialog of a button, ends it by `how`, opens that of the button `next` after `wait` ms (null: in the same task), and says what is shown once all has come to rest. */
const opensAnother = (how, next, wait) => page.evaluate(async ([how, next, wait]) => {
  const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
  const button = (where, name) => [...where.querySelectorAll('button')].find((one) => one.innerText === name);
  const dialog = () => document.querySelector('dialog');
  const comes = async (holds) => {
    for (let i = 0; i < 400 && !holds(); i++) await sleep(5);
  };
  button(document, 'Pause').click();
  await comes(() => dialog().open);
  if (how === 'Cancel') button(dialog(), 'Cancel')?.click();
  // As Escape does it where the browser asks nobody.
  else dialog().close();
  if (wait !== null) await (wait === 'frame' ? new Promise(requestAnimationFrame) : sleep(wait));
  button(document.querySelector('main'), next).click();
  await sleep(400);
  const shown = dialog().open ? dialog().querySelector('h2').innerText : 'nothing';
  if (dialog().open) button(dialog(), 'Cancel')?.click();
  await comes(() => !dialog().open && dialog().childNodes.length === 0);
  if (!dialog().open && dialog().childNodes.length === 0) return shown;
  dialog().close();
  return `${shown}, and it did not close`;
}, [how, next, wait]);
const thrownAway = [];
for (const how of ['Cancel', 'the browser']) {
  for (const wait of [null, 'frame', 0, 1, 2, 4, 8, 12, 16, 20, 24, 32, 40, 50]) {
    for (const [next, title] of [['Pause', 'Pause sink all?'], ['Delete', 'Delete sink all?']]) {
      const shown = await opensAnother(how, next, wait);
      if (shown !== title) thrownAway.push(`${how}, ${wait}: ${shown}, not ${title}`);
    }
  }
}
assert.deepEqual(thrownAway, []);
console.log('a dialog is there, however soon after another one it is asked for');

// An answer that comes late closes the dialog that asked, and no other.
let answer;
await page.route('**/api/v1/sinks/all/pause*', async (route) => {
  await new Promise((done) => (answer = done));
  await route.fulfill({ json: {} });
});
await page.getByRole('button', { name: 'Pause' }).click();
await page.getByRole('dialog').getByRole('button', { name: 'Pause' }).click();
await until('a request is on its way', () => answer);
await page.getByRole('dialog').getByRole('button', { name: 'Cancel' }).click();
await page.getByRole('button', { name: 'Delete' }).click();
await page.getByRole('dialog').getByText('Delete sink all?').waitFor();
const answered = page.waitForResponse('**/api/v1/sinks/all/pause*');
answer();
await (await answered).finished();
await page.waitForTimeout(500);
assert.equal(await page.locator('dialog[open]').count(), 1, 'the dialog that was opened after it stays');
await page.keyboard.press('Escape');
await until('Escape closes it', async () => (await page.locator('dialog[open]').count()) === 0);

await end();
