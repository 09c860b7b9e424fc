// The dashboard behind a reverse proxy, below a path of its own. tests/service/dashboard_pages.rs starts the service.
// Arguments: those of browser.mjs, and the port of the socket that the proxy listens on: its standard input is that socket.

import { strict as assert } from 'node:assert';
import http from 'node:http';
import { api, address, end, expected, faults, headersOf, logIn, open, rest, text, until, writer } from './browser.mjs';

const PREFIX = '/forebay';
const port = Number(rest[0]);
const [host, upstream] = address.split(':');
/** As nginx with `proxy_pass`: its own `Host`, and the path with its beginning cut off or not. */
let cuts = true;
const forwarded = (request) => ({
  host,
  port: upstream,
  method: request.method,
  path: cuts ? request.url.slice(PREFIX.length) : request.url,
  headers: { ...request.headers, host: `${host}:${upstream}`, 'x-forwarded-for': '192.0.2.1', 'x-forwarded-host': 'elsewhere.example' },
});
const proxy = http.createServer((request, response) => {
  if (!request.url.startsWith(`${PREFIX}/`)) return response.writeHead(404).end();
  const up = http.request(forwarded(request), (answer) => {
    response.writeHead(answer.statusCode, answer.headers);
    answer.pipe(response);
  });
  up.on('error', () => response.destroy());
  response.on('close', () => up.destroy());
  request.pipe(up);
});
proxy.on('upgrade', (request, socket) => {
  if (!request.url.startsWith(`${PREFIX}/`)) return socket.destroy();
  const up = http.request(forwarded(request));
  up.on('upgrade', (answer, far, first) => {
    const lines = answer.rawHeaders.flatMap((name, at) => (at % 2 === 0 ? [`${name}: ${answer.rawHeaders[at + 1]}`] : []));
    socket.write(`HTTP/1.1 101 Switching Protocols\r\n${lines.join('\r\n')}\r\n\r\n`);
    socket.write(first);
    far.pipe(socket).pipe(far);
    [far, socket].forEach((end) => end.on('error', () => (far.destroy(), socket.destroy())));
  });
  up.on('error', () => socket.destroy());
  up.end();
});
await new Promise((done) => proxy.listen({ fd: 0 }, done));
const outside = `http://127.0.0.1:${port}`;
const base = `${outside}${PREFIX}/ui/`;

for (cuts of [true, false]) {
  const what = cuts ? 'that cuts its path off' : 'that leaves its path';
  const page = await open({ from: outside + PREFIX });
  await logIn(page, writer, base);
  await page.getByText('Live', { exact: true }).waitFor();
  const [cookie, ...more] = await page.context().cookies();
  assert.deepEqual([cookie.path, cookie.httpOnly, cookie.sameSite, more.length], [PREFIX, true, 'Strict', 0]);
  await page.goto(`${base}#/sinks/all`);
  for (const [button, state] of [['Pause', 'paused'], ['Resume', 'running']]) {
    await page.getByRole('button', { name: button }).click();
    await page.getByRole('dialog').getByRole('button', { name: button }).click();
    await until(`a sink is ${state} through a proxy ${what}`, async () => (await page.locator('.head .state').innerText()).includes(state));
  }
  await page.getByRole('button', { name: 'As a command' }).first().click();
  await page.getByRole('dialog').getByText(`${outside}${PREFIX}/api/v1/sinks/all`).waitFor();
  await page.getByRole('dialog').getByRole('button', { name: 'Close' }).click();
  const grafana = page.getByRole('navigation').getByRole('link', { name: 'Grafana' });
  assert.deepEqual(await Promise.all(['href', 'rel'].map((key) => grafana.getAttribute(key))), ['https://grafana.example/d/x?orgId=1', 'noreferrer']);
  // The MQTT client, over the WebSocket that the proxy carries.
  await page.goto(`${base}#/client`);
  await page.getByRole('button', { name: 'Connect', exact: true }).click();
  await page.getByRole('status').getByText('Connected', { exact: true }).waitFor();
  await page.getByLabel('Topic', { exact: true }).fill('through/a/proxy');
  await page.getByRole('button', { name: 'Send' }).click();
  const messages = page.getByRole('region', { name: 'Messages', exact: true }).last();
  await until(`a message is acknowledged through a proxy ${what}`, async () => (await messages.innerText()).includes('acknowledged: success'));
  await page.context().close();
}

// Another service may have its pages below another path of the same origin: what its tabs say to each other is not taken for ours.
{
  const page = await open({ from: outside + PREFIX });
  await logIn(page, writer, base);
  await page.goto(`${base}#/about`);
  await page.getByText('Live', { exact: true }).waitFor();
  const beside = await page.context().newPage();
  await beside.route(`${outside}/other/**`, (route) => route.fulfill({ contentType: 'text/html', body: '<p>other' }));
  await beside.goto(`${outside}/other/ui/`);
  const layout = await (await fetch(`http://${address}/api/v1/live`, { headers: { Authorization: `Bearer ${writer}` } })).body.getReader().read().then(({ value }) => JSON.parse(/data: (.*)/.exec(new TextDecoder().decode(value))[1]));
  await beside.evaluate((data) => {
    for (const path of ['', ' /other/ui/']) new BroadcastChannel(`forebay-live${path}`).postMessage({ kind: 'layout', data });
  }, { ...layout, objects: layout.objects.map((one) => ({ ...one, name: one.kind === 'sink' ? 'of-another-service' : one.name })) });
  await page.goto(`${base}#/overview`);
  await page.getByRole('link', { name: 'all', exact: true }).waitFor();
  await page.waitForTimeout(500);
  assert.ok(!(await text(page)).includes('of-another-service'));
  await page.context().close();
  console.log('a service beside it is another one');
}

// Pages of other origins change nothing: not one of the same machine, nor the one that the service has without the proxy.
const page = await open({ from: outside + PREFIX });
await logIn(page, writer, base);
const cookie = (await page.context().cookies()).map(({ name, value }) => `${name}=${value}`).join('; ');
const half = await headersOf(page);
const pause = async (origin) => {
  const headers = { ...half, Cookie: cookie, ...(origin && { Origin: origin }) };
  return (await fetch(`http://${address}/api/v1/sinks/all/pause?dry_run=true`, { method: 'POST', headers })).status;
};
assert.equal(await pause(outside), 200);
for (const origin of [`http://${address}`, 'https://evil.example', `https://127.0.0.1:${port}`, 'null']) assert.equal(await pause(origin), 403, origin);
/** The cookies that a server on another port of the host gets. */
const given = [];
const neighbour = http.createServer((request, response) => given.push(request.headers.cookie) && response.writeHead(200, { 'Content-Type': 'text/html' }).end('<p>other'));
await new Promise((done) => neighbour.listen(0, '127.0.0.1', done));
const other = await page.context().newPage();
await other.goto(`http://127.0.0.1:${neighbour.address().port}${PREFIX}/`);
const tried = await other.evaluate(async (api) => {
  const statuses = [];
  for (const options of [{ method: 'POST' }, { method: 'POST', headers: { 'X-Forebay': '1' } }, { method: 'POST', mode: 'no-cors' }, { mode: 'no-cors' }]) {
    statuses.push(await fetch(`${api}/sinks/all/pause`, { credentials: 'include', ...options }).then((answer) => answer.status, () => 'nothing'));
  }
  return statuses;
}, `${outside}${PREFIX}/api/v1`);
assert.ok(tried.every((status) => status === 'nothing' || status === 0), `${tried}`);
assert.ok(given.some((one) => one?.includes('forebay-')), 'another port gets the cookie');
for (const stolen of [cookie, ...given.filter(Boolean)]) {
  for (const more of [{}, { 'X-Forebay': '1' }]) assert.equal((await fetch(`http://${address}/api/v1/sinks`, { headers: { Cookie: stolen, ...more } })).status, 401);
}
const { body } = await api(page, 'sinks/all', { headers: { Authorization: `Bearer ${writer}` } });
assert.equal(body.state, 'running');
console.log('a page of another port changes nothing');

// A name that leads to this machine (DNS rebinding) gets nothing of it.
const rebound = await open({ from: `http://rebound.example:${upstream}` });
const answer = await rebound.goto(`http://rebound.example:${upstream}/ui/`);
assert.equal(answer.status(), 403);
await expected('403');
const read = await rebound.evaluate(() => Promise.all(['/api/v1/sinks', '/metrics', '/api/v1/session'].map((path) => fetch(path, { headers: { 'X-Forebay': '1' } }).then((one) => one.status))));
assert.deepEqual(read.slice(0, 2), [401, 403]);
faults.splice(0);
console.log('a name that leads here gets nothing');

proxy.close();
neighbour.close();
await end();
