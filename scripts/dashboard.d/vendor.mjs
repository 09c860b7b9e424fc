// Writes dashboard/vendor: each bundle, its licences, and vendor.json, which says what it was made of.
// Arguments: the folder with node_modules, the folder with the entries, the folder to write to.
import { createHash } from 'node:crypto';
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createRequire } from 'node:module';

const [from, entries, to] = process.argv.slice(2);
const esbuild = createRequire(join(from, 'package.json'))('esbuild');
const lock = JSON.parse(readFileSync(join(entries, 'package-lock.json'), 'utf8')).packages;

/** A package and all that it needs: its own bundle for browsers has some of them. */
function withAll(name, found = new Set()) {
  if (found.has(name)) return found;
  found.add(name);
  Object.keys(lock[`node_modules/${name}`].dependencies ?? {}).forEach((one) => withAll(one, found));
  return found;
}
// Declarations of types have no code.
const mqtt = [...withAll('mqtt')].filter((name) => !name.startsWith('@types/') && name !== 'undici-types').sort();

const bundles = {
  'preact.js': ['preact', '@preact/signals', '@preact/signals-core', 'htm'],
  'uplot.js': ['uplot'],
  'mqtt.js': mqtt,
  'uplot.css': ['uplot'],
};
const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');
const packageOf = (name) => {
  const at = lock[`node_modules/${name}`];
  const { license } = JSON.parse(readFileSync(join(from, 'node_modules', name, 'package.json'), 'utf8'));
  return { name, version: at.version, integrity: at.integrity, license };
};

const files = [];
for (const [file, names] of Object.entries(bundles)) {
  let bytes;
  if (file.endsWith('.css')) {
    bytes = readFileSync(join(from, 'node_modules/uplot/dist/uPlot.min.css'));
  } else {
    const made = esbuild.buildSync({
      stdin: { contents: readFileSync(join(entries, file), 'utf8'), resolveDir: from },
      bundle: true,
      format: 'esm',
      platform: 'browser',
      minify: true,
      legalComments: 'none',
      target: 'es2022',
      write: false,
    });
    bytes = made.outputFiles[0].contents;
  }
  writeFileSync(join(to, file), bytes);
  files.push({ file, sha256: sha256(bytes), packages: names.map(packageOf) });
}
const made_with = `esbuild ${lock['node_modules/esbuild'].version}`;
writeFileSync(join(to, 'vendor.json'), `${JSON.stringify({ made_with, files }, null, 2)}\n`);

const names = [...new Set(Object.values(bundles).flat())];
const licences = names.map((name) => {
  const folder = join(from, 'node_modules', name);
  const file = readdirSync(folder).find((one) => /^licen[cs]e(\.md|\.txt)?$/i.test(one));
  const text = file ? readFileSync(join(folder, file), 'utf8').trim() : `(in its package: ${packageOf(name).license})`;
  return `${name}\n${'='.repeat(Math.max(3, name.length))}\n\n${text}\n`;
});
writeFileSync(join(to, 'LICENSES.txt'), licences.join('\n\n'));
