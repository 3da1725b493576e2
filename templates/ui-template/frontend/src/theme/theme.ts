import type { ThemeConfig } from 'antd';
import type { CSSProperties } from 'react';
import type { Mode, Palette } from './palettes';

/** Ant Design's view of a palette. */
export function antdTheme(mode: Mode, palette: Palette, reducedMotion: boolean): ThemeConfig {
  const heavy = mode === 'contrast';
  return {
    token: {
      colorPrimary: palette.accent,
      colorInfo: palette.accent,
      colorLink: palette.accent,
      colorSuccess: palette.strong,
      colorWarning: palette.warning,
      colorError: palette.danger,
      colorBgLayout: palette.page,
      colorBgContainer: palette.surface,
      colorBgElevated: palette.surface,
      colorFillAlter: palette.raised,
      colorFillQuaternary: palette.raised,
      colorText: palette.text,
      colorTextHeading: palette.text,
      colorTextSecondary: palette.muted,
      colorTextTertiary: palette.muted,
      colorTextQuaternary: palette.muted,
      colorTextDescription: palette.muted,
      colorTextPlaceholder: palette.muted,
      colorTextLightSolid: palette.onAccent,
      colorBorder: palette.outline,
      colorBorderSecondary: palette.line,
      colorSplit: palette.line,
      colorPrimaryHover: palette.accent,
      colorPrimaryActive: palette.accent,
      colorPrimaryBorder: palette.focus,
      colorPrimaryBg: palette.accentSoft,
      colorErrorBg: palette.surface,
      colorErrorBorder: palette.danger,
      colorWarningBg: palette.surface,
      colorWarningBorder: palette.warning,
      colorSuccessBg: palette.surface,
      colorSuccessBorder: palette.strong,
      colorInfoBg: palette.accentSoft,
      colorInfoBorder: palette.accent,
      controlItemBgActive: palette.accentSoft,
      controlItemBgHover: palette.raised,
      borderRadius: 6,
      fontSize: 15,
      lineWidth: heavy ? 2 : 1,
      controlHeight: 38,
      motion: !reducedMotion,
      fontFamily: FONT,
    },
    components: {
      Table: { headerBg: palette.raised, headerColor: palette.text, rowHoverBg: palette.raised, cellPaddingBlock: 10 },
      Tabs: { itemColor: palette.muted, itemSelectedColor: palette.accent, itemHoverColor: palette.accent },
      Button: { fontWeight: 500, primaryShadow: 'none' },
      Progress: { defaultColor: palette.accent, remainingColor: palette.line },
    },
  };
}

const FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif";

/** The same palette as CSS custom properties, for the page's own rules and charts. */
export function cssVariables(palette: Palette): CSSProperties {
  const named = Object.entries(palette).filter((entry): entry is [string, string] => typeof entry[1] === 'string');
  return Object.fromEntries(named.map(([name, colour]) => [`--m-${kebab(name)}`, colour])) as CSSProperties;
}

const kebab = (name: string): string => name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
