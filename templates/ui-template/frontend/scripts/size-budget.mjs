// Fails the build when a bundle outgrows its budget. Raise a limit only for something the user will notice.
import { statSync } from 'node:fs';

const KB = 1024;
const budgets = [
  { file: 'bundle.js', limit: 110 * KB },
  { file: 'bundle.js.br', limit: 30 * KB },
  { file: 'bundle.standalone.js', limit: 1500 * KB },
  { file: 'bundle.standalone.js.br', limit: 400 * KB },
];

let over = false;
for (const { file, limit } of budgets) {
  const { size } = statSync(new URL(`../dist/${file}`, import.meta.url));
  const fits = size <= limit;
  over ||= !fits;
  console.log(`${fits ? 'ok  ' : 'OVER'} ${file.padEnd(24)} ${(size / KB).toFixed(1).padStart(8)} KB of ${limit / KB} KB`);
}
process.exitCode = over ? 1 : 0;
