// A subscriber of mqtt.js that acknowledges in batches: `node batches.mjs TRANSPORT PORT CA VERSION COUNT`.
//
// It prints `ready`, acknowledges nothing before COUNT messages have come, then all of them, and prints `done`. mqtt.js has no such
// mode: its PUBACKs are kept back where it writes them.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const mqtt = createRequire(`${process.env.FOREBAY_NODE}/`)('mqtt');
const [transport, port, ca, version, count] = process.argv.slice(2);
const scheme = { tcp: 'mqtt', tls: 'mqtts', ws: 'ws', wss: 'wss' }[transport];
const path = transport.startsWith('ws') ? '/mqtt' : '';
const client = await mqtt.connectAsync(`${scheme}://127.0.0.1:${port}${path}`, {
  protocolVersion: version === '5.0' ? 5 : 4,
  ca: readFileSync(ca),
  clientId: `mqttjs-${version}-${transport}`,
  reconnectPeriod: 0,
});
const send = client._sendPacket.bind(client);
const held = [];
client._sendPacket = (packet, callback, ...rest) => {
  if (packet.cmd !== 'puback') return send(packet, callback, ...rest);
  held.push(packet);
  if (callback) callback();
};
let got = 0;
client.on('message', () => {
  got += 1;
  if (got < Number(count)) return;
  setImmediate(async () => {
    for (const packet of held) send(packet);
    console.log('done');
    await client.endAsync();
  });
});
await client.subscribeAsync(`batch/${transport}/${version}`, { qos: 1 });
console.log('ready');
