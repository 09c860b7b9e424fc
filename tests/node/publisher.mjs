// Publishes numbered messages with mqtt.js, several clients in one process: `node publisher.mjs JOB`.
//
// The job file, the messages and the words of the logs are those of tests/python/publisher.py, message.py and checker.py.
// FOREBAY_NODE names the folder whose node_modules holds mqtt.js.

import { createWriteStream, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { crc32 } from './crc32.mjs';

const mqtt = createRequire(`${process.env.FOREBAY_NODE}/`)('mqtt');

const LEVELS = 3;
const WINDOW = 200; // messages handed to the library and not yet acknowledged
const VERSIONS = {
  '3.1': { protocolVersion: 3, protocolId: 'MQIsdp' },
  '3.1.1': { protocolVersion: 4 },
  '5.0': { protocolVersion: 5 },
};

function payloadOf(client, counter, qos, level) {
  const body = `${client} ${counter} ${qos} ${level} ${'.'.repeat((counter * 7) % 64)}`;
  return `${body} ${crc32(Buffer.from(body)).toString(16).padStart(8, '0')}`;
}

function publish(job, spec) {
  const log = createWriteStream(`${job.logs}/${spec.id}.log`);
  const options = {
    ...VERSIONS[spec.version],
    host: job.host,
    port: job.port,
    clientId: spec.id,
    clean: !spec.kept,
    keepalive: 30,
    reconnectPeriod: 500,
  };
  if (spec.version === '5.0') options.properties = { sessionExpiryInterval: spec.kept ? 3600 : 0 };
  const client = mqtt.connect(options);
  let next = 0;
  let open = 0;

  return new Promise((resolve) => {
    const more = () => {
      while (open < WINDOW && next < spec.messages) {
        const counter = next++;
        const level = counter % LEVELS;
        open++;
        log.write(`s ${counter}\n`);
        client.publish(`flow/${spec.id}/${level}`, payloadOf(spec.id, counter, spec.qos, level), { qos: spec.qos }, (error) => {
          open--;
          if (error) log.write(`e message ${counter}: ${error.message}\n`);
          else if (spec.qos > 0) log.write(`a ${counter}\n`);
          if (open <= WINDOW / 2) more();
        });
      }
      if (open === 0 && next === spec.messages && !client.disconnecting) {
        client.end(false, {}, () => {
          log.write('end\n');
          log.end(resolve);
        });
      }
    };
    client.on('connect', () => {
      log.write('c\n');
      if (next === 0) more();
    });
    client.on('close', () => {
      if (!client.disconnecting) log.write('x closed\n');
    });
    client.on('error', (error) => {
      if (error.code !== 'ECONNREFUSED') log.write(`e ${error.message}\n`); // a refused connection is tried again
    });
  });
}

const job = JSON.parse(readFileSync(process.argv[2], 'utf8'));
await Promise.all(job.clients.map((spec) => publish(job, spec)));
