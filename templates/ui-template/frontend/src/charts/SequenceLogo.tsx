import { plural } from '../shared/numbers';
import { shortAllele, type Logo, type LogoPosition } from '../results';
import { chemistryOf } from '../theme/palettes';
import { useTheme } from '../theme/ThemeProvider';
import { ChartFrame } from './ChartFrame';

const COLUMN = 46;
const HEIGHT = 190;
const LEFT = 42;
const TOP = 12;
const MAX_BITS = Math.log2(20);
/** Capital letters of the usual sans-serif faces are this share of the font size high. */
const CAP_HEIGHT = 0.72;

const y = (bits: number): number => TOP + HEIGHT * (1 - bits / MAX_BITS);

export function SequenceLogo({ logo }: { logo: Logo }) {
  const width = LEFT + COLUMN * logo.length + 8;
  const name = shortAllele(logo.allele);
  return (
    <ChartFrame
      title={`${name} motif`}
      caption={`${plural(logo.peptides, 'peptide')} of ${logo.length} residues that fit ${name}. Letter height is information in bits; the bar is the 95 % bootstrap interval.`}
      columns={['Position', 'Bits', '95 % interval', 'Residues']}
      rows={logo.positions.map((position) => [position.position, position.bits.toFixed(2), interval(position), residues(position)])}
    >
      <svg width={width} height={HEIGHT + TOP + 30} role="img" aria-label={describe(logo, name)}>
        {[0, 1, 2, 3, 4].map((bits) => (
          <g key={bits}>
            <line x1={LEFT - 5} x2={width} y1={y(bits)} y2={y(bits)} className="m-grid" />
            <text x={LEFT - 10} y={y(bits) + 4} textAnchor="end" className="m-tick">
              {bits}
            </text>
          </g>
        ))}
        <text className="m-tick" transform={`translate(12 ${TOP + HEIGHT / 2}) rotate(-90)`} textAnchor="middle">
          bits
        </text>
        {logo.positions.map((position, index) => (
          <Stack key={position.position} position={position} x={LEFT + COLUMN * index} last={index === logo.length - 1} />
        ))}
      </svg>
    </ChartFrame>
  );
}

function Stack({ position, x, last }: { position: LogoPosition; x: number; last: boolean }) {
  const { palette } = useTheme();
  let reached = 0;
  const middle = x + COLUMN / 2;
  return (
    <g>
      {[...position.residues].reverse().map(({ residue, bits }) => {
        const bottom = y(reached);
        reached += bits;
        const height = bottom - y(reached);
        const scale = height / CAP_HEIGHT;
        return (
          <text
            key={residue}
            fontSize={1}
            fontWeight={700}
            textLength={1}
            lengthAdjust="spacingAndGlyphs"
            className="m-letter"
            fill={palette.residues[chemistryOf(residue)]}
            transform={`translate(${x + 3} ${bottom}) scale(${COLUMN - 12} ${scale})`}
          >
            {residue}
          </text>
        );
      })}
      {position.low !== null && position.high !== null && (
        <path d={`M${x + COLUMN - 5} ${y(position.low)}V${y(position.high)}m-3 0h6m-6 ${y(position.low) - y(position.high)}h6`} className="m-whisker" />
      )}
      <text x={middle - 3} y={TOP + HEIGHT + 20} textAnchor="middle" className="m-tick">
        {last ? 'PΩ' : `P${position.position}`}
      </text>
    </g>
  );
}

const interval = ({ low, high }: LogoPosition): string => (low === null || high === null ? 'not resampled' : `${low.toFixed(2)} to ${high.toFixed(2)}`);

const residues = (position: LogoPosition): string =>
  position.residues.map(({ residue, frequency }) => `${residue} ${Math.round(frequency * 100)} %`).join(', ') || 'no preference';

function describe(logo: Logo, name: string): string {
  const strongest = [...logo.positions].sort((a, b) => b.bits - a.bits).slice(0, 2);
  const told = strongest.map((position) => `position ${position.position} (${residues(position)})`).join(' and ');
  return `Sequence logo of ${name}. Most information is at ${told}.`;
}
