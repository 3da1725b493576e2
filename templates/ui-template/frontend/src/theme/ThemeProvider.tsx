import { ConfigProvider, theme as antd } from 'antd';
import { createContext, useContext, useMemo, useState, type ReactNode } from 'react';
import css from '../styles.css?inline';
import { luminance, palettes, type Mode, type Palette } from './palettes';
import { antdTheme, cssVariables } from './theme';
import { useMediaQuery } from './useMediaQuery';

/** `auto` follows the host page where there is one, and the system's settings otherwise. */
export type Choice = 'auto' | Mode;

interface ThemeState {
  choice: Choice;
  mode: Mode;
  palette: Palette;
  choose(choice: Choice): void;
}

const ThemeContext = createContext<ThemeState | null>(null);
const STORED_AS = 'module-theme';
const CHOICES: readonly string[] = ['auto', 'light', 'dark', 'contrast'] satisfies Choice[];

export function useTheme(): ThemeState {
  const state = useContext(ThemeContext);
  if (!state) throw new Error('useTheme needs a ThemeProvider above it.');
  return state;
}

export function ThemeProvider({ hosted, children }: { hosted: boolean; children: ReactNode }) {
  const [choice, setChoice] = useState<Choice>(readChoice);
  const systemMode = useSystemMode();
  const reducedMotion = useMediaQuery('(prefers-reduced-motion: reduce)');
  const { token } = antd.useToken();
  const followsHost = hosted && choice === 'auto';

  const mode = choice !== 'auto' ? choice : hosted ? hostMode(token.colorBgContainer) : systemMode;
  const palette = palettes[mode];
  const state = useMemo<ThemeState>(
    () => ({
      choice,
      mode,
      palette,
      choose: (next) => {
        localStorage.setItem(STORED_AS, next);
        setChoice(next);
      },
    }),
    [choice, mode, palette],
  );
  const config = useMemo(() => antdTheme(mode, palette, reducedMotion), [mode, palette, reducedMotion]);
  const page = (
    <div className="m-root" data-theme={mode} style={cssVariables(palette)}>
      {children}
    </div>
  );
  return (
    <ThemeContext.Provider value={state}>
      <style href="anchor-motif-explorer" precedence="default">
        {css}
      </style>
      {followsHost ? page : <ConfigProvider theme={config}>{page}</ConfigProvider>}
    </ThemeContext.Provider>
  );
}

function readChoice(): Choice {
  const stored = localStorage.getItem(STORED_AS);
  return stored !== null && CHOICES.includes(stored) ? (stored as Choice) : 'auto';
}

function useSystemMode(): Mode {
  const contrast = useMediaQuery('(prefers-contrast: more)');
  const dark = useMediaQuery('(prefers-color-scheme: dark)');
  if (contrast) return 'contrast';
  return dark ? 'dark' : 'light';
}

/** The host's own background says which of our palettes sits well on it. */
function hostMode(background: string): Mode {
  return /^#[\da-f]{6}$/i.test(background) && luminance(background) < 0.2 ? 'dark' : 'light';
}
