import { defineConfig } from 'vitest/config';

/** One browser at a time: the walks share the machine with the server they test. */
export default defineConfig({
  test: {
    include: ['e2e/**/*.e2e.ts'],
    fileParallelism: false,
    testTimeout: 90_000,
    hookTimeout: 90_000,
  },
});
