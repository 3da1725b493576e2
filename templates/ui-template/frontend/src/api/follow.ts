import { sleep } from '../shared/time';
import { ApiFailure, explain } from './failure';
import type { HttpClient } from './http';
import { fetchRun, isFinal, openEvents, type RunDocument } from './runs';
import { readEvents, type ServerEvent } from './sse';

export type Link = { via: 'events' } | { via: 'polling'; why: string } | { via: 'lost'; why: string };

export interface FollowHooks {
  signal: AbortSignal;
  onStatus(status: string, waitingFor: string | null): void;
  onProgress(percent: number, message: string): void;
  onLog(line: string): void;
  onLink(link: Link): void;
  /** Resolves when the user has signed in again. */
  untilSignedIn(signal: AbortSignal): Promise<void>;
}

const SILENCE_MS = 45_000;
const POLL_MS = 1500;
const RECONNECT_MS = 1000;
const BARREN_STREAMS_BEFORE_POLLING = 3;

/**
 * Stays with a run until it is final, whatever happens to the connection: live events first, resumed where they
 * broke off; polling when events are not to be had; a pause while the user signs in again.
 */
export async function followRun(client: HttpClient, runId: string, hooks: FollowHooks): Promise<RunDocument> {
  let lastId: string | undefined;
  let barren = 0;
  let polling: string | null = null;
  for (;;) {
    try {
      if (polling === null) {
        const seen = await listen(client, runId, lastId, hooks);
        lastId = seen.lastId ?? lastId;
        barren = seen.count > 0 ? 0 : barren + 1;
        if (barren >= BARREN_STREAMS_BEFORE_POLLING) polling = 'The live connection keeps closing.';
      } else {
        hooks.onLink({ via: 'polling', why: polling });
        await sleep(POLL_MS, hooks.signal);
      }
      const run = await fetchRun(client, runId, hooks.signal);
      report(run, hooks);
      if (isFinal(run.status)) return run;
      if (polling === null && barren > 0) await sleep(RECONNECT_MS, hooks.signal);
    } catch (error) {
      hooks.signal.throwIfAborted();
      if (error instanceof NoEvents) polling = error.message;
      else if (error instanceof ApiFailure && error.status === 401) await hooks.untilSignedIn(hooks.signal);
      else if (error instanceof ApiFailure && error.transient) {
        hooks.onLink({ via: 'lost', why: explain(error) });
        await sleep(RECONNECT_MS, hooks.signal);
      } else throw error;
    }
  }
}

class NoEvents extends Error {}

async function listen(client: HttpClient, runId: string, lastId: string | undefined, hooks: FollowHooks) {
  const silence = new AbortController();
  const signal = AbortSignal.any([hooks.signal, silence.signal]);
  let timer = setTimeout(() => silence.abort(), SILENCE_MS);
  const seen = { lastId, count: 0 };
  try {
    const response = await openEvents(client, runId, lastId, signal).catch((error: unknown) => {
      if (error instanceof ApiFailure && [404, 405, 406, 501].includes(error.status ?? 0)) {
        throw new NoEvents('This server does not send live events.');
      }
      throw error;
    });
    if (!response.body || !response.headers.get('Content-Type')?.includes('text/event-stream')) {
      throw new NoEvents('This server does not send live events.');
    }
    hooks.onLink({ via: 'events' });
    for await (const event of readEvents(response.body)) {
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), SILENCE_MS);
      seen.lastId = event.id ?? seen.lastId;
      seen.count += 1;
      if (event.event === 'end') break;
      relay(event, hooks);
    }
  } catch (error) {
    hooks.signal.throwIfAborted();
    if (error instanceof ApiFailure || error instanceof NoEvents) throw error;
    hooks.onLink({ via: 'lost', why: 'The live connection broke off.' });
  } finally {
    clearTimeout(timer);
  }
  return seen;
}

function relay({ event, data }: ServerEvent, hooks: FollowHooks): void {
  const fields = (typeof data === 'object' && data !== null ? data : {}) as Record<string, unknown>;
  if (event === 'state' && typeof fields.status === 'string') {
    hooks.onStatus(fields.status, typeof fields.waitingFor === 'string' ? fields.waitingFor : null);
  }
  if (event === 'progress' && typeof fields.percent === 'number') {
    hooks.onProgress(fields.percent, typeof fields.message === 'string' ? fields.message : '');
  }
  if (event === 'log' && typeof fields.message === 'string') hooks.onLog(fields.message);
}

function report(run: RunDocument, hooks: FollowHooks): void {
  hooks.onStatus(run.status, run.waitingFor ?? null);
  if (typeof run.progress?.percent === 'number') hooks.onProgress(run.progress.percent, run.progress.message ?? '');
}
