import { BANDS, shortAllele, type Band, type MotifResults, type ResultRow } from '../results';
import { BandLabel } from '../shared/BandLabel';
import { useTheme } from '../theme/ThemeProvider';
import { useMediaQuery } from '../theme/useMediaQuery';
import { ChartFrame } from './ChartFrame';

const LEFT = 84;
const RIGHT = 16;
const ROW = 46;
const TOP = 8;
const MARK = 12;
/** Drawn at about the size it is shown at, so that letters and marks stay as large on a phone. */
const WIDE = 900;
const NARROW = 320;

/** Every peptide as a mark at its score, in the row of its best allele. */
export function ScoreStrip({ results }: { results: MotifResults }) {
  const groups = results.alleles
    .map(({ allele }) => ({ allele, rows: results.table.filter((row) => row.best_allele === allele) }))
    .filter((group) => group.rows.length > 0);
  const width = useMediaQuery('(max-width: 48rem)') ? NARROW : WIDE;
  const unit = (width - LEFT - RIGHT) / 100;
  const x = (score: number): number => LEFT + unit * score;
  const bottom = TOP + ROW * groups.length;
  return (
    <ChartFrame
      title="Best score by allele"
      caption="One mark per peptide, in the row of the allele it fits best. Filled: strong. Half: possible. Open: unlikely."
      columns={['Allele', 'Peptides', ...BANDS]}
      rows={groups.map(({ allele, rows }) => [
        shortAllele(allele),
        rows.length,
        ...BANDS.map((band) => rows.filter((row) => row.best_band === band).length),
      ])}
    >
      <svg className="m-wide" viewBox={`0 0 ${width} ${bottom + 44}`} role="img" aria-label={`Scores of ${results.table.length} peptides by best allele.`}>
        {[0, 25, 50, 75, 100].map((score) => (
          <g key={score}>
            <line x1={x(score)} x2={x(score)} y1={TOP} y2={bottom} className="m-grid" />
            <text x={x(score)} y={bottom + 18} textAnchor="middle" className="m-tick">
              {score}
            </text>
          </g>
        ))}
        <text x={x(50)} y={bottom + 38} textAnchor="middle" className="m-tick">
          anchor motif score
        </text>
        {groups.map(({ allele, rows }, line) => (
          <g key={allele} transform={`translate(0 ${TOP + ROW * (line + 0.5)})`}>
            <text x={LEFT - 12} y={5} textAnchor="end" className="m-tick">
              {shortAllele(allele)}
            </text>
            {rows.map((row, index) => (
              <Mark key={index} row={row} at={x(row.best_score)} offset={spread(rows, index, MARK / unit)} />
            ))}
          </g>
        ))}
      </svg>
      <p className="m-legend">
        {BANDS.map((band) => (
          <BandLabel key={band} band={band} />
        ))}
      </p>
    </ChartFrame>
  );
}

function Mark({ row, at, offset }: { row: ResultRow; at: number; offset: number }) {
  const { palette } = useTheme();
  const colour = palette[row.best_band satisfies Band];
  return (
    <g transform={`translate(${at} ${offset})`} stroke={colour} strokeWidth={1.8}>
      <title>{`${row.sequence}: ${row.best_score}, ${row.best_band}`}</title>
      <circle r={5} fill={row.best_band === 'strong' ? colour : palette.surface} />
      {row.best_band === 'possible' && <path d="M0 -5A5 5 0 0 0 0 5Z" fill={colour} />}
    </g>
  );
}

/** Marks closer than `reach`, in points of score, step up and down within their row instead of hiding one another. */
function spread(rows: ResultRow[], index: number, reach: number): number {
  const score = rows[index]?.best_score ?? 0;
  const before = rows.slice(0, index).filter((row) => Math.abs(row.best_score - score) < reach).length;
  const step = Math.ceil(before / 2) * 11 * (before % 2 === 0 ? 1 : -1);
  return Math.max(-17, Math.min(17, step));
}
