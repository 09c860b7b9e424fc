// The participants of mqtt.js in the matrix of clients: `node participant.mjs JOB`.
//
// tests/python/matrix.py starts it, and says what job, input and output are. FOREBAY_NODE names the folder whose node_modules holds mqtt.js.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';

const mqtt = createRequire(`${process.env.FOREBAY_NODE}/`)('mqtt');

const SCHEMES = { tcp: 'mqtt', tls: 'mqtts', ws: 'ws', wss: 'wss' };
const VERSIONS = {
  '3.1': { protocolVersion: 3, protocolId: 'MQIsdp' },
  '3.1.1': { protocolVersion: 4 },
  '5.0': { protocolVersion: 5, properties: { topicAliasMaximum: 16 } },
};

const job = JSON.parse(process.argv[2]);
let leaving = false;

// A client that has subscribed.
async function participant({ name, version, transport, port }) {
  const path = transport.startsWith('ws') ? '/mqtt' : '';
  const client = await mqtt.connectAsync(`${SCHEMES[transport]}://127.0.0.1:${port}${path}`, {
    ...VERSIONS[version],
    ca: readFileSync(job.ca),
    clientId: name,
    reconnectPeriod: 0,
  });
  client.on('message', (topic, payload, packet) => console.log(`${name} ${topic} ${packet.qos} ${payload}`));
  // Before the client has put a topic in the place of an alias.
  client.on('packetreceive', (packet) => {
    if (packet.cmd === 'publish' && packet.topic === '') console.log(`alias ${name}`);
  });
  client.on('close', () => {
    if (leaving) return;
    console.log(`${name} lost its connection`);
    process.exit(1);
  });
  client.on('error', (error) => console.log(`${name} ${error.message}`));
  await client.subscribeAsync(Object.fromEntries(Object.entries(job.filters).map(([filter, qos]) => [filter, { qos }])));
  return client;
}

const clients = {};
for (const spec of job.clients) clients[spec.name] = await participant(spec);
console.log('ready');
const sent = [];
for await (const line of createInterface({ input: process.stdin })) {
  const [name, topic, qos, payload] = line.split(' ');
  sent.push(clients[name].publishAsync(topic, payload, { qos: Number(qos) }));
}
await Promise.all(sent);
leaving = true;
await Promise.all(Object.values(clients).map((client) => client.endAsync()));
