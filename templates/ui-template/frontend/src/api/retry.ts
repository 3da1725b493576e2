import type { ApiFailure } from './failure';

/** Only calls that change nothing are repeated on their own. Starting a run twice would run it twice. */
const SAFE_METHODS = new Set(['GET', 'HEAD']);

export const MAX_ATTEMPTS = 4;
const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 8000;

export function mayRetry(method: string, failure: ApiFailure, attempt: number): boolean {
  return SAFE_METHODS.has(method) && failure.transient && attempt < MAX_ATTEMPTS;
}

/** Doubling with jitter, so clients that failed together do not return together; the server's own wish wins. */
export function waitBefore(attempt: number, failure: ApiFailure, random: () => number = Math.random): number {
  if (failure.details.retryAfterMs !== undefined) return Math.min(failure.details.retryAfterMs, 60_000);
  const ceiling = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** (attempt - 1));
  return ceiling / 2 + (random() * ceiling) / 2;
}
