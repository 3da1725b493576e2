import { Button, Progress } from 'antd';
import { Notice } from '../shared/Notice';
import type { RunProblem } from './runners';
import type { RunControls, RunState } from './useRun';

/** Where the run stands: progress and log while it works, what happened when it has ended. */
export function RunStatus({ run, canCancel, onShowResults }: { run: RunControls; canCancel: boolean; onShowResults(): void }) {
  const { state } = run;
  switch (state.phase) {
    case 'idle':
      return null;
    case 'working':
    case 'cancelling':
      return <Working state={state} onCancel={canCancel ? run.cancel : undefined} />;
    case 'completed':
      return (
        <Notice
          tone="success"
          title="Run completed"
          actions={
            <Button type="primary" size="small" onClick={onShowResults}>
              Show the results
            </Button>
          }
        >
          {state.runId && <RunId id={state.runId} />}
        </Notice>
      );
    case 'cancelled':
      return (
        <Notice tone="info" title="Run cancelled">
          <p>Nothing was kept of it. Your input is still here.</p>
        </Notice>
      );
    case 'failed':
      return state.problem && <Failed problem={state.problem} runId={state.runId} />;
  }
}

function Working({ state, onCancel }: { state: RunState; onCancel: (() => void) | undefined }) {
  const cancelling = state.phase === 'cancelling';
  const percent = state.percent ?? 0;
  const text = state.percent === null ? state.message : `${Math.round(percent)} %: ${state.message}`;
  return (
    <section className="m-notice m-notice-info" aria-labelledby="run-working">
      <h3 id="run-working">{cancelling ? 'Cancelling the run' : 'Running'}</h3>
      <Progress
        percent={Math.round(percent)}
        showInfo={false}
        status={cancelling ? 'exception' : 'active'}
        aria-label="Progress of the run"
        aria-valuetext={text}
      />
      <p>{text}</p>
      <LinkLine state={state} />
      {onCancel && (
        <Button onClick={onCancel} disabled={cancelling} danger>
          {cancelling ? 'Cancelling…' : 'Cancel the run'}
        </Button>
      )}
      {state.runId && <RunId id={state.runId} />}
      {state.log.length > 0 && (
        <details>
          <summary>Log ({state.log.length} lines)</summary>
          <pre className="m-log" tabIndex={0} aria-label="Log of the run">
            {state.log.join('\n')}
          </pre>
        </details>
      )}
    </section>
  );
}

function LinkLine({ state: { link } }: { state: RunState }) {
  if (link?.via === 'lost') return <p className="m-warning-text">Connection lost: {link.why} Reconnecting to see how the run stands.</p>;
  if (link?.via === 'polling') return <p className="m-muted">{link.why} Asking for news every few seconds instead.</p>;
  return null;
}

function Failed({ problem, runId }: { problem: RunProblem; runId: string | null }) {
  return (
    <Notice tone="danger" title={problem.title}>
      <p>{problem.message}</p>
      {problem.hint && <p>{problem.hint}</p>}
      {problem.docs && (
        <p>
          <a href={problem.docs}>More about this error</a>
        </p>
      )}
      {(problem.code || problem.correlationId) && (
        <p className="m-muted">
          {problem.code && <code>{problem.code}</code>} {problem.correlationId && <>Reference {problem.correlationId}</>}
        </p>
      )}
      {runId && <RunId id={runId} />}
    </Notice>
  );
}

function RunId({ id }: { id: string }) {
  return (
    <p className="m-muted">
      Run <code>{id}</code>
    </p>
  );
}
