import { useCallback, useEffect, useMemo, useRef, useState } from 'react';
import type { ServerFieldError } from '../api/failure';
import { inputSchema, moduleName } from '../manifest';
import { fromServer, none, place, type Placed } from './problems';
import { check } from './rules';
import { fieldsOf, type Field, type FieldValue, type FormValues } from './schema';
import { toParameters, toValues } from './values';

export interface FormControls {
  fields: Field[];
  values: FormValues;
  problems: Placed;
  parameters: Record<string, unknown>;
  set(key: string, value: FieldValue): void;
  replace(values: FormValues): void;
  /** Checks one field when it is left, so that nobody is corrected while still typing. */
  leave(key: string): void;
  /** The parameters to run with, or null after showing what is wrong. */
  validate(): Record<string, unknown> | null;
  showServerProblems(errors: ServerFieldError[]): void;
}

const DRAFT = `${moduleName}.draft`;
const DRAFT_DELAY_MS = 400;

/** The form's state. A draft lives in this browser tab, so signing in again or reloading loses nothing. */
export function useForm(prefill: Record<string, unknown> | undefined, onChange?: (parameters: unknown) => void): FormControls {
  const fields = useMemo(() => fieldsOf(inputSchema), []);
  const [values, setValues] = useState<FormValues>(() => (prefill ? toValues(fields, prefill) : readDraft(fields)));
  const [problems, setProblems] = useState<Placed>(none);
  const parameters = useMemo(() => toParameters(fields, values), [fields, values]);

  useEffect(() => {
    if (prefill) setValues(toValues(fields, prefill));
  }, [fields, prefill]);

  // What was typed last is kept even when the form goes at once, as it does when the session ends.
  const latest = useRef(values);
  latest.current = values;
  useEffect(() => () => keepDraft(latest.current), []);

  useEffect(() => {
    const timer = setTimeout(() => {
      keepDraft(values);
      if (check(parameters, inputSchema).length === 0) onChange?.(parameters);
    }, DRAFT_DELAY_MS);
    return () => clearTimeout(timer);
  }, [values, parameters, onChange]);

  const set = useCallback((key: string, value: FieldValue) => {
    setValues((before) => ({ ...before, [key]: value }));
    setProblems((before) => ({ ...before, fields: without(before.fields, key) }));
  }, []);

  const replace = useCallback((next: FormValues) => {
    setValues(next);
    setProblems(none);
  }, []);

  const leave = useCallback(
    (key: string) => {
      const schema = inputSchema.properties[key];
      const value = parameters[key];
      const empty = value === undefined || value === '' || (Array.isArray(value) && value.length === 0);
      if (!schema || empty) return;
      const found = place(check(value, schema, `/${key}`), fields, values).fields[key];
      setProblems((before) => ({ ...before, fields: { ...without(before.fields, key), ...(found ? { [key]: found } : {}) } }));
    },
    [fields, parameters, values],
  );

  const validate = useCallback(() => {
    const found = check(parameters, inputSchema);
    setProblems(place(found, fields, values));
    return found.length === 0 ? parameters : null;
  }, [fields, parameters, values]);

  const showServerProblems = useCallback(
    (errors: ServerFieldError[]) => setProblems(place(fromServer(errors), fields, values)),
    [fields, values],
  );

  return { fields, values, problems, parameters, set, replace, leave, validate, showServerProblems };
}

function without<T>(record: Record<string, T>, key: string): Record<string, T> {
  const { [key]: _, ...rest } = record;
  return rest;
}

function keepDraft(values: FormValues): void {
  sessionStorage.setItem(DRAFT, JSON.stringify(values));
}

function readDraft(fields: Field[]): FormValues {
  const fresh = toValues(fields);
  try {
    const draft = JSON.parse(sessionStorage.getItem(DRAFT) ?? '{}') as FormValues;
    return { ...fresh, ...Object.fromEntries(Object.entries(draft).filter(([key]) => key in fresh)) };
  } catch {
    return fresh;
  }
}
