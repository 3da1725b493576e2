import type { ServerFieldError } from '../api/failure';
import { ApiFailure, explain } from '../api/failure';
import { followRun, type Link } from '../api/follow';
import type { HttpClient } from '../api/http';
import { cancelRun, executeOnce, fetchOutput, resolveModuleId, startRun, type ModuleOutput } from '../api/runs';
import type { ModuleProps } from '../host';
import type { Session } from '../session/session';

/** What went wrong, ready to be shown. */
export interface RunProblem {
  title: string;
  message: string;
  hint?: string;
  docs?: string;
  code?: string;
  correlationId?: string;
  fieldErrors?: ServerFieldError[];
}

export type Outcome =
  | { kind: 'completed'; results: unknown }
  | { kind: 'cancelled' }
  | { kind: 'failed'; problem: RunProblem };

export interface RunHooks {
  signal: AbortSignal;
  onStarted(runId: string): void;
  onStatus(status: string, waitingFor: string | null): void;
  onProgress(percent: number, message: string): void;
  onLog(line: string): void;
  onLink(link: Link): void;
}

/** One way to execute the module. */
export interface Runner {
  readonly name: string;
  run(parameters: unknown, hooks: RunHooks): Promise<Outcome>;
  /** Absent where only the host can cancel. */
  cancel?(runId: string): Promise<void>;
}

/** The platform's page runs the module; it owns admission, cost and cancelling. */
export function hostRunner(onExecute: NonNullable<ModuleProps['onExecute']>): Runner {
  return {
    name: 'the platform',
    run: async (parameters) => {
      const answer = await onExecute(parameters);
      if (answer === null || answer.status === 'cancelled') return { kind: 'cancelled' };
      return outcomeOf(answer);
    },
  };
}

/** A devkit runs the module: started once, followed to its end. */
export function devkitRunner(client: HttpClient, session: Session): Runner {
  return {
    name: 'the devkit',
    run: async (parameters, hooks) => {
      const moduleId = await resolveModuleId(client, hooks.signal);
      const runId = await startRun(client, moduleId, parameters, hooks.signal);
      hooks.onStarted(runId);
      const run = await followRun(client, runId, { ...hooks, untilSignedIn: (signal) => session.untilSignedIn(signal) });
      if (run.status === 'completed') return outcomeOf(await fetchOutput(client, runId, hooks.signal));
      if (run.status === 'cancelled') return { kind: 'cancelled' };
      const title = run.status === 'timed_out' ? 'The run took longer than it may' : 'The run failed';
      const message = run.error?.message ?? 'The server gave no reason.';
      const hint = run.error?.code === 'RUN_INTERRUPTED' ? 'Your input is kept; press Run to start it again.' : undefined;
      return { kind: 'failed', problem: { title, message, hint, code: run.error?.code } };
    },
    cancel: (runId) => cancelRun(client, runId),
  };
}

/** A plain preview server: one call, one answer. */
export function previewRunner(client: HttpClient): Runner {
  return {
    name: 'the preview server',
    run: async (parameters, hooks) => outcomeOf(await executeOnce(client, parameters, hooks.signal)),
  };
}

function outcomeOf(output: ModuleOutput): Outcome {
  if (output.status === 'success') return { kind: 'completed', results: output.results };
  const message = output.error?.message ?? 'The module gave no reason.';
  return { kind: 'failed', problem: { title: 'The module reported an error', message, code: output.error?.type } };
}

/** Any thrown error as a problem; a call that was not repeated says so, because the reader may repeat it. */
export function problemFrom(error: unknown): RunProblem {
  if (!(error instanceof ApiFailure)) return { title: 'The run could not be started', message: explain(error) };
  const { details } = error;
  const common = { code: details.code, docs: details.docs, correlationId: details.correlationId, fieldErrors: details.fieldErrors };
  if (error.status === 401) {
    return { ...common, title: 'Sign in to run', message: error.message, hint: 'Your input is kept. Sign in above and press Run again.' };
  }
  if (error.status === 422) {
    // The server's hint speaks to people who write requests; whoever fills in a form is told where to look.
    const hint = details.fieldErrors?.length ? 'What to change is marked in the form.' : details.hint;
    return { ...common, title: 'The server did not accept the input', message: error.message, hint };
  }
  const hint = error.transient
    ? 'Starting a run is not repeated on its own, because it might then run twice. Your input is kept; press Run to try again.'
    : details.hint;
  return { ...common, title: 'The run did not get through', message: explain(error), hint };
}
