import { defineConfig } from 'vitest/config';

const common = { testTimeout: 420_000, hookTimeout: 180_000, globalSetup: 'e2e/browser.ts' };

/** The walks and the look at every tab go side by side; what kills the server under test comes after them. */
export default defineConfig({
  test: {
    maxWorkers: 2,
    maxConcurrency: 3,
    projects: [
      { test: { name: 'walks', include: ['e2e/{walks,desktop,phone}.e2e.ts'], sequence: { groupOrder: 0 }, ...common } },
      { test: { name: 'restart', include: ['e2e/restart.e2e.ts'], sequence: { groupOrder: 1 }, ...common } },
    ],
  },
});
