import { shortAllele, type MotifResults } from '../results';
import { contrastRatio, mix, type Palette } from '../theme/palettes';
import { useTheme } from '../theme/ThemeProvider';
import { ChartFrame } from './ChartFrame';

const CELL_WIDTH = 64;
const CELL_HEIGHT = 26;
const LEFT = 130;
const TOP = 30;
const SHOWN = 40;

/** Peptides against alleles. Every cell carries its number; the colour only helps the eye. */
export function HeatMap({ results }: { results: MotifResults }) {
  const { palette } = useTheme();
  const rows = [...results.table].sort((a, b) => b.best_score - a.best_score).slice(0, SHOWN);
  const alleles = results.alleles.map((entry) => shortAllele(entry.allele));
  const clipped = results.table.length > SHOWN ? ` The ${SHOWN} best of ${results.table.length} peptides are drawn.` : '';
  return (
    <ChartFrame
      title="Peptides by allele"
      caption={`Motif score of each peptide for each allele, 0 to 100.${clipped}`}
      columns={['Peptide', ...alleles]}
      rows={rows.map((row) => [row.sequence, ...row.scores])}
    >
      <svg
        width={LEFT + CELL_WIDTH * alleles.length + 4}
        height={TOP + CELL_HEIGHT * rows.length + 4}
        role="img"
        aria-label={`Heat map of ${rows.length} peptides and ${alleles.length} alleles. The numbers follow as a table.`}
      >
        {alleles.map((allele, column) => (
          <text key={allele} x={LEFT + CELL_WIDTH * (column + 0.5)} y={TOP - 10} textAnchor="middle" className="m-tick">
            {allele}
          </text>
        ))}
        {rows.map((row, line) => (
          <g key={`${row.sequence}-${line}`} transform={`translate(0 ${TOP + CELL_HEIGHT * line})`}>
            <text x={LEFT - 10} y={CELL_HEIGHT / 2 + 5} textAnchor="end" className="m-tick m-mono">
              {row.sequence}
            </text>
            {row.scores.map((score, column) => {
              const fill = mix(palette.heat.low, palette.heat.high, score / 100);
              return (
              <g key={column}>
                <rect
                  x={LEFT + CELL_WIDTH * column}
                  width={CELL_WIDTH - 2}
                  height={CELL_HEIGHT - 2}
                  rx={3}
                  fill={fill}
                />
                <text
                  x={LEFT + CELL_WIDTH * (column + 0.5) - 1}
                  y={CELL_HEIGHT / 2 + 4}
                  textAnchor="middle"
                  className="m-cell"
                  fill={readable(fill, palette.heat)}
                >
                  {Math.round(score)}
                </text>
              </g>
              );
            })}
          </g>
        ))}
      </svg>
    </ChartFrame>
  );
}

/** Of the two text colours, the one that reads better on this cell. */
function readable(fill: string, { onLow, onHigh }: Palette['heat']): string {
  return contrastRatio(onLow, fill) >= contrastRatio(onHigh, fill) ? onLow : onHigh;
}
