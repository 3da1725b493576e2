/** The shape of `results`, as `backend/contract.py` declares it. */

export type Band = 'strong' | 'possible' | 'unlikely';

export interface ResultRow {
  sequence: string;
  name: string;
  length: number;
  best_allele: string;
  best_score: number;
  best_band: Band;
  background_percent: number;
  anchors: string;
  scores: number[];
  bands: Band[];
}

export interface AlleleSummary {
  allele: string;
  strong: number;
  possible: number;
  anchors: Array<{ position: string; preferred: string; tolerated: string; disfavoured: string; primary: boolean }>;
  reference: string;
}

export interface LogoPosition {
  position: number;
  bits: number;
  low: number | null;
  high: number | null;
  residues: Array<{ residue: string; frequency: number; bits: number }>;
}

export interface Logo {
  allele: string;
  length: number;
  peptides: number;
  positions: LogoPosition[];
}

export interface MotifResults {
  table: ResultRow[];
  alleles: AlleleSummary[];
  logos: Logo[];
  csv: { saved: boolean; name?: string; location?: string; rows?: number; reason?: string };
  run: { run_id: string; organization_id: string };
}

/** Null for anything that is not this module's results, so a wrong answer is shown as one. */
export function readResults(value: unknown): MotifResults | null {
  if (typeof value !== 'object' || value === null) return null;
  const candidate = value as Partial<MotifResults>;
  const complete = Array.isArray(candidate.table) && Array.isArray(candidate.alleles) && Array.isArray(candidate.logos);
  return complete ? (candidate as MotifResults) : null;
}

export const shortAllele = (allele: string): string => allele.replace(/^HLA-/, '');

export const BANDS: Band[] = ['strong', 'possible', 'unlikely'];

const CSV_COLUMNS = ['sequence', 'name', 'length', 'best_allele', 'best_score', 'best_band', 'background_percent'] as const;

/** The table as the page shows it, for a spreadsheet; a leading formula sign is defused. */
export function toCsv(rows: ResultRow[]): string {
  const cell = (value: string | number): string => {
    const text = typeof value === 'string' && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
    return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const lines = rows.map((row) => CSV_COLUMNS.map((column) => cell(row[column])).join(','));
  return `${[CSV_COLUMNS.join(','), ...lines].join('\n')}\n`;
}
