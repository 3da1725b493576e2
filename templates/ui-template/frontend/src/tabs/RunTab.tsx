import { Button, Form } from 'antd';
import { ProblemSummary } from '../form/ProblemSummary';
import { SchemaField } from '../form/SchemaField';
import type { FormControls } from '../form/useForm';
import { exampleValues, toValues } from '../form/values';
import { RunStatus } from '../run/RunStatus';
import type { Runner } from '../run/runners';
import type { RunControls } from '../run/useRun';
import { useSubmit } from '../run/useSubmit';

interface Props {
  form: FormControls;
  run: RunControls;
  runner: Runner;
  onResults(results: unknown): void;
  onShowResults(): void;
}

export function RunTab({ form, run, runner, onResults, onShowResults }: Props) {
  const { submit, refusals } = useSubmit(form, run, onResults);
  const busy = run.state.phase === 'working' || run.state.phase === 'cancelling';
  return (
    <div className="m-run">
      <section className="m-card" aria-labelledby="run-input">
        <div className="m-heading">
          <h2 id="run-input">Input</h2>
          <div className="m-actions">
            <Button size="small" disabled={busy} onClick={() => form.replace(exampleValues(form.fields))}>
              Fill in the example
            </Button>
            <Button size="small" disabled={busy} onClick={() => form.replace(toValues(form.fields))}>
              Clear
            </Button>
          </div>
        </div>
        <ProblemSummary fields={form.fields} problems={form.problems} attempt={refusals} />
        <Form layout="vertical" onFinish={submit} requiredMark>
          {form.fields.map((field) => (
            <SchemaField
              key={field.key}
              field={field}
              value={form.values[field.key] ?? null}
              problems={form.problems.fields[field.key]}
              disabled={busy}
              onChange={(value) => form.set(field.key, value)}
              onLeave={() => form.leave(field.key)}
            />
          ))}
          <Button type="primary" htmlType="submit" loading={busy} size="large">
            {busy ? 'Running' : 'Run'}
          </Button>
        </Form>
      </section>
      <div className="m-status">
        <RunStatus run={run} canCancel={runner.cancel !== undefined} onShowResults={onShowResults} />
        {run.state.phase === 'idle' && (
          <section className="m-card" aria-label="Before the first run">
            <h2>Nothing has run yet</h2>
            <p>Progress, messages and the way to the results appear here. The module is run by {runner.name}.</p>
          </section>
        )}
      </div>
    </div>
  );
}
