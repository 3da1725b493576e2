import type { ServerFieldError } from '../api/failure';
import { parseLines } from './lines';
import type { Problem } from './rules';
import type { Field, FormValues } from './schema';

/** Problems by field, and those that belong to none. Client rules and server answers end up in the same place. */
export interface Placed {
  fields: Record<string, Problem[]>;
  elsewhere: Problem[];
}

export const none: Placed = { fields: {}, elsewhere: [] };

export function place(problems: Problem[], fields: Field[], values: FormValues): Placed {
  const placed: Placed = { fields: {}, elsewhere: [] };
  for (const problem of problems) {
    const [key = '', ...inner] = tokens(problem.path);
    const field = fields.find((candidate) => candidate.key === key);
    if (field) (placed.fields[key] ??= []).push({ ...problem, message: inField(problem, field, inner, values) });
    else placed.elsewhere.push(problem);
  }
  return placed;
}

export function fromServer(errors: ServerFieldError[]): Problem[] {
  return errors.map((error) => ({ path: error.path.replace(/^\/parameters(?=\/)/, ''), message: error.message, expected: error.expected }));
}

export const count = (placed: Placed): number => Object.keys(placed.fields).length + placed.elsewhere.length;

/** Item 3 of a list typed as lines is spoken of as the line the user sees. */
function inField(problem: Problem, field: Field, inner: string[], values: FormValues): string {
  if (field.kind !== 'lines' || inner.length === 0) return problem.message;
  const { lineNumbers } = parseLines(String(values[field.key] ?? ''), field.schema.items);
  const line = lineNumbers[Number(inner[0])];
  return line === undefined ? problem.message : `Line ${line}: ${problem.message}`;
}

function tokens(pointer: string): string[] {
  return pointer.split('/').slice(1).map((token) => token.replaceAll('~1', '/').replaceAll('~0', '~'));
}
