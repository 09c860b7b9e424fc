// An aedes as a broker behind a WebSocket, plain or over TLS: `node aedes.mjs [CERTIFICATE KEY]`. It says where it listens, then each message that it takes:
// topic, QoS and payload, and each end of a client.
//
// FOREBAY_NODE names the folder whose node_modules holds aedes and ws.

import { createServer } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';

const require = createRequire(`${process.env.FOREBAY_NODE}/`);
const { Aedes } = await import(require.resolve('aedes'));
const { WebSocketServer, createWebSocketStream } = require('ws');
const [certificate, key] = process.argv.slice(2);

const broker = await Aedes.createBroker();
broker.on('publish', (packet, client) => {
  if (client) console.log(`took ${packet.topic} ${packet.qos} ${packet.payload}`);
});
broker.on('clientReady', (client) => console.log(`ready ${client.id}`));
broker.on('clientDisconnect', (client) => console.log(`left ${client.id}`));
broker.on('clientError', (client, error) => console.log(`error ${client.id} ${error.message}`));

const server = certificate
  ? createSecureServer({ cert: readFileSync(certificate), key: readFileSync(key) })
  : createServer();
const sockets = new WebSocketServer({ server, path: '/mqtt', handleProtocols: (offered) => (offered.has('mqtt') ? 'mqtt' : false) });
sockets.on('connection', (socket, request) => broker.handle(createWebSocketStream(socket), request));
server.listen(0, '127.0.0.1', () => console.log(`listening 127.0.0.1:${server.address().port}`));

// What is to be published: TOPIC QOS PAYLOAD, a line each.
process.stdin.setEncoding('utf8');
let rest = '';
process.stdin.on('data', (text) => {
  const lines = (rest + text).split('\n');
  rest = lines.pop();
  for (const line of lines) {
    const [topic, qos, payload] = line.split(' ');
    broker.publish({ topic, qos: Number(qos), payload, retain: false }, () => {});
  }
});
process.stdin.on('end', () => process.exit(0));
