import { useCallback, useRef, useState } from 'react';
import { explain } from '../api/failure';
import type { Link } from '../api/follow';
import { useAnnounce } from '../shared/Announcer';
import { problemFrom, type Outcome, type Runner, type RunProblem } from './runners';

export type Phase = 'idle' | 'working' | 'cancelling' | 'completed' | 'cancelled' | 'failed';

export interface RunState {
  phase: Phase;
  runId: string | null;
  percent: number | null;
  message: string;
  link: Link | null;
  log: string[];
  problem: RunProblem | null;
}

const IDLE: RunState = { phase: 'idle', runId: null, percent: null, message: '', link: null, log: [], problem: null };
const LOG_LINES_KEPT = 200;
const ANNOUNCED_EVERY_PERCENT = 25;

export interface RunControls {
  state: RunState;
  start(parameters: unknown): Promise<Outcome | null>;
  cancel(): Promise<void>;
}

/** Holds the run on this page: one at a time, its progress, its end. */
export function useRun(runner: Runner, onAlive: () => void): RunControls {
  const [state, setState] = useState<RunState>(IDLE);
  const current = useRef<{ abort: AbortController; runId: string | null } | null>(null);
  const announce = useAnnounce();

  const start = useCallback(
    async (parameters: unknown): Promise<Outcome | null> => {
      if (current.current) return null;
      const mine = { abort: new AbortController(), runId: null as string | null };
      current.current = mine;
      let announced = 0;
      const change = (next: Partial<RunState>) => setState((before) => ({ ...before, ...next }));
      setState({ ...IDLE, phase: 'working', message: 'Starting' });
      announce('Run started.');
      const outcome = await runner
        .run(parameters, {
          signal: mine.abort.signal,
          onStarted: (runId) => {
            mine.runId = runId;
            change({ runId, message: 'Waiting to start' });
          },
          onStatus: (status, waitingFor) => {
            if (status === 'cancel_requested') change({ phase: 'cancelling' });
            if (waitingFor !== null) change({ message: `The run ${waitingFor}.` });
            else if (status === 'running') setState((before) => (before.percent === null ? { ...before, message: 'Running' } : before));
          },
          onProgress: (percent, message) => {
            onAlive();
            change({ percent, message });
            if (percent < announced + ANNOUNCED_EVERY_PERCENT) return;
            announced = percent;
            announce(`${Math.round(percent)} per cent. ${message}`);
          },
          onLog: (line) => setState((before) => ({ ...before, log: [...before.log, line].slice(-LOG_LINES_KEPT) })),
          onLink: (link) => change({ link }),
        })
        .catch((error: unknown): Outcome =>
          mine.abort.signal.aborted ? { kind: 'cancelled' } : { kind: 'failed', problem: problemFrom(error) },
        );
      current.current = null;
      change({ phase: outcome.kind, link: null, problem: outcome.kind === 'failed' ? outcome.problem : null });
      announce(ENDINGS[outcome.kind], outcome.kind === 'failed' ? 'assertive' : 'polite');
      return outcome;
    },
    [runner, onAlive, announce],
  );

  const cancel = useCallback(async () => {
    const mine = current.current;
    if (!mine) return;
    setState((before) => ({ ...before, phase: 'cancelling' }));
    announce('Cancelling.');
    if (!mine.runId || !runner.cancel) return mine.abort.abort();
    try {
      await runner.cancel(mine.runId);
    } catch (error) {
      setState((before) => ({ ...before, phase: 'working', message: `Cancelling did not work: ${explain(error)}` }));
      announce('Cancelling did not work.', 'assertive');
    }
  }, [runner, announce]);

  return { state, start, cancel };
}

const ENDINGS: Record<Outcome['kind'], string> = {
  completed: 'Run completed. The results are ready.',
  cancelled: 'Run cancelled.',
  failed: 'The run failed.',
};
