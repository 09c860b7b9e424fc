// Users and permissions in the dashboard, while a client is connected.
// tests/service/dashboard_pages.rs starts the service. Arguments: those of browser.mjs, the address of its listener, and the folder of its files.

import { strict as assert } from 'node:assert';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { api, end, examine, expected, logIn, looks, mqtt, open, origin, reader, rest, text, until, writer } from './browser.mjs';

const [listener, folder] = rest;
const connect = (username, password) => mqtt.connectAsync(`mqtt://${listener}`, { clientId: username, username, password, protocolVersion: 5, reconnectPeriod: 0 });
const told = (client) => new Promise((done) => client.once('disconnect', (packet) => done(packet.reasonCode)));
const page = await open();
await logIn(page, writer);
const rows = (label) => page.getByRole('region', { name: label, exact: true }).getByRole('row');
const dialog = page.getByRole('dialog');
const HOSTILE = '<img src=x onerror=alert(1)>\u202egpj';

await page.getByRole('link', { name: 'Users', exact: true }).click();
await until('the auths', async () => (await rows('Auths').count()) === 2);
await examine(page, 'auths');
await page.getByRole('link', { name: 'devices', exact: true }).click();
await until('its users', async () => (await rows('Users').count()) === 2 && (await rows('Users').nth(1).innerText()).includes('argon2id'));
await examine(page, 'users');

// A new user, whose name would be a script.
await page.getByRole('button', { name: 'New user' }).click();
await examine(page, 'a user that is to be added');
await dialog.getByLabel('User name').fill('a:b');
await dialog.getByLabel('Password').fill('builder');
await dialog.getByRole('button', { name: 'Add' }).click();
await dialog.getByRole('alert').getByText('no colon').waitFor();
await expected('422');
await dialog.getByLabel('User name').fill(HOSTILE);
await dialog.getByRole('button', { name: 'Add' }).press('Enter');
await dialog.getByText('Stored as argon2id').waitFor();
await examine(page, 'a user that was added');
await dialog.getByRole('button', { name: 'Close' }).click();
await until('it is listed', async () => (await rows('Users').count()) === 3 && (await rows('Users').nth(2).innerText()).startsWith('<img src=x onerror=alert(1)>\\u{202e}gpj'));
assert.equal(await page.locator('img[src="x"], main script').count(), 0);
const first = await connect(HOSTILE, 'builder');

// A random password, shown once: whoever is connected with the old one is disconnected.
await rows('Users').nth(2).getByRole('button', { name: 'Password' }).click();
await dialog.getByRole('button', { name: 'Random' }).click();
const password = await dialog.locator('code').innerText();
assert.match(password, /^[0-9a-f]{40}$/);
const gone = told(first);
await dialog.getByRole('button', { name: 'Change' }).press('Enter');
await dialog.getByText('Stored as sha512').waitFor();
// How many it disconnects is left out where a shard is too busy to say: that it does is what counts.
assert.equal(await gone, 0x87);
await dialog.getByRole('button', { name: 'Close' }).click();
await assert.rejects(connect(HOSTILE, 'builder'));
const second = await connect(HOSTILE, password);
assert.ok(!(await text(page)).includes(password));
console.log('users are added and changed');

// Permissions: mistakes at their line, what a client may do, then the change; it holds for who is connected.
const area = page.getByLabel('What may be touched');
const before = await area.inputValue();
await area.fill(`${before}topic reed x\n`);
await page.getByRole('button', { name: 'Check' }).click();
await page.getByText('has the access "reed"').waitFor();
await examine(page, 'permissions with a mistake');
await page.getByRole('button', { name: 'Line 4' }).click();
assert.equal(await page.evaluate(() => String(document.activeElement.value).slice(document.activeElement.selectionStart, document.activeElement.selectionEnd)), 'topic reed x');
await area.fill(`${before}pattern readwrite own/#\n`);
await page.getByLabel('Topic', { exact: true }).fill('own/1');
await page.getByLabel('User', { exact: true }).fill(HOSTILE);
await page.getByLabel('Client ID').fill('x');
await page.getByRole('button', { name: 'Check' }).press('Enter');
await page.getByText('granted by line 4: pattern readwrite own/#').waitFor();
assert.ok((await text(page)).includes('denied: no rule grants it'));
await examine(page, 'permissions that are checked');
await assert.rejects(second.publishAsync('own/1', 'x', { qos: 1 }));
await page.getByRole('button', { name: 'Save and apply' }).click();
await page.getByText('auth devices (changed: files)').waitFor();
assert.equal(readFileSync(join(folder, 'acl'), 'utf8'), `${before}pattern readwrite own/#\n`);
await second.publishAsync('own/1', 'x', { qos: 1 });

// Somebody else writes the file: nothing is lost.
writeFileSync(join(folder, 'acl'), `${before}# theirs\n`);
await area.fill(`${before}# mine\n`);
await page.getByRole('button', { name: 'Check' }).click();
await page.getByRole('button', { name: 'Save and apply' }).click();
await page.getByText('Somebody else has written it').waitFor();
await expected('412');
await page.getByRole('button', { name: 'Take theirs' }).click();
await until('their text', async () => (await area.inputValue()).includes('# theirs'));
console.log('permissions are changed');

// A user is removed: its clients are disconnected.
await rows('Users').nth(2).getByRole('button', { name: 'Remove' }).click();
await dialog.getByText('Its clients are disconnected').waitFor();
await examine(page, 'a user that is to be removed');
const removed = told(second);
await dialog.getByRole('button', { name: 'Remove', exact: true }).press('Enter');
assert.equal(await removed, 0x87);
await dialog.getByRole('button', { name: 'Close' }).click();
await until('it is gone', async () => (await rows('Users').count()) === 2);

// Who may only read sees which auths there are.
const other = await open();
await logIn(other, reader);
await other.goto(`${origin}/ui/#/users/devices`);
await other.getByText('this needs a token with the role write').waitFor();
assert.equal((await api(other, 'auth/devices/users')).status, 403);
await other.context().close();

await api(page, `auth/devices/users/${'y'.repeat(256)}`, { method: 'PUT', data: JSON.stringify({ password: 'a password' }) });
await looks({ users: 'Users', 'users/devices': 'Users / devices' });
await end();
