import { ApiFailure, explain, failureFrom } from '../api/failure';
import type { Credentials } from '../api/http';
import { createStore, type Store } from '../shared/store';

/**
 * Who is signed in, and for how long. Tokens live in memory only: a reload signs out, and nothing on disk can leak.
 *
 * - `open`: no credential; a devkit behind the dev server's proxy, or none needed.
 * - `key`: an API key, which does not expire.
 * - `bearer`: a login with an expiry; renewed shortly before it while the user is active.
 * - `ending`: expiry is near and nothing has renewed it yet.
 * - `expired`: the server no longer accepts the credential; the page keeps its state and asks to sign in again.
 */
export type SessionState =
  | { phase: 'open' }
  | { phase: 'key' }
  | { phase: 'bearer'; email: string; expiresAt: number }
  | { phase: 'ending'; email: string; expiresAt: number; why: string }
  | { phase: 'expired'; email: string; why: string };

interface Tokens {
  access: string;
  refresh: string | null;
  lifetimeMs: number;
}

const AUTH_TIMEOUT_MS = 15_000;
const LONGEST_LEAD_MS = 120_000;

/** How long before expiry the session is renewed: two minutes, or a quarter of a short session. */
export const leadMs = (lifetimeMs: number): number => Math.min(LONGEST_LEAD_MS, lifetimeMs / 4);

export class Session implements Credentials {
  readonly state: Store<SessionState> = createStore<SessionState>({ phase: 'open' });
  private readonly baseUrl: string;
  private secret: { key: string } | { tokens: Tokens; email: string } | null = null;
  private active = true;
  private timers: Array<ReturnType<typeof setTimeout>> = [];
  private renewal: Promise<boolean> | null = null;

  constructor(baseUrl = '') {
    this.baseUrl = baseUrl;
  }

  headers(): Record<string, string> {
    if (!this.secret) return {};
    return 'key' in this.secret
      ? { 'X-API-Key': this.secret.key }
      : { Authorization: `Bearer ${this.secret.tokens.access}` };
  }

  /** The user did something; a session in use is renewed without asking. */
  touch(): void {
    this.active = true;
  }

  useKey(key: string): void {
    this.clearTimers();
    this.secret = { key };
    this.state.set({ phase: 'key' });
  }

  async signIn(email: string, password: string): Promise<void> {
    this.accept(email, await this.ask('/v1/auth/login', { email, password }));
  }

  /** Renew before expiry or after a refusal; calls that arrive together share one attempt. */
  renew(): Promise<boolean> {
    this.renewal ??= this.tryRenew().finally(() => (this.renewal = null));
    return this.renewal;
  }

  async signOut(): Promise<void> {
    const secret = this.secret;
    const headers = this.headers();
    this.clearTimers();
    this.secret = null;
    this.state.set({ phase: 'open' });
    if (secret && 'tokens' in secret) {
      const body = secret.tokens.refresh ? { refresh_token: secret.tokens.refresh } : {};
      await this.post('/v1/auth/logout', body, headers).catch(() => undefined);
    }
  }

  untilSignedIn(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const settled = () => this.state.get().phase !== 'expired';
      if (settled()) return resolve();
      const stop = this.state.subscribe(() => {
        if (!settled()) return;
        stop();
        resolve();
      });
      signal.addEventListener('abort', () => (stop(), reject(signal.reason)), { once: true });
    });
  }

  private async tryRenew(): Promise<boolean> {
    const secret = this.secret;
    if (!secret) return this.state.get().phase === 'expired' ? false : this.expire('', 'The server asks for a sign-in.');
    if ('key' in secret) return this.expire('', 'The server does not accept this API key.');
    if (!secret.tokens.refresh) return this.expire(secret.email, 'Your session has ended.');
    try {
      const refreshed = await this.ask('/v1/auth/refresh', { refresh_token: secret.tokens.refresh });
      this.accept(secret.email, { ...refreshed, refresh: refreshed.refresh ?? secret.tokens.refresh });
      return true;
    } catch (error) {
      const refused = error instanceof ApiFailure && !error.transient;
      if (refused) return this.expire(secret.email, 'Your session has ended.');
      this.warn(explain(error));
      return false;
    }
  }

  private accept(email: string, tokens: Tokens): void {
    this.clearTimers();
    this.secret = { tokens, email };
    const expiresAt = Date.now() + tokens.lifetimeMs;
    this.state.set({ phase: 'bearer', email, expiresAt });
    this.active = false;
    this.timers = [
      setTimeout(() => this.nearEnd(), tokens.lifetimeMs - leadMs(tokens.lifetimeMs)),
      setTimeout(() => this.expire(email, 'Your session has ended.'), tokens.lifetimeMs),
    ];
  }

  private nearEnd(): void {
    if (this.active) void this.renew();
    else this.warn('You have been away for a while.');
  }

  private warn(why: string): void {
    const state = this.state.get();
    if (state.phase !== 'bearer' && state.phase !== 'ending') return;
    this.state.set({ phase: 'ending', email: state.email, expiresAt: state.expiresAt, why });
  }

  private expire(email: string, why: string): false {
    this.clearTimers();
    this.secret = null;
    this.state.set({ phase: 'expired', email, why });
    return false;
  }

  private clearTimers(): void {
    for (const timer of this.timers) clearTimeout(timer);
    this.timers = [];
  }

  private async ask(path: string, body: object): Promise<Tokens> {
    const answer = (await this.post(path, body, {})) as Record<string, unknown>;
    const fields = (answer.success === true && typeof answer.data === 'object' ? answer.data : answer) as Record<string, unknown>;
    const access = fields.id_token ?? fields.access_token;
    if (typeof fields.challenge === 'string') {
      throw new Error(`This account needs another step to sign in (${fields.challenge}). Use an API key here instead.`);
    }
    if (typeof access !== 'string') throw new ApiFailure('malformed', 'The server’s answer holds no token.');
    return {
      access,
      refresh: typeof fields.refresh_token === 'string' ? fields.refresh_token : null,
      lifetimeMs: (typeof fields.expires_in === 'number' ? fields.expires_in : 3600) * 1000,
    };
  }

  private async post(path: string, body: object, headers: Record<string, string>): Promise<unknown> {
    let response: Response;
    try {
      response = await fetch(this.baseUrl + path, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json', Accept: 'application/json', ...headers },
        body: JSON.stringify(body),
        signal: AbortSignal.timeout(AUTH_TIMEOUT_MS),
      });
    } catch (error) {
      const timedOut = error instanceof DOMException && error.name === 'TimeoutError';
      throw timedOut
        ? new ApiFailure('timeout', 'Signing in took too long.')
        : new ApiFailure('network', 'The server cannot be reached.');
    }
    if (!response.ok) throw await failureFrom(response);
    return response.json();
  }
}
