import { act, renderHook } from '@testing-library/react';
import { expect, it } from 'vitest';
import { followRun } from '../src/api/follow';
import type { HttpClient } from '../src/api/http';
import type { Outcome, RunHooks, Runner } from '../src/run/runners';
import { useRun } from '../src/run/useRun';

const WAITS = 'waits for a backend: attach with the token';

it('says what a run waits for, and that it no longer does', async () => {
  let hooks: RunHooks | undefined;
  let end: (outcome: Outcome) => void = () => undefined;
  const runner: Runner = {
    name: 'test',
    run: (_, given) => {
      hooks = given;
      return new Promise((ended) => (end = ended));
    },
  };
  const { result } = renderHook(() => useRun(runner, () => undefined));
  let ended: Promise<unknown> = Promise.resolve();
  act(() => void (ended = result.current.start({})));
  act(() => hooks?.onStarted('run-1'));
  expect(result.current.state.message).toBe('Waiting to start');
  act(() => hooks?.onStatus('queued', WAITS));
  expect(result.current.state.message).toBe(`The run ${WAITS}.`);
  act(() => hooks?.onStatus('running', null));
  expect(result.current.state.message).toBe('Running');
  act(() => hooks?.onProgress(40, 'Scoring'));
  act(() => hooks?.onStatus('running', null));
  expect(result.current.state.message).toBe('Scoring');
  await act(async () => {
    end({ kind: 'cancelled' });
    await ended;
  });
});

it('hands on what a run waits for, from the live events and from the run itself', async () => {
  const event = `event: state\nid: 0\ndata: {"status":"queued","waitingFor":"${WAITS}"}\n\nevent: end\nid: 0\ndata: {}\n\n`;
  const runs = [
    { runId: 'run-1', status: 'queued', waitingFor: WAITS },
    { runId: 'run-1', status: 'completed', waitingFor: null },
  ];
  const client = {
    open: () => Promise.resolve(new Response(event, { headers: { 'Content-Type': 'text/event-stream' } })),
    json: () => Promise.resolve(runs.shift()),
  } as unknown as HttpClient;
  const seen: Array<[string, string | null]> = [];
  await followRun(client, 'run-1', {
    signal: new AbortController().signal,
    onStatus: (status, waitingFor) => seen.push([status, waitingFor]),
    onProgress: () => undefined,
    onLog: () => undefined,
    onLink: () => undefined,
    untilSignedIn: () => Promise.resolve(),
  });
  expect(seen).toEqual([
    ['queued', WAITS],
    ['queued', WAITS],
    ['queued', WAITS],
    ['completed', null],
  ]);
});
