import type { Band } from '../results';

const MARKS: Record<Band, string> = { strong: '●', possible: '◐', unlikely: '○' };

export const BAND_MEANING: Record<Band, string> = {
  strong: 'every main anchor is a preferred residue',
  possible: 'every main anchor is at least tolerated',
  unlikely: 'a main anchor is outside the motif',
};

/** A verdict as shape, word and colour; any one of them is enough to read it. */
export function BandLabel({ band }: { band: Band }) {
  return (
    <span className={`m-band m-band-${band}`}>
      <span aria-hidden="true">{MARKS[band]}</span> {band}
    </span>
  );
}
