import { defineConfig } from 'vitest/config';

const timeouts = { testTimeout: 90_000, hookTimeout: 90_000 };

/** Walks spend their time waiting, the look at every tab computes: together they take as long as the longer one. */
export default defineConfig({
  test: {
    maxWorkers: 2,
    projects: [
      {
        test: { name: 'walks', include: ['e2e/{walks,look}.e2e.ts'], sequence: { groupOrder: 0 }, maxWorkers: 2, ...timeouts },
      },
      {
        test: { name: 'restart', include: ['e2e/restart.e2e.ts'], sequence: { groupOrder: 1 }, maxWorkers: 2, ...timeouts },
      },
    ],
  },
});
