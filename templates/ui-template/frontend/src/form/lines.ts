import type { ObjectSchema } from './schema';

/**
 * A list of small objects is typed as one line each: the required property first, the rest of the line is the next
 * property. Empty lines and lines that begin with `#` are left out; `lineNumbers` leads back from item to line.
 */
export interface ParsedLines {
  items: Array<Record<string, string>>;
  lineNumbers: number[];
}

export function lineProperties(schema: ObjectSchema): { first: string; rest: string | undefined } {
  const names = Object.keys(schema.properties);
  const first = names.find((name) => schema.required?.includes(name)) ?? names[0] ?? '';
  return { first, rest: names.find((name) => name !== first) };
}

export function parseLines(text: string, schema: ObjectSchema): ParsedLines {
  const { first, rest } = lineProperties(schema);
  const parsed: ParsedLines = { items: [], lineNumbers: [] };
  text.split(/\r\n|\n|\r/).forEach((line, index) => {
    const trimmed = line.trim();
    if (trimmed === '' || trimmed.startsWith('#')) return;
    const [, head = '', tail = ''] = /^([^\s,;]*)[\s,;]*(.*)$/.exec(trimmed) ?? [];
    parsed.items.push({ [first]: head, ...(rest && tail ? { [rest]: tail } : {}) });
    parsed.lineNumbers.push(index + 1);
  });
  return parsed;
}

export function formatLines(items: unknown, schema: ObjectSchema): string {
  if (!Array.isArray(items)) return '';
  const { first, rest } = lineProperties(schema);
  return items
    .map((item: Record<string, unknown>) => [item[first], rest ? item[rest] : ''].filter(Boolean).join(' '))
    .join('\n');
}
