import { lineProperties } from '../form/lines';
import type { ArraySchema, ObjectSchema, StringSchema } from '../form/schema';

/**
 * The values of a file that fit the form's list: from the column named like a peptide sequence, or from the first
 * column when there is no such heading. Comments and FASTA headings are passed over.
 */
export function linesIn(text: string, schema: ArraySchema & { items: ObjectSchema }): string[] {
  const { first } = lineProperties(schema.items);
  const pattern = (schema.items.properties[first] as StringSchema).pattern;
  const fits = new RegExp(pattern ?? '.', 'u');
  const rows = text
    .split(/\r\n|\n|\r/)
    .filter((line) => line.trim() !== '' && !/^[#>]/.test(line))
    .map((line) => line.split(/[\t,;]/).map((cell) => cell.trim().replaceAll('"', '')));
  const column = Math.max(0, rows[0]?.findIndex((cell) => HEADINGS.test(cell)) ?? 0);
  const found = rows.map((row) => row[column] ?? '').filter((cell) => fits.test(cell));
  return [...new Set(found)].slice(0, schema.maxItems);
}

const HEADINGS = /^(peptide|sequence|peptide[ _]sequence|peptides)$/i;
