import { moduleName } from '../manifest';
import type { HttpClient } from './http';

export interface RunDocument {
  runId: string;
  status: string;
  /** What a run of a module without source waits for, and how it comes. */
  waitingFor?: string | null;
  progress?: { percent?: number; message?: string } | null;
  error?: { code?: string; message?: string } | null;
}

export interface ModuleOutput {
  status: string;
  results?: unknown;
  summary?: unknown;
  error?: { message?: string; type?: string } | null;
}

const FINAL = new Set(['completed', 'failed', 'cancelled', 'timed_out']);
export const isFinal = (status: string): boolean => FINAL.has(status);

const START_TIMEOUT_MS = 30_000;
const PREVIEW_TIMEOUT_MS = 120_000;
const runPath = (runId: string): string => `/v1/module-runs/${encodeURIComponent(runId)}`;

/** The id under which the devkit knows this module; its name when the devkit lists no other. */
export async function resolveModuleId(client: HttpClient, signal?: AbortSignal): Promise<string> {
  const listed = await client.json<{ items?: Array<{ id: string; name?: string }> }>('GET', '/v1/modules?limit=500', {
    signal,
  });
  return listed.items?.find((item) => item.name === moduleName)?.id ?? moduleName;
}

export async function startRun(client: HttpClient, moduleId: string, parameters: unknown, signal?: AbortSignal): Promise<string> {
  const body = { moduleId, parameters, mode: 'async' };
  const run = await client.json<RunDocument>('POST', '/v1/module-runs', { body, signal, timeoutMs: START_TIMEOUT_MS });
  return run.runId;
}

export function fetchRun(client: HttpClient, runId: string, signal?: AbortSignal): Promise<RunDocument> {
  return client.json<RunDocument>('GET', runPath(runId), { signal });
}

export async function fetchOutput(client: HttpClient, runId: string, signal?: AbortSignal): Promise<ModuleOutput> {
  const envelope = await client.json<{ data?: ModuleOutput } & ModuleOutput>('GET', `${runPath(runId)}/result`, { signal });
  return envelope.data ?? envelope;
}

export async function cancelRun(client: HttpClient, runId: string): Promise<void> {
  await client.json('POST', `${runPath(runId)}/cancel`);
}

export function openEvents(client: HttpClient, runId: string, lastId: string | undefined, signal: AbortSignal): Promise<Response> {
  const headers = { Accept: 'text/event-stream', ...(lastId ? { 'Last-Event-ID': lastId } : {}) };
  return client.open('GET', `${runPath(runId)}/events`, { headers, signal });
}

/** The one-call way of a preview server: no run, no progress, just the answer. It may serve more modules than this one. */
export function executeOnce(client: HttpClient, input: unknown, signal?: AbortSignal): Promise<ModuleOutput> {
  return client.json<ModuleOutput>('POST', '/api/execute', { body: { input, module: moduleName }, signal, timeoutMs: PREVIEW_TIMEOUT_MS });
}
