// Kept sessions with mqtt.js, several clients in one process: `node kept.mjs JOB`, the job as JSON. What it says: tests/faults/real.py.
//
// FOREBAY_NODE names the folder whose node_modules holds mqtt.js.

import { createRequire } from 'node:module';

const mqtt = createRequire(`${process.env.FOREBAY_NODE}/`)('mqtt');
const EXPIRY_S = 3_600;
const job = JSON.parse(process.argv[2]);

for (const spec of job.clients) {
  const v5 = spec.version === '5.0';
  let connected = false;
  const client = mqtt.connect({
    host: '127.0.0.1',
    port: job.port,
    clientId: spec.name,
    clean: false,
    protocolVersion: v5 ? 5 : 4,
    properties: v5 ? { sessionExpiryInterval: EXPIRY_S } : undefined,
    reconnectPeriod: 500,
    resubscribe: false,
  });
  client.on('connect', (connack) => {
    if (connected && !connack.sessionPresent) console.log(`lost ${spec.name}`);
    if (!connected) {
      client.subscribe(spec.filters, { qos: spec.qos }, (error) => {
        if (!error) console.log(`ready ${spec.name}`);
      });
    }
    connected = true;
  });
  client.on('message', (topic, payload, packet) => {
    console.log(`copy ${spec.name} ${topic} ${packet.qos} ${payload.toString('hex')}`);
  });
  client.on('error', (error) => {
    if (error.code !== 'ECONNREFUSED') console.error(`${spec.name}: ${error.message}`);
  });
}
