import { ApiFailure, explain } from '../api/failure';
import type { HttpClient } from '../api/http';
import { createStore, type Store } from '../shared/store';

/** What stands behind the page when no host does. */
export type ConnectionState =
  | { kind: 'checking' }
  | { kind: 'devkit' }
  | { kind: 'sign-in' }
  | { kind: 'preview' }
  | { kind: 'unreachable'; why: string };

export class Connection {
  readonly state: Store<ConnectionState> = createStore<ConnectionState>({ kind: 'checking' });
  private readonly client: HttpClient;

  constructor(client: HttpClient) {
    this.client = client;
  }

  /** Ask who we are: a devkit answers, a plain preview server does not know the question. */
  async probe(): Promise<void> {
    this.state.set({ kind: 'checking' });
    try {
      await this.client.json('GET', '/v1/auth/me');
      this.state.set({ kind: 'devkit' });
    } catch (error) {
      if (error instanceof ApiFailure && error.status === 401) this.state.set({ kind: 'sign-in' });
      else if (error instanceof ApiFailure && error.status === 404) this.state.set({ kind: 'preview' });
      else this.state.set({ kind: 'unreachable', why: explain(error) });
    }
  }
}
