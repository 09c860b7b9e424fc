// Logs in with mqtt.js by SCRAM-SHA-256, publishes, authenticates again and publishes: `node scram.mjs PORT USER PASSWORD TOPIC`.
//
// The SCRAM of this side is written here, over Node's own hashes. FOREBAY_NODE names the folder whose node_modules holds mqtt.js.

import { createHash, createHmac, pbkdf2Sync, randomBytes } from 'node:crypto';
import { createRequire } from 'node:module';

const mqtt = createRequire(`${process.env.FOREBAY_NODE}/`)('mqtt');
const METHOD = 'SCRAM-SHA-256';
const [port, user, password, topic] = process.argv.slice(2);

const hmac = (key, text) => createHmac('sha256', key).update(text).digest();

class Scram {
  first() {
    this.nonce = randomBytes(12).toString('base64');
    this.bare = `n=${user.replaceAll('=', '=3D').replaceAll(',', '=2C')},r=${this.nonce}`;
    return Buffer.from(`n,,${this.bare}`);
  }

  last(challenge) {
    const [, nonce, salt, iterations] = /^r=([^,]+),s=([^,]+),i=(\d+)$/.exec(challenge);
    if (!nonce.startsWith(this.nonce) || nonce === this.nonce) throw new Error(`nonce ${nonce}`);
    const salted = pbkdf2Sync(password, Buffer.from(salt, 'base64'), Number(iterations), 32, 'sha256');
    const clientKey = hmac(salted, 'Client Key');
    const withoutProof = `c=biws,r=${nonce}`;
    const message = `${this.bare},${challenge},${withoutProof}`;
    const signature = hmac(createHash('sha256').update(clientKey).digest(), message);
    this.wanted = `v=${hmac(hmac(salted, 'Server Key'), message).toString('base64')}`;
    const proof = Buffer.from(clientKey.map((byte, place) => byte ^ signature[place]));
    return Buffer.from(`${withoutProof},p=${proof.toString('base64')}`);
  }

  check(said) {
    if (String(said) !== this.wanted) throw new Error(`the server says ${said}, not ${this.wanted}`);
  }
}

const auth = (reasonCode, data) => ({
  cmd: 'auth',
  reasonCode,
  properties: { authenticationMethod: METHOD, authenticationData: data },
});

let scram = new Scram();
const client = mqtt.connect({
  host: '127.0.0.1',
  port: Number(port),
  clientId: 'scram-js',
  protocolVersion: 5,
  reconnectPeriod: 0,
  properties: { authenticationMethod: METHOD, authenticationData: scram.first() },
});
client.on('error', (error) => {
  console.error(String(error), error.code ?? '');
  process.exit(1);
});
client.handleAuth = (packet, callback) => {
  if (packet.reasonCode === 24) return callback(null, auth(24, scram.last(String(packet.properties.authenticationData))));
  scram.check(packet.properties.authenticationData);
  callback();
  client.publish(topic, 'again', { qos: 1 }, () => client.end(() => console.log('done')));
};
client.on('connect', (connack) => {
  if (connack.properties.authenticationMethod !== METHOD) throw new Error('CONNACK without the method');
  scram.check(connack.properties.authenticationData);
  client.publish(topic, 'first', { qos: 1 }, () => {
    scram = new Scram();
    client._sendPacket(auth(25, scram.first()));
  });
});
