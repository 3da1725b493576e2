import { describe, expect, it } from 'vitest';
import { CHEMISTRIES, contrastRatio, mix, palettes, type Palette } from '../src/theme/palettes';

const TEXTS = ['text', 'muted', 'accent', 'strong', 'possible', 'unlikely', 'danger', 'warning'] as const satisfies Array<keyof Palette>;

describe.each(Object.entries(palettes))('%s', (_mode, palette) => {
  it.each(TEXTS)('%s can be read wherever text stands', (name) => {
    for (const on of [palette.surface, palette.page, palette.raised]) expect(contrastRatio(palette[name], on)).toBeGreaterThanOrEqual(4.5);
  });

  it('has readable buttons, callouts and letters', () => {
    expect(contrastRatio(palette.onAccent, palette.accent)).toBeGreaterThanOrEqual(4.5);
    expect(contrastRatio(palette.text, palette.accentSoft)).toBeGreaterThanOrEqual(4.5);
    for (const kind of CHEMISTRIES) expect(contrastRatio(palette.residues[kind], palette.surface)).toBeGreaterThanOrEqual(4.5);
  });

  it('shows focus and the borders of controls', () => {
    for (const on of [palette.surface, palette.page]) {
      expect(contrastRatio(palette.focus, on)).toBeGreaterThanOrEqual(3);
      expect(contrastRatio(palette.outline, on)).toBeGreaterThanOrEqual(3);
    }
  });

  it('keeps every cell of the heat map readable', () => {
    const { low, high, onLow, onHigh } = palette.heat;
    for (let score = 0; score <= 100; score++) {
      const fill = mix(low, high, score / 100);
      expect(Math.max(contrastRatio(onLow, fill), contrastRatio(onHigh, fill))).toBeGreaterThanOrEqual(4.5);
    }
  });
});
