// The dashboard of a service without a configuration file and without tokens, as somebody meets it who has just started it.
// tests/service/dashboard_pages.rs starts the service. Arguments: those of browser.mjs, of which the token is that of the machine.

import { strict as assert } from 'node:assert';
import { api, end, examine, expected, open, origin, until, writer } from './browser.mjs';

const page = await open();
await page.goto(`${origin}/ui/#/config`);
await page.getByText('Reading without a token').waitFor();
const other = await page.context().newPage();
await other.goto(`${origin}/ui/#/sinks`);
await other.getByText('Reading without a token').waitFor();

// A wrong token is called wrong; after a right one the other tab has it as well.
await page.getByRole('button', { name: 'Log in' }).first().click();
await page.getByLabel('Token').fill('wrong');
await page.keyboard.press('Enter');
await page.getByRole('alert').getByText('this token is not that of').waitFor();
await expected('401');
await page.getByLabel('Token').fill(writer);
await page.keyboard.press('Enter');
for (const tab of [page, other]) await tab.getByText('control-token, write').waitFor();
console.log('one login for both tabs');

// There is no file, and the browser has nothing to say of that.
await page.getByText('the service has no configuration file').waitFor();
await page.getByText('forebay config default > forebay.toml').waitFor();
await examine(page, 'no configuration file');

// The default sink, paused and resumed, is the default sink.
await other.getByRole('link', { name: 'default' }).click();
const dialog = other.getByRole('dialog');
for (const action of ['Pause', 'Resume']) {
  await other.getByRole('button', { name: action }).click();
  await dialog.getByRole('button', { name: action }).click();
  await until(`${action} is done`, async () => (await dialog.count()) === 0);
}
await other.getByRole('button', { name: 'Change' }).click();
const keys = other.getByRole('textbox', { name: 'Keys' });
await until('its keys', async () => (await keys.inputValue()) === 'filters = "#"\ntopic = "mqtt-messages"\n');
await other.getByRole('button', { name: 'Check' }).click();
await other.getByText('Nothing: it is so already.').waitFor();
assert.equal(await other.getByText('In force, not in the file').count(), 0);
assert.equal((await api(page, 'config/file')).body.file, '');
await end();
