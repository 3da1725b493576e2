/** The part of JSON Schema a module's inputs use, and which control each kind of input gets. */

interface Common {
  title?: string;
  description?: string;
  default?: unknown;
  examples?: unknown[];
}

export interface StringSchema extends Common {
  type: 'string';
  enum?: string[];
  pattern?: string;
  minLength?: number;
  maxLength?: number;
}

export interface NumberSchema extends Common {
  type: 'integer' | 'number';
  minimum?: number;
  maximum?: number;
}

export interface BooleanSchema extends Common {
  type: 'boolean';
}

export interface ArraySchema extends Common {
  type: 'array';
  items: StringSchema | ObjectSchema;
  minItems?: number;
  maxItems?: number;
  uniqueItems?: boolean;
}

export interface ObjectSchema extends Common {
  type: 'object';
  properties: Record<string, Schema>;
  required?: string[];
  additionalProperties?: boolean;
}

export type Schema = StringSchema | NumberSchema | BooleanSchema | ArraySchema | ObjectSchema;

/** What a control shows and edits; turned into the run's parameters only when it is submitted. */
export type FieldValue = string | string[] | number | boolean | null;
export type FormValues = Record<string, FieldValue>;

export type Field =
  | { kind: 'lines'; key: string; label: string; required: boolean; schema: ArraySchema & { items: ObjectSchema } }
  | { kind: 'choices'; key: string; label: string; required: boolean; schema: ArraySchema & { items: StringSchema } }
  | { kind: 'number'; key: string; label: string; required: boolean; schema: NumberSchema }
  | { kind: 'flag'; key: string; label: string; required: boolean; schema: BooleanSchema }
  | { kind: 'choice'; key: string; label: string; required: boolean; schema: StringSchema & { enum: string[] } }
  | { kind: 'text'; key: string; label: string; required: boolean; schema: StringSchema };

export function fieldsOf(inputs: ObjectSchema): Field[] {
  return Object.entries(inputs.properties).map(([key, schema]) => {
    const base = { key, label: schema.title ?? key, required: inputs.required?.includes(key) ?? false };
    return { ...base, ...controlFor(key, schema) } as Field;
  });
}

function controlFor(key: string, schema: Schema): Pick<Field, 'kind' | 'schema'> {
  switch (schema.type) {
    case 'array':
      if (schema.items.type === 'object') return { kind: 'lines', schema: schema as ArraySchema & { items: ObjectSchema } };
      if (schema.items.enum) return { kind: 'choices', schema: schema as ArraySchema & { items: StringSchema } };
      throw new Error(`Input "${key}": lists of free text have no control; list objects or offer an enum.`);
    case 'integer':
    case 'number':
      return { kind: 'number', schema };
    case 'boolean':
      return { kind: 'flag', schema };
    case 'string':
      return schema.enum ? { kind: 'choice', schema: schema as StringSchema & { enum: string[] } } : { kind: 'text', schema };
    default:
      throw new Error(`Input "${key}": ${schema.type} inputs have no control.`);
  }
}
