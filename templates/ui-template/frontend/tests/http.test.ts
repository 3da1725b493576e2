import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ApiFailure } from '../src/api/failure';
import manifest from '../../manifest.json';
import { HttpClient } from '../src/api/http';
import { executeOnce } from '../src/api/runs';
import { waitBefore } from '../src/api/retry';
import { parseBlock, readEvents } from '../src/api/sse';

const answer = (status: number, body: unknown = {}, headers = {}) => new Response(JSON.stringify(body), { status, headers });
let fetched: ReturnType<typeof vi.fn<typeof fetch>>;
let client: HttpClient;
const renew = vi.fn(() => Promise.resolve(false));

beforeEach(() => {
  vi.useFakeTimers();
  fetched = vi.fn<typeof fetch>();
  vi.stubGlobal('fetch', fetched);
  renew.mockReset().mockResolvedValue(false);
  client = new HttpClient({ headers: () => ({ 'X-API-Key': 'k' }), renew });
});
afterEach(() => vi.clearAllTimers());

/** Lets retries and timeouts happen, then gives the result or the failure. */
async function settle<T>(promise: Promise<T>): Promise<T | ApiFailure> {
  const settled = promise.catch((error: ApiFailure) => error);
  await vi.runAllTimersAsync();
  return settled;
}

it('asks a preview server for this very module', async () => {
  fetched.mockResolvedValueOnce(answer(200, { status: 'success', results: {} }));
  await executeOnce(client, { n: 1 });
  expect(JSON.parse(fetched.mock.calls[0]?.[1]?.body as string)).toEqual({ input: { n: 1 }, module: manifest.name });
});

describe('retry', () => {
  it('repeats a safe call and says so while it waits', async () => {
    fetched.mockResolvedValueOnce(answer(503, { error: { message: 'Restarting.' } })).mockResolvedValueOnce(answer(200, { fine: true }));
    const result = client.json('GET', '/x').catch((error: unknown) => error);
    await vi.advanceTimersByTimeAsync(0);
    const [entry] = client.activity.entries.get();
    expect(entry).toMatchObject({ state: 'retrying', attempt: 2, retry: { reason: 'Restarting. (status 503)' } });
    await vi.runAllTimersAsync();
    expect(await result).toEqual({ fine: true });
    expect(client.activity.entries.get()[0]).toMatchObject({ state: 'ok', attempt: 2 });
  });

  it('stops after four attempts', async () => {
    fetched.mockImplementation(() => Promise.resolve(answer(500)));
    expect(await settle(client.json('GET', '/x'))).toBeInstanceOf(ApiFailure);
    expect(fetched).toHaveBeenCalledTimes(4);
  });

  it.each([['POST', 503], ['GET', 404], ['GET', 422], ['GET', 501]])('does not repeat %s after %i', async (method, status) => {
    fetched.mockImplementation(() => Promise.resolve(answer(status)));
    await settle(client.json(method, '/x'));
    expect(fetched).toHaveBeenCalledTimes(1);
  });

  it('can be hurried and can be stopped', async () => {
    fetched.mockImplementation(() => Promise.resolve(answer(503)));
    const result = client.json('GET', '/x').catch((error: unknown) => error);
    await vi.advanceTimersByTimeAsync(0);
    client.activity.entries.get()[0]?.retry?.now();
    await vi.advanceTimersByTimeAsync(0);
    expect(fetched).toHaveBeenCalledTimes(2);
    client.activity.entries.get()[0]?.retry?.stop();
    await vi.advanceTimersByTimeAsync(0);
    expect(await result).toBeInstanceOf(ApiFailure);
    expect(fetched).toHaveBeenCalledTimes(2);
  });

  it('waits longer each time, less than the ceiling, and as long as the server asks', () => {
    const failure = new ApiFailure('http', '', { status: 503 });
    expect([1, 2, 3].map((attempt) => waitBefore(attempt, failure, () => 1))).toEqual([1000, 2000, 4000]);
    expect(waitBefore(9, failure, () => 1)).toBe(8000);
    expect(waitBefore(1, new ApiFailure('http', '', { status: 429, retryAfterMs: 3000 }))).toBe(3000);
  });
});

describe('timeouts', () => {
  const stall: typeof fetch = (_url, init) =>
    new Promise((_, reject) => init?.signal?.addEventListener('abort', () => reject(init.signal?.reason as Error)));

  it('gives up on a server that does not answer', async () => {
    fetched.mockImplementation(stall);
    expect(await settle(client.json('POST', '/x', { timeoutMs: 2000 }))).toMatchObject({ kind: 'timeout', message: 'No answer within 2 s.' });
  });

  it('leaves at once when the caller gives up', async () => {
    fetched.mockImplementation(stall);
    const abort = new AbortController();
    const result = client.json('GET', '/x', { signal: abort.signal }).catch((error: unknown) => error);
    abort.abort(new Error('left'));
    expect(await result).toMatchObject({ message: 'left' });
    expect(fetched).toHaveBeenCalledTimes(1);
  });
});

describe('answers', () => {
  it('renews a refused credential once and sends the call again', async () => {
    renew.mockResolvedValue(true);
    fetched.mockResolvedValueOnce(answer(401)).mockResolvedValueOnce(answer(200, { success: true, data: 7 }));
    expect(await settle(client.json('POST', '/x'))).toBe(7);
    expect(renew).toHaveBeenCalledTimes(1);
  });

  it('carries the server’s code, hint, reference and field errors', async () => {
    const error = { code: 'INPUT_INVALID', message: 'No.', hint: 'Try.', docs: '/docs', details: { errors: [{ path: '/a', message: 'b' }] } };
    fetched.mockResolvedValue(answer(422, { success: false, error, correlation_id: 'c-1' }));
    expect(await settle(client.json('POST', '/x'))).toMatchObject({
      status: 422,
      details: { code: 'INPUT_INVALID', hint: 'Try.', docs: '/docs', correlationId: 'c-1', fieldErrors: [{ path: '/a', message: 'b' }] },
    });
  });

  it('keeps a run result whole', async () => {
    const envelope = { success: true, runId: 'r', data: { status: 'success' } };
    fetched.mockResolvedValue(answer(200, envelope));
    expect(await settle(client.json('GET', '/x'))).toEqual(envelope);
  });

  it('names a network failure in plain words', async () => {
    fetched.mockRejectedValue(new TypeError('fetch failed'));
    expect(await settle(client.json('POST', '/x'))).toMatchObject({ kind: 'network', message: 'The server cannot be reached.' });
  });
});

describe('server-sent events', () => {
  it('reads fields, joins data, passes over comments', () => {
    expect(parseBlock('id: 7\nevent: log\ndata: {"a":\ndata: 1}')).toEqual({ id: '7', event: 'log', data: { a: 1 } });
    expect(parseBlock(': keep-alive')).toBeNull();
  });

  it('puts events together across chunks', async () => {
    const chunks = ['event: progress\nda', 'ta: {"percent": 5}\n', '\nevent: end\ndata: {}\n\n'];
    const body = new ReadableStream<Uint8Array>({
      pull: (controller) => {
        const chunk = chunks.shift();
        if (chunk === undefined) controller.close();
        else controller.enqueue(new TextEncoder().encode(chunk));
      },
    });
    const events = [];
    for await (const event of readEvents(body)) events.push(event);
    expect(events.map((event) => event.event)).toEqual(['progress', 'end']);
  });
});
