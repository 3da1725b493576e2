// Leaves gzip and brotli copies beside each bundle, so a server can send them as they are.
import { readFileSync, writeFileSync } from 'node:fs';
import { brotliCompressSync, constants, gzipSync } from 'node:zlib';

for (const name of ['bundle.js', 'bundle.standalone.js']) {
  const path = new URL(`../dist/${name}`, import.meta.url);
  const source = readFileSync(path);
  const quality = { params: { [constants.BROTLI_PARAM_QUALITY]: constants.BROTLI_MAX_QUALITY } };
  writeFileSync(new URL(`${path}.gz`), gzipSync(source, { level: constants.Z_BEST_COMPRESSION }));
  writeFileSync(new URL(`${path}.br`), brotliCompressSync(source, quality));
}
