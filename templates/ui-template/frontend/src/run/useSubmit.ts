import { useCallback, useState } from 'react';
import type { FormControls } from '../form/useForm';
import type { Outcome } from './runners';
import type { RunControls } from './useRun';

/** Pressing Run: validate, call, update. `refusals` counts submits the form turned down, for moving the focus. */
export function useSubmit(form: FormControls, run: RunControls, onResults: (results: unknown) => void) {
  const [refusals, setRefusals] = useState(0);

  const update = useCallback(
    (outcome: Outcome) => {
      if (outcome.kind === 'completed') return onResults(outcome.results);
      const errors = outcome.kind === 'failed' ? outcome.problem.fieldErrors : undefined;
      if (!errors?.length) return;
      form.showServerProblems(errors);
      setRefusals((before) => before + 1);
    },
    [form, onResults],
  );

  const submit = useCallback(async () => {
    const parameters = form.validate();
    if (!parameters) return setRefusals((before) => before + 1);
    setRefusals(0);
    const outcome = await run.start(parameters);
    if (outcome) update(outcome);
  }, [form, run, update]);

  return { submit, refusals };
}
