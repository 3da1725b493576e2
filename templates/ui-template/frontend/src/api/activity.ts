import { createStore, type Store } from '../shared/store';

/** One call as the user may see it: what was asked, how it went, what happens next. */
export interface Activity {
  id: number;
  method: string;
  path: string;
  startedAt: number;
  attempt: number;
  state: 'pending' | 'retrying' | 'ok' | 'failed' | 'stopped';
  outcome?: string;
  elapsedMs?: number;
  /** While retrying: why, when the next attempt starts, and how to hurry or stop it. */
  retry?: { reason: string; at: number; now: () => void; stop: () => void };
}

const KEPT = 50;

export class ActivityLog {
  readonly entries: Store<Activity[]> = createStore<Activity[]>([]);
  private counter = 0;

  begin(method: string, path: string): number {
    const id = ++this.counter;
    const entry: Activity = { id, method, path, startedAt: Date.now(), attempt: 1, state: 'pending' };
    this.entries.update((entries) => [entry, ...entries].slice(0, KEPT));
    return id;
  }

  change(id: number, change: Partial<Activity>): void {
    this.entries.update((entries) => entries.map((entry) => (entry.id === id ? { ...entry, ...change } : entry)));
  }

  finish(id: number, state: 'ok' | 'failed' | 'stopped', outcome: string): void {
    const started = this.entries.get().find((entry) => entry.id === id)?.startedAt ?? Date.now();
    this.change(id, { state, outcome, elapsedMs: Date.now() - started, retry: undefined });
  }
}
