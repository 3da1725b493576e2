import { formatLines, parseLines } from './lines';
import type { Field, FieldValue, FormValues } from './schema';

/** Between parameters (what a run receives) and values (what the controls hold). */

export function toValues(fields: Field[], parameters: Record<string, unknown> = {}): FormValues {
  return Object.fromEntries(
    fields.map((field) => [field.key, toValue(field, parameters[field.key] ?? field.schema.default)]),
  );
}

function toValue(field: Field, given: unknown): FieldValue {
  switch (field.kind) {
    case 'lines':
      return typeof given === 'string' ? given : formatLines(given, field.schema.items);
    case 'choices':
      return Array.isArray(given) ? given.filter((item): item is string => typeof item === 'string') : [];
    case 'number':
      return typeof given === 'number' ? given : null;
    case 'flag':
      return given === true;
    default:
      return typeof given === 'string' ? given : '';
  }
}

/** The manifest's own examples, for "fill in the example". */
export function exampleValues(fields: Field[]): FormValues {
  return toValues(
    fields,
    Object.fromEntries(fields.map((field) => [field.key, field.schema.examples?.[0] ?? field.schema.default])),
  );
}

/** Empty optional inputs are left out, so the module's own defaults apply. */
export function toParameters(fields: Field[], values: FormValues): Record<string, unknown> {
  const parameters: Record<string, unknown> = {};
  for (const field of fields) {
    const value = values[field.key] ?? null;
    if (field.kind === 'lines') parameters[field.key] = parseLines(String(value ?? ''), field.schema.items).items;
    else if (value !== null && !(value === '' && !field.required)) parameters[field.key] = value;
  }
  return parameters;
}
