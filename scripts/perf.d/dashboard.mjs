// What the dashboard costs a browser and the service, for dashboard.py and answers.py. Prints one JSON object.
//
//     dashboard.mjs ADDRESS TOKEN "" viewers COUNT SECONDS
//     dashboard.mjs ADDRESS TOKEN "" interactive ROUNDS
//     dashboard.mjs ADDRESS TOKEN "" heap SECONDS PAGE...
//     dashboard.mjs ADDRESS TOKEN "" answers PAGE...
//
// With "" for TOKEN nobody logs in.

import { browser, faults, open, origin, rest, writer } from '../../tests/node/browser.mjs';

const [mode, ...more] = rest;
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const median = (all) => [...all].sort((a, b) => a - b)[Math.floor(all.length / 2)];
const of = (rows, key) => median(rows.map((row) => row[key]));
/** A page of a browser of its own, as somebody has it who looks on: it shares no stream with others. */
async function look(hash) {
  const page = await open();
  if (writer) {
    const login = await page.request.post(`${origin}/api/v1/session`, { headers: { Authorization: `Bearer ${writer}`, Origin: origin } });
    await page.addInitScript((half) => sessionStorage.setItem('forebay-login /ui/', half), (await login.json()).x_forebay);
  }
  const began = Date.now();
  await page.goto(`${origin}/ui/#/${hash}`);
  await page.getByText('Live', { exact: true }).waitFor();
  return Object.assign(page, { liveMs: Date.now() - began });
}

const MODES = {
  /** Viewers that look on until the time is over; says when all are there, as their coming costs, too. */
  async viewers(count, seconds) {
    const pages = ['overview', 'sinks/all', 'overview', 'clusters/main', 'overview', 'listeners', 'sinks', 'clients'];
    for (let n = 0; n < Number(count); n++) await look(pages[n % pages.length]);
    console.log(JSON.stringify({ viewers: Number(count) }));
    await sleep(Number(seconds) * 1000);
  },

  /**
   * From the request for the page until it shows live numbers, with 50 ms between each request and its answer and nothing in the browser's cache: by then all that it
   * has is there, and what is clicked is heard.
   */
  async interactive(rounds) {
    const found = [];
    for (let n = 0; n < Number(rounds); n++) {
      const page = await open();
      const session = await page.context().newCDPSession(page);
      await session.send('Network.enable');
      await session.send('Network.emulateNetworkConditions', { offline: false, latency: 50, downloadThroughput: -1, uploadThroughput: -1 });
      await page.addInitScript(() => {
        const watch = new MutationObserver(() => {
          if (document.querySelector('nav a') && !window.shownAt) window.shownAt = performance.now();
          if (!document.querySelector('.stream .good')) return;
          window.liveAt = performance.now();
          watch.disconnect();
        });
        watch.observe(document, { childList: true, subtree: true });
      });
      await page.goto(`${origin}/ui/`);
      await page.waitForFunction(() => window.liveAt);
      const { shownAt, liveAt } = await page.evaluate(() => ({ shownAt: window.shownAt, liveAt: window.liveAt }));
      found.push({ shown: Math.round(shownAt), live: Math.round(liveAt) });
      await page.context().close();
    }
    console.log(JSON.stringify({ latency_ms: 50, shown_ms: of(found, 'shown'), live_ms: of(found, 'live'), rounds: found }));
  },

  /** The longest answer of the API that each page has waited for, and when it showed live numbers. */
  async answers(...hashes) {
    const pages = [];
    for (const hash of hashes) {
      const page = await look(hash);
      await sleep(6000);
      const longest = await page.evaluate(() => performance.getEntriesByType('resource').filter(({ name }) => name.includes('/api/v1/') && !name.endsWith('/live'))
        .map(({ name, duration, decodedBodySize }) => ({ path: name.split('/api/v1/')[1], longest_ms: Math.round(duration), bytes: decodedBodySize })).sort((a, b) => b.longest_ms - a.longest_ms)[0]);
      pages.push({ page: hash, live_ms: page.liveMs, ...longest });
      await page.context().close();
    }
    console.log(JSON.stringify({ pages }));
  },

  /** What the heap of each page has grown by, each time after a collection of what is garbage. All pages are open at once. */
  async heap(seconds, ...hashes) {
    const pages = [];
    for (const hash of hashes) {
      const page = await look(hash);
      const session = await page.context().newCDPSession(page);
      await session.send('HeapProfiler.enable');
      pages.push({ hash, session, page });
    }
    const measure = async ({ session }) => {
      for (let n = 0; n < 3; n++) await session.send('HeapProfiler.collectGarbage');
      const { usedSize } = await session.send('Runtime.getHeapUsage');
      const { nodes } = await session.send('Memory.getDOMCounters');
      return { bytes: usedSize, nodes };
    };
    // Everything has been drawn once by then.
    await sleep(10_000);
    const before = [];
    for (const one of pages) before.push(await measure(one));
    await sleep(Number(seconds) * 1000);
    const found = [];
    for (const [place, one] of pages.entries()) {
      const after = await measure(one);
      found.push({ page: one.hash, plots: await one.page.locator('figure').count(), before_bytes: before[place].bytes, after_bytes: after.bytes, grown_bytes: after.bytes - before[place].bytes, nodes_before: before[place].nodes, nodes_after: after.nodes });
    }
    console.log(JSON.stringify({ seconds: Number(seconds), pages: found }));
  },
};

await MODES[mode](...more);
await browser.close();
if (faults.length > 0) {
  console.error(faults.join('\n'));
  process.exit(1);
}
process.exit();
