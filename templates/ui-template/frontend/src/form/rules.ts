import type { ArraySchema, NumberSchema, ObjectSchema, Schema, StringSchema } from './schema';

/** A broken rule: where (JSON pointer into the parameters), what is wrong, and what was expected. */
export interface Problem {
  path: string;
  message: string;
  expected?: string;
}

const MOST_SHOWN_PER_LIST = 20;

/** The manifest's rules, checked before anything is sent. The server checks them again; these only answer sooner. */
export function check(value: unknown, schema: Schema, path = ''): Problem[] {
  switch (schema.type) {
    case 'object':
      return checkObject(value as Record<string, unknown>, schema, path);
    case 'array':
      return checkArray(value as unknown[], schema, path);
    case 'string':
      return checkString(value as string, schema, path);
    case 'boolean':
      return [];
    default:
      return checkNumber(value as number, schema, path);
  }
}

const name = (schema: Schema, path: string): string => schema.title ?? path.slice(path.lastIndexOf('/') + 1);

function checkObject(value: Record<string, unknown>, schema: ObjectSchema, path: string): Problem[] {
  return Object.entries(schema.properties).flatMap(([key, property]) => {
    const here = `${path}/${key}`;
    if (value[key] === undefined) {
      if (!schema.required?.includes(key)) return [];
      return [{ path: here, message: `${name(property, here)} is needed.`, expected: property.description }];
    }
    return check(value[key], property, here);
  });
}

function checkArray(value: unknown[], schema: ArraySchema, path: string): Problem[] {
  const title = name(schema, path);
  if (value.length < (schema.minItems ?? 0)) {
    const message = value.length === 0 ? `${title}: nothing given yet.` : `${title}: at least ${schema.minItems} are needed.`;
    return [{ path, message, expected: schema.description }];
  }
  if (value.length > (schema.maxItems ?? Infinity)) {
    return [{ path, message: `${title}: ${value.length} given, at most ${schema.maxItems} are possible.` }];
  }
  if (schema.uniqueItems && new Set(value).size < value.length) {
    return [{ path, message: `${title}: each may be given once only.` }];
  }
  return value.flatMap((item, index) => check(item, schema.items, `${path}/${index}`)).slice(0, MOST_SHOWN_PER_LIST);
}

function checkString(value: string, schema: StringSchema, path: string): Problem[] {
  const title = name(schema, path);
  const expected = schema.description;
  if (value === '' && (schema.minLength ?? 0) > 0) return [{ path, message: `${title} is needed.`, expected }];
  if (value.length > (schema.maxLength ?? Infinity)) {
    return [{ path, message: `${title} has ${value.length} characters, at most ${schema.maxLength} are possible.`, expected }];
  }
  if (value.length < (schema.minLength ?? 0)) {
    return [{ path, message: `${title} needs at least ${schema.minLength} characters.`, expected }];
  }
  if (schema.enum && !schema.enum.includes(value)) {
    return [{ path, message: `“${value}” is not one of the choices.`, expected: schema.enum.join(', ') }];
  }
  if (schema.pattern && !new RegExp(schema.pattern, 'u').test(value)) {
    return [{ path, message: `${title} “${value}” does not fit.`, expected }];
  }
  return [];
}

function checkNumber(value: number, schema: NumberSchema, path: string): Problem[] {
  const title = name(schema, path);
  const low = schema.minimum ?? -Infinity;
  const high = schema.maximum ?? Infinity;
  const expected = Number.isFinite(low) && Number.isFinite(high) ? `A number from ${low} to ${high}.` : schema.description;
  if (schema.type === 'integer' && !Number.isInteger(value)) return [{ path, message: `${title} must be a whole number.`, expected }];
  if (value < low || value > high) return [{ path, message: `${title} is out of range: ${value}.`, expected }];
  return [];
}
