import { cleanup, configure } from '@testing-library/react';
import { afterEach, beforeEach, vi } from 'vitest';

/** What is waited for comes when it comes: a busy machine may take long. */
configure({ asyncUtilTimeout: 60_000 });

/** What antd asks of a browser and jsdom does not have. */
window.matchMedia ??= ((query: string) => ({
  matches: false,
  media: query,
  addEventListener: () => undefined,
  removeEventListener: () => undefined,
  addListener: () => undefined,
  removeListener: () => undefined,
})) as unknown as typeof window.matchMedia;
globalThis.ResizeObserver ??= class {
  observe() {}
  unobserve() {}
  disconnect() {}
} as unknown as typeof ResizeObserver;

/** jsdom asks each rule of antd's style sheets about each element. What they say is looked at in a real browser (`e2e`). */
window.getComputedStyle = (element) => (element as HTMLElement).style;

beforeEach(() => {
  sessionStorage.clear();
  localStorage.clear();
});
afterEach(() => {
  cleanup();
  vi.useRealTimers();
  vi.unstubAllGlobals();
});
