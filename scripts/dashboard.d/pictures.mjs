// Pictures of the dashboard for the documents: a service with a fixed scenario, each page at 1280 × 800, some in dark as well.
// Argument: the folder to write to. Variables: FOREBAY_NODE, and FOREBAY for another program than target/debug/forebay.

import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const [to] = process.argv.slice(2);
const require = createRequire(join(process.env.FOREBAY_NODE, 'package.json'));
const { chromium } = require('playwright-core');
const mqtt = require('mqtt');
const program = process.env.FOREBAY || 'target/debug/forebay';
/** Seconds of traffic before the first picture. */
const FOR_S = 75;

const free = () => new Promise((done) => {
  const server = createServer().listen(0, '127.0.0.1', () => {
    const { port } = server.address();
    server.close(() => done(port));
  });
});
const [control, listener, log] = await Promise.all([free(), free(), free()]);
const dir = mkdtempSync(join(tmpdir(), 'forebay-pictures-'));
writeFileSync(join(dir, 'forebay.toml'), `
[service]
shards = 1
pin = false
data_dir = "${dir}/data"
[control]
bind = "127.0.0.1:${control}"
[[listener]]
bind = "127.0.0.1:${listener}"
[embedded]
bind = "127.0.0.1:${log}"
[spool]
bytes_max = "1GiB"
[[sink]]
name = "telemetry"
description = "Everything that machines measure"
filters = ["plant/+/temp", "plant/+/pressure"]
topic = "telemetry"
[[sink]]
name = "alarms"
filters = ["plant/+/alarm"]
value = "\${payload}"
topic = "alarms"
acknowledge = "replicated"
[[sink]]
name = "orders"
filters = ["orders/#"]
topic = "orders"
value = "\${payload.order}"
[[rule]]
name = "hot"
sql = '''
SELECT topic, payload.t AS payload
FROM "plant/+/temp"
WHERE payload > 80'''
sinks = ["alarms"]
[[source]]
name = "displays"
description = "What alarms show in the hall"
topic = "alarms"
mqtt_topic = "displays/hall"
[bridge.office]
description = "The broker of the office"
url = "mqtt://127.0.0.1:${listener}"
[[bridge.office.out]]
filters = "plant/+/state"
topic = "office/\${topic}"
`);
const service = spawn(program, ['run', '--config', join(dir, 'forebay.toml')], { stdio: ['ignore', 'ignore', 'inherit'] });
const ended = new Promise((done) => service.once('exit', done));
const clients = [];
let browser;
try {
  for (let tries = 0; ; tries++) {
    if (await fetch(`http://127.0.0.1:${control}/readyz`).then((answer) => answer.ok, () => false)) break;
    if (tries > 100) throw new Error('the service does not start');
    await new Promise((done) => setTimeout(done, 200));
  }
  const connect = async (clientId, options) => {
    const client = await mqtt.connectAsync(`mqtt://127.0.0.1:${listener}`, { clientId, protocolVersion: 5, clean: false, properties: { sessionExpiryInterval: 3600 }, ...options });
    clients.push(client);
    return client;
  };
  // The scenario: forty machines, of which one sends what its sink can make nothing of; workers, a dashboard, one who is away.
  const machines = [];
  for (let n = 1; n <= 40; n++) machines.push(await connect(`machine-${n}`, { username: `line-${n % 4}` }));
  for (const n of [1, 2, 3]) await (await connect(`worker-${n}`)).subscribeAsync('$share/workers/jobs/#', { qos: 1 });
  await (await connect('hall-display')).subscribeAsync('plant/+/temp', { qos: 0 });
  const away = await connect('night-report');
  await away.subscribeAsync('plant/#', { qos: 1 });
  await away.endAsync();
  clients.splice(clients.indexOf(away), 1);
  for (const n of [3, 7, 12]) await machines[n].publishAsync(`plant/${n}/state`, JSON.stringify({ running: n !== 7 }), { qos: 1, retain: true });
  let step = 0;
  const work = setInterval(() => {
    step += 1;
    const load = 1 + Math.floor(6 + 5 * Math.sin(step / 12));
    for (let n = 0; n < load * 3; n++) {
      const machine = machines[(step * 7 + n) % machines.length];
      machine.publish(`plant/${(step + n) % 40}/temp`, JSON.stringify({ t: 60 + ((step * n) % 30) }), { qos: 1 });
      if (n % 3 === 0) machine.publish(`plant/${(step + n) % 40}/pressure`, '{"p":1.4}', { qos: 1 });
    }
    if (step % 50 === 0) machines[0].publish('orders/7', 'not JSON', { qos: 1 });
    if (step % 20 === 0) machines[1].publish('jobs/paint', '{"part":7}', { qos: 1 });
  }, 100);
  await new Promise((done) => setTimeout(done, FOR_S * 1000));

  browser = await chromium.launch({ executablePath: process.env.FOREBAY_CHROMIUM || '/usr/bin/chromium', args: ['--no-sandbox', '--disable-gpu'] });
  const PAGES = {
    overview: 'overview?range=1m', sinks: 'sinks', sink: 'sinks/telemetry?range=1m', clients: 'clients', client: 'clients/night-report', subscriptions: 'subscriptions',
    shares: 'shares', retained: 'retained', listeners: 'listeners', cluster: 'clusters/embedded?range=1m', spool: 'spool?range=1m', events: 'events', about: 'about',
    form: 'sinks?new=yes', config: 'config', flow: 'flow', 'client-test': 'client',
    sources: 'sources', rules: 'rules', sql: 'sql?rule=hot', bridges: 'bridges', top: 'top',
  };
  // What is done on a page before its picture.
  const DOES = {
    form: (page) => page.getByRole('button', { name: 'As in TBMQ' }).click(),
    config: async (page) => {
      const field = page.getByRole('textbox', { name: 'The file' });
      await field.fill(`${await field.inputValue()}enabld = true\n`);
      await page.getByRole('button', { name: 'Check' }).click();
      await page.getByRole('button', { name: /^Line/ }).first().click();
      await page.getByRole('button', { name: /^Line/ }).first().scrollIntoViewIfNeeded();
    },
    sql: async (page) => {
      const field = page.getByRole('textbox', { name: 'Statement' });
      while (!(await field.inputValue()).includes('> 80')) await page.waitForTimeout(100);
      await field.fill((await field.inputValue()).replace('> 80', '> 75'));
      await page.getByLabel('MQTT topic', { exact: true }).fill('plant/7/temp');
      await page.getByLabel('Payload', { exact: true }).fill('{"t": 78}');
      await page.getByRole('button', { name: 'Run', exact: true }).click();
      await page.getByRole('region', { name: 'Output', exact: true }).waitFor();
    },
    'client-test': async (page) => {
      await page.getByRole('button', { name: 'Connect', exact: true }).click();
      await page.getByLabel('Topic filter').fill('plant/1/#');
      await page.getByRole('button', { name: 'Subscribe', exact: true }).click();
      await page.getByLabel('Topic', { exact: true }).fill('plant/1/alarm');
      await page.getByLabel('Payload').fill('{"level":"high"}');
      await page.getByRole('button', { name: 'Send' }).click();
    },
  };
  const token = readFileSync(join(dir, 'data/control-token'), 'utf8').trim();
  const IN_DARK = ['overview', 'sink'];
  for (const theme of ['light', 'dark']) {
    const page = await (await browser.newContext({ viewport: { width: 1280, height: 800 }, colorScheme: theme, reducedMotion: 'reduce' })).newPage();
    const devtools = await page.context().newCDPSession(page);
    await page.goto(`http://127.0.0.1:${control}/ui/`);
    await page.getByRole('button', { name: 'Log in' }).click();
    await page.getByLabel('Token').fill(token);
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'Overview' }).waitFor();
    // The way to the login has scrolled the navigation.
    await page.reload();
    for (const [name, hash] of Object.entries(PAGES).filter(([name]) => theme === 'light' || IN_DARK.includes(name))) {
      await page.goto(`http://127.0.0.1:${control}/ui/#/${hash}`);
      await page.getByText('Live', { exact: true }).waitFor();
      await DOES[name]?.(page);
      await page.waitForTimeout(2500);
      // Playwright makes no WebP, which is a third of the size.
      const { data } = await devtools.send('Page.captureScreenshot', { format: 'webp', quality: 82 });
      writeFileSync(join(to, `${name}-${theme}.webp`), Buffer.from(data, 'base64'));
      console.log(`${name}-${theme}.webp`);
    }
  }
  clearInterval(work);
} finally {
  await browser?.close();
  clients.forEach((client) => client.end(true));
  service.kill();
  await ended;
  rmSync(dir, { recursive: true });
}
