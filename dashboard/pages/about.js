// About the service: version, host and components.

import { html } from '../vendor/preact.js';
import { get } from '../api.js';
import { AsCommand, Facts, Head, Panel, Table, usePolled } from '../parts.js';
import { bytes, count, dateTime, seconds } from '../text.js';

const vendor = () => fetch(new URL('vendor/vendor.json', document.baseURI)).then((answer) => answer.json());

async function all() {
  const [version, status, spool, { clusters }, libraries] = await Promise.all([get('version'), get('status'), get('spool'), get('clusters'), vendor()]);
  return { version, status, spool, clusters, libraries };
}

const LINKS = [
  ['../metrics', 'Metrics for Prometheus'],
  ['../healthz', 'Health'],
  ['../readyz', 'Readiness'],
];

export function About() {
  const { value, problem } = usePolled(all, 'about', 10_000);
  const packages = new Map(value?.libraries.files.flatMap((file) => file.packages).map((one) => [one.name, one]));
  return html`<${Head} title="About" />
    ${problem && html`<div class="banner bad" role="alert">${problem.message}</div>`}
    ${value && html`<div class="grid two">
      <${Panel} title="Forebay"><${Facts} rows=${[
        ['Version', value.version.version],
        ['Build', value.version.build],
        ['Started', dateTime(Date.parse(value.status.started_at))],
        ['Running for', seconds(value.status.uptime_seconds)],
        ['Shards', count(value.status.shards)],
        ['Input and output', value.status.io === 'ring' ? 'io_uring' : value.status.io],
        ['Kernel', value.version.kernel],
        ['Licence', 'Apache-2.0'],
      ]} /><//>
      <${Panel} title="Limits"><${Facts} rows=${[
        ...value.clusters.map((cluster) => [`Records in memory, ${cluster.name}`, bytes(cluster.buffer_bytes_max)]),
        ['Spool', value.spool.configured ? bytes(value.spool.bytes_max) : 'not configured'],
        ['Open descriptors', value.version.descriptors_max ? count(value.version.descriptors_max) : 'no limit'],
        ['Memory', value.version.memory_bytes_max ? bytes(value.version.memory_bytes_max) : null],
      ]} /><//>
      <${Panel} title="What programs ask"><dl class="facts">
        ${LINKS.map(([href, what]) => html`<dt>${what}</dt><dd><a href=${href}>${new URL(href, document.baseURI).pathname}</a></dd>`)}
        <dt>The API's description</dt><dd><${AsCommand} path="openapi.json" /></dd>
      </dl><//>
      <${Panel} title="Libraries of the dashboard"><${Table} label="Libraries" rows=${[...packages.values()]} id=${(one) => one.name} columns=${[
        { title: 'Package', cell: (one) => one.name },
        { title: 'Version', cell: (one) => one.version },
        { title: 'Licence', cell: (one) => html`<a href="vendor/LICENSES.txt">${one.license}</a>` },
      ]} /><//>
    </div>`}`;
}
