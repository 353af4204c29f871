// Objects, strings and buffers outside of the JavaScript heap; prints checksums.
'use strict';
const crypto = require('crypto');
const zlib = require('zlib');

let seed = 1;
const rnd = (n) => {
  seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
  return (seed >> 8) % n;
};
const hash = crypto.createHash('sha256');
for (let round = 0; round < 4; round++) {
  const records = [];
  for (let i = 0; i < 15000; i++)
    records.push({ id: i, name: 'n' + rnd(1e6), tags: Array.from({ length: rnd(6) }, () => 't' + rnd(500)) });
  const text = JSON.stringify(records);
  const back = JSON.parse(text);
  back.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : a.id - b.id));
  hash.update(JSON.stringify(back.slice(0, 1000)));
  const buffers = [];
  for (let i = 0; i < 20000; i++) {
    const buffer = Buffer.allocUnsafeSlow(64 + rnd(4000));
    buffer.fill(i & 255);
    buffers.push(buffer);
    if (i > 2000) hash.update(buffers[i - 2000].subarray(0, 16));
    if (i > 4000) buffers[i - 4000] = null;
  }
  for (let i = 0; i < 20; i++) {
    const packed = zlib.deflateSync(text.slice(i * 1000, i * 1000 + 200000), { level: 1 });
    hash.update(zlib.inflateSync(packed));
  }
}
console.log(hash.digest('hex'));
const idle = Number(process.env.WORKLOADS_IDLE_MS || 0);
if (idle) setTimeout(() => {}, idle);
