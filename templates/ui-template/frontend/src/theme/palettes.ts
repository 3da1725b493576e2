/**
 * The one source of the page's colours. Ant Design's tokens, the page's own CSS and the charts are all derived from
 * here; `tests/theme.test.ts` holds every pair used for text to WCAG AA and every mark to 3:1.
 */

export type Mode = 'light' | 'dark' | 'contrast';

/** Chemistry of amino-acid side chains, the usual colouring of a sequence logo. */
export type Chemistry = 'hydrophobic' | 'polar' | 'basic' | 'acidic' | 'special';

export interface Palette {
  page: string;
  surface: string;
  raised: string;
  text: string;
  muted: string;
  line: string;
  outline: string;
  accent: string;
  onAccent: string;
  accentSoft: string;
  focus: string;
  strong: string;
  possible: string;
  unlikely: string;
  danger: string;
  warning: string;
  residues: Record<Chemistry, string>;
  /** Low and high end of the heat map, and the text read on each; only black and white suffice in between. */
  heat: { low: string; high: string; onLow: string; onHigh: string };
}

export const palettes: Record<Mode, Palette> = {
  light: {
    page: '#f4f7f8',
    surface: '#ffffff',
    raised: '#eef3f5',
    text: '#16242d',
    muted: '#4a5c68',
    line: '#d5dfe4',
    outline: '#70838f',
    accent: '#0b6172',
    onAccent: '#ffffff',
    accentSoft: '#dff0f3',
    focus: '#b3440a',
    strong: '#0f6b3f',
    possible: '#8a5300',
    unlikely: '#586a76',
    danger: '#b42318',
    warning: '#8a5300',
    residues: { hydrophobic: '#16242d', polar: '#0f6b3f', basic: '#1d4fb8', acidic: '#b42318', special: '#7a3aa8' },
    heat: { low: '#eef5f6', high: '#0b6172', onLow: '#000000', onHigh: '#ffffff' },
  },
  dark: {
    page: '#0e161b',
    surface: '#162128',
    raised: '#1f2d36',
    text: '#e8eff2',
    muted: '#a9bac4',
    line: '#31434e',
    outline: '#7d929e',
    accent: '#6fd0df',
    onAccent: '#08262c',
    accentSoft: '#173a42',
    focus: '#ffb066',
    strong: '#6fd39a',
    possible: '#f0bd62',
    unlikely: '#a9bac4',
    danger: '#ff9a8f',
    warning: '#f0bd62',
    residues: { hydrophobic: '#e8eff2', polar: '#6fd39a', basic: '#8db4ff', acidic: '#ff9a8f', special: '#d3a6f5' },
    heat: { low: '#1f2d36', high: '#6fd0df', onLow: '#ffffff', onHigh: '#000000' },
  },
  contrast: {
    page: '#ffffff',
    surface: '#ffffff',
    raised: '#ffffff',
    text: '#000000',
    muted: '#000000',
    line: '#000000',
    outline: '#000000',
    accent: '#00327a',
    onAccent: '#ffffff',
    accentSoft: '#e6eefb',
    focus: '#c20063',
    strong: '#00471f',
    possible: '#5c3200',
    unlikely: '#333333',
    danger: '#8f0000',
    warning: '#5c3200',
    residues: { hydrophobic: '#000000', polar: '#00471f', basic: '#00327a', acidic: '#8f0000', special: '#560087' },
    heat: { low: '#ffffff', high: '#00327a', onLow: '#000000', onHigh: '#ffffff' },
  },
};

const CHEMISTRY: Record<Chemistry, string> = { hydrophobic: 'AVLIMFWP', polar: 'STNQYC', basic: 'KRH', acidic: 'DE', special: 'G' };

export function chemistryOf(residue: string): Chemistry {
  const found = (Object.keys(CHEMISTRY) as Chemistry[]).find((kind) => CHEMISTRY[kind].includes(residue));
  return found ?? 'special';
}

export const chemistryResidues = (kind: Chemistry): string => [...CHEMISTRY[kind]].join(' ');
export const CHEMISTRIES = Object.keys(CHEMISTRY) as Chemistry[];

/** WCAG contrast ratio of two `#rrggbb` colours. */
export function contrastRatio(first: string, second: string): number {
  const [low, high] = [luminance(first), luminance(second)].sort((a, b) => a - b) as [number, number];
  return (high + 0.05) / (low + 0.05);
}

export function luminance(hex: string): number {
  const [red = 0, green = 0, blue = 0] = [1, 3, 5].map((at) => {
    const channel = Number.parseInt(hex.slice(at, at + 2), 16) / 255;
    return channel <= 0.04045 ? channel / 12.92 : ((channel + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

/** A colour between two, for the heat map. */
export function mix(low: string, high: string, share: number): string {
  const channel = (at: number): string => {
    const from = Number.parseInt(low.slice(at, at + 2), 16);
    const to = Number.parseInt(high.slice(at, at + 2), 16);
    return Math.round(from + (to - from) * share).toString(16).padStart(2, '0');
  };
  return `#${channel(1)}${channel(3)}${channel(5)}`;
}
