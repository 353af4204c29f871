// A cache of bodies outside of the JavaScript heap, and entries that describe them; nine of
// ten expire, and of these only a digest stays.  Says `peak`, `idle` and what it kept, each
// after a line that it reads; bodies.js NUMBER, with --expose-gc.
'use strict';
const crypto = require('crypto');
const fs = require('fs');

let seed = 1;
const rnd = (n) => {
  seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
  return (seed >> 8) % n;
};
const count = Number(process.argv[2]);
const cache = new Map();
const digests = [];
for (let i = 0; i < count; i++) {
  const body = Buffer.allocUnsafeSlow(200 + rnd(4000));
  body.fill(i & 255);
  cache.set('/item/' + i, { body, headers: { etag: 'e' + i, length: body.length }, hits: 0 });
  if (i % 10 !== 0) {
    const digest = Buffer.allocUnsafeSlow(32);
    crypto.createHash('sha256').update(body.subarray(0, 64)).digest().copy(digest);
    digests.push(digest);
  }
}
const readLine = () => fs.readSync(0, Buffer.alloc(1));
console.log('peak', cache.size);
readLine();
for (let i = 0; i < count; i++) if (i % 10 !== 0) cache.delete('/item/' + i);
global.gc();
global.gc();
console.log('idle');
const trickle = setInterval(() => Buffer.allocUnsafeSlow(100), 100);
process.stdin.once('data', () => {
  clearInterval(trickle);
  let sum = 0;
  for (const { body } of cache.values()) sum += body[body.length - 1];
  console.log('kept', cache.size, sum, digests.length);
  process.exit(0);
});
