/** Starts the browser all walks share, before the first and until after the last. */
import { chromium } from 'playwright-core';
import type { TestProject } from 'vitest/node';

declare module 'vitest' {
  interface ProvidedContext {
    browser: string;
  }
}

const ARGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--disable-background-networking', '--disable-component-update', '--disable-sync'];

export default async function start(project: TestProject): Promise<() => Promise<void>> {
  const executablePath = process.env.E2E_CHROMIUM ?? '/usr/bin/chromium';
  const server = await chromium.launchServer({ executablePath, args: ARGS, host: '127.0.0.1', timeout: 180_000 });
  project.provide('browser', server.wsEndpoint());
  return () => server.close();
}
