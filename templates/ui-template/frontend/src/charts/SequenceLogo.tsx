import { plural } from '../shared/numbers';
import { shortAllele, type Logo, type LogoPosition } from '../results';
import { chemistryOf } from '../theme/palettes';
import { useTheme } from '../theme/ThemeProvider';
import { ChartFrame } from './ChartFrame';

const COLUMN = 46;
const HEIGHT = 190;
const LEFT = 60;
const TOP = 12;
/** What the height of a letter means. Few peptides carry little information, however alike they are. */
export type LogoScale = 'share' | 'information';

const TOPS: Record<LogoScale, { most: number; ticks: number[]; unit: string }> = {
  share: { most: 1, ticks: [0, 0.25, 0.5, 0.75, 1], unit: 'share' },
  information: { most: Math.log2(20), ticks: [0, 1, 2, 3, 4], unit: 'bits' },
};
/** Capital letters of the usual sans-serif faces are this share of the font size high. */
const CAP_HEIGHT = 0.72;

const y = (value: number, scale: LogoScale): number => TOP + HEIGHT * (1 - value / TOPS[scale].most);

export function SequenceLogo({ logo, scale }: { logo: Logo; scale: LogoScale }) {
  const width = LEFT + COLUMN * logo.length + 8;
  const name = shortAllele(logo.allele);
  return (
    <ChartFrame
      title={`${name} motif`}
      caption={`${plural(logo.peptides, 'peptide')} of ${logo.length} residues that fit ${name}. ${CAPTIONS[scale]}`}
      columns={['Position', 'Bits', '95 % interval', 'Residues']}
      rows={logo.positions.map((position) => [position.position, position.bits.toFixed(2), interval(position), residues(position)])}
    >
      <svg width={width} height={HEIGHT + TOP + 30} role="img" aria-label={describe(logo, name)}>
        {TOPS[scale].ticks.map((tick) => (
          <g key={tick}>
            <line x1={LEFT - 5} x2={width} y1={y(tick, scale)} y2={y(tick, scale)} className="m-grid" />
            <text x={LEFT - 10} y={y(tick, scale) + 4} textAnchor="end" className="m-tick">
              {tick}
            </text>
          </g>
        ))}
        <text className="m-tick" transform={`translate(12 ${TOP + HEIGHT / 2}) rotate(-90)`} textAnchor="middle">
          {TOPS[scale].unit}
        </text>
        {logo.positions.map((position, index) => (
          <Stack key={position.position} position={position} scale={scale} x={LEFT + COLUMN * index} last={index === logo.length - 1} />
        ))}
      </svg>
    </ChartFrame>
  );
}

function Stack({ position, scale, x, last }: { position: LogoPosition; scale: LogoScale; x: number; last: boolean }) {
  const { palette } = useTheme();
  let reached = 0;
  const middle = x + COLUMN / 2;
  return (
    <g>
      {[...position.residues].reverse().map(({ residue, bits, frequency }) => {
        const bottom = y(reached, scale);
        reached += scale === 'share' ? frequency : bits;
        const stretch = (bottom - y(reached, scale)) / CAP_HEIGHT;
        return (
          <text
            key={residue}
            fontSize={1}
            fontWeight={700}
            textLength={1}
            lengthAdjust="spacingAndGlyphs"
            className="m-letter"
            fill={palette.residues[chemistryOf(residue)]}
            transform={`translate(${x + 3} ${bottom}) scale(${COLUMN - 12} ${stretch})`}
          >
            {residue}
          </text>
        );
      })}
      {scale === 'information' && position.low !== null && position.high !== null && (
        <path d={whisker(x + COLUMN - 5, y(position.low, scale), y(position.high, scale))} className="m-whisker" />
      )}
      <text x={middle - 3} y={TOP + HEIGHT + 20} textAnchor="middle" className="m-tick">
        {last ? 'PΩ' : `P${position.position}`}
      </text>
    </g>
  );
}

const CAPTIONS: Record<LogoScale, string> = {
  share: 'Letter height is the share of peptides with that residue.',
  information: 'Letter height is information in bits, corrected for the number of peptides; the bar is the 95 % bootstrap interval.',
};

const whisker = (x: number, low: number, high: number): string => `M${x} ${low}V${high}m-3 0h6m-6 ${low - high}h6`;

const interval = ({ low, high }: LogoPosition): string => (low === null || high === null ? 'not resampled' : `${low.toFixed(2)} to ${high.toFixed(2)}`);

const residues = (position: LogoPosition): string =>
  position.residues.map(({ residue, frequency }) => `${residue} ${Math.round(frequency * 100)} %`).join(', ') || 'no preference';

function describe(logo: Logo, name: string): string {
  const strongest = [...logo.positions].sort((a, b) => b.bits - a.bits).slice(0, 2);
  const told = strongest.map((position) => `position ${position.position} (${residues(position)})`).join(' and ');
  return `Sequence logo of ${name}. Most information is at ${told}.`;
}
