import { sleep } from '../shared/time';
import { ActivityLog } from './activity';
import { ApiFailure, explain, failureFrom } from './failure';
import { MAX_ATTEMPTS, mayRetry, waitBefore } from './retry';

export interface Credentials {
  headers(): Record<string, string>;
  /** Called on a 401: true when new credentials are in place and the call may be sent again. */
  renew(): Promise<boolean>;
}

export interface RequestOptions {
  body?: unknown;
  headers?: Record<string, string>;
  timeoutMs?: number;
  signal?: AbortSignal;
}

const DEFAULT_TIMEOUT_MS = 15_000;

export class HttpClient {
  private readonly credentials: Credentials;
  readonly activity: ActivityLog;
  readonly baseUrl: string;

  constructor(credentials: Credentials, activity = new ActivityLog(), baseUrl = '') {
    this.credentials = credentials;
    this.activity = activity;
    this.baseUrl = baseUrl;
  }

  /** The answer's JSON. */
  json<T>(method: string, path: string, options: RequestOptions = {}): Promise<T> {
    return this.request(method, path, options, async (response) => {
      const text = await response.text();
      if (text === '') return undefined as T;
      try {
        return unwrap(JSON.parse(text)) as T;
      } catch {
        throw new ApiFailure('malformed', 'The server answered with something that is not JSON.');
      }
    });
  }

  /** The answer itself, its body still to be read; the timeout covers the time until it begins. */
  open(method: string, path: string, options: RequestOptions = {}): Promise<Response> {
    return this.request(method, path, options, (response) => Promise.resolve(response));
  }

  /** Asks until it succeeds, may not be repeated, or the caller gives up. Every step is in the activity log. */
  async request<T>(method: string, path: string, options: RequestOptions, read: (response: Response) => Promise<T>): Promise<T> {
    const id = this.activity.begin(method, path);
    let renewed = false;
    for (let attempt = 1; ; attempt++) {
      this.activity.change(id, { attempt, state: 'pending', retry: undefined });
      try {
        const answer = await this.once(method, path, options, read);
        this.activity.finish(id, 'ok', 'answered');
        return answer;
      } catch (error) {
        if (options.signal?.aborted) {
          this.activity.finish(id, 'stopped', 'stopped');
          throw options.signal.reason;
        }
        const failure = asFailure(error);
        if (failure.status === 401 && !renewed) {
          renewed = true;
          if (await this.credentials.renew()) continue;
        }
        if (!mayRetry(method, failure, attempt) || !(await this.pause(id, attempt, failure, options.signal))) {
          this.activity.finish(id, 'failed', explain(failure));
          throw failure;
        }
      }
    }
  }

  /** Waits before the next attempt; false when the user chose to stop. */
  private async pause(id: number, attempt: number, failure: ApiFailure, signal?: AbortSignal): Promise<boolean> {
    const waitMs = waitBefore(attempt, failure);
    const skip = new AbortController();
    let stopped = false;
    this.activity.change(id, {
      state: 'retrying',
      attempt: attempt + 1,
      retry: {
        reason: explain(failure),
        at: Date.now() + waitMs,
        now: () => skip.abort(),
        stop: () => {
          stopped = true;
          skip.abort();
        },
      },
    });
    await sleep(waitMs, signal ? AbortSignal.any([signal, skip.signal]) : skip.signal).catch(() => undefined);
    return !stopped && !signal?.aborted;
  }

  private async once<T>(
    method: string,
    path: string,
    options: RequestOptions,
    read: (response: Response) => Promise<T>,
  ): Promise<T> {
    const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
    const deadline = new AbortController();
    const timer = setTimeout(
      () => deadline.abort(new ApiFailure('timeout', `No answer within ${timeoutMs / 1000} s.`)),
      timeoutMs,
    );
    try {
      const response = await fetch(this.baseUrl + path, {
        method,
        headers: {
          Accept: 'application/json',
          ...(options.body === undefined ? {} : { 'Content-Type': 'application/json' }),
          ...this.credentials.headers(),
          ...options.headers,
        },
        body: options.body === undefined ? undefined : JSON.stringify(options.body),
        signal: options.signal ? AbortSignal.any([options.signal, deadline.signal]) : deadline.signal,
      });
      if (!response.ok) throw await failureFrom(response);
      return await read(response);
    } catch (error) {
      throw deadline.signal.aborted ? deadline.signal.reason : error;
    } finally {
      clearTimeout(timer);
    }
  }
}

export const attemptText = (attempt: number): string => `attempt ${attempt} of ${MAX_ATTEMPTS}`;

function asFailure(error: unknown): ApiFailure {
  return error instanceof ApiFailure ? error : new ApiFailure('network', 'The server cannot be reached.');
}

/** `{"success": true, "data": …}` carries its payload in `data`; run results are recognised and left whole. */
function unwrap(body: unknown): unknown {
  if (typeof body !== 'object' || body === null) return body;
  const envelope = body as { success?: unknown; data?: unknown; runId?: unknown };
  return envelope.success === true && 'data' in envelope && !('runId' in envelope) ? envelope.data : body;
}
