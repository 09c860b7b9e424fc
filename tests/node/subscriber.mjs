// Subscribes with mqtt.js, several clients in one process, and says what they hear: `node subscriber.mjs PORT MESSAGES`.
//
// One client for each MQTT version and QoS. Prints `ready` when all have subscribed; then it publishes MESSAGES messages at each QoS
// to `js/QOS`, and prints `VERSION GRANTED TOPIC QOS PAYLOAD` for each message that any of them gets, and before it `alias VERSION
// GRANTED` if it came under a topic alias alone. Ends when its input does.

import { createRequire } from 'node:module';

const mqtt = createRequire(`${process.env.FOREBAY_NODE}/`)('mqtt');
const [port, messages] = process.argv.slice(2).map(Number);
const VERSIONS = {
  '3.1': { protocolVersion: 3, protocolId: 'MQIsdp' },
  '3.1.1': { protocolVersion: 4 },
  '5.0': { protocolVersion: 5, properties: { topicAliasMaximum: 4 } },
};

const clients = [];
for (const [version, options] of Object.entries(VERSIONS)) {
  for (const granted of [0, 1, 2]) {
    const client = await mqtt.connectAsync({ ...options, host: '127.0.0.1', port, clientId: `js-${version}-${granted}` });
    client.on('message', (topic, payload, packet) => {
      console.log(`${version} ${granted} ${topic} ${packet.qos} ${payload}`);
    });
    // Before the client has put a topic in the place of an alias.
    client.on('packetreceive', (packet) => {
      if (packet.cmd === 'publish' && packet.topic === '') console.log(`alias ${version} ${granted}`);
    });
    await client.subscribeAsync('+/+', { qos: granted });
    clients.push(client);
  }
}
console.log('ready');
const [publisher] = clients;
for (let counter = 0; counter < messages; counter++) {
  for (const qos of [0, 1, 2]) await publisher.publishAsync(`js/${qos}`, String(counter), { qos });
}
console.log('published');
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
