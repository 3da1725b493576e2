import type { MotifResults } from '../results';
import { plural } from '../shared/numbers';
import { ChartFrame } from './ChartFrame';

const BAR = 64;
const HEIGHT = 150;
const LEFT = 16;
const TOP = 24;

export function LengthBars({ results }: { results: MotifResults }) {
  const lengths = [...new Set(results.table.map((row) => row.length))].sort((a, b) => a - b);
  const bars = lengths.map((length) => ({ length, count: results.table.filter((row) => row.length === length).length }));
  const most = Math.max(1, ...bars.map((bar) => bar.count));
  return (
    <ChartFrame
      title="Peptide lengths"
      caption="How many of the submitted peptides have each length; class I ligands are mostly nonamers."
      columns={['Length', 'Peptides']}
      rows={bars.map(({ length, count }) => [length, count])}
    >
      <svg
        width={LEFT + BAR * bars.length + 16}
        height={TOP + HEIGHT + 30}
        role="img"
        aria-label={bars.map(({ length, count }) => `${plural(count, 'peptide')} of ${length} residues`).join(', ')}
      >
        {bars.map(({ length, count }, index) => {
          const height = (HEIGHT * count) / most;
          const middle = LEFT + BAR * (index + 0.5);
          return (
            <g key={length}>
              <rect x={middle - BAR / 2 + 8} y={TOP + HEIGHT - height} width={BAR - 16} height={height} rx={3} className="m-bar" />
              <text x={middle} y={TOP + HEIGHT - height - 7} textAnchor="middle" className="m-tick">
                {count}
              </text>
              <text x={middle} y={TOP + HEIGHT + 20} textAnchor="middle" className="m-tick">
                {length}
              </text>
            </g>
          );
        })}
      </svg>
    </ChartFrame>
  );
}
