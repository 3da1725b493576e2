/** Every tab in every theme: no axe violation, no sideways scrolling at 390 pixels; pictures when asked for. */
import { describe, expect, it } from 'vitest';
import { Stage } from './stage';

const TABS = ['Overview', 'Run', 'Results', 'Charts', 'Local data', 'API', 'Theme'];
const THEMES = ['Light', 'Dark', 'High contrast'];
const SCREENS = [
  { width: 1280, height: 900 },
  { width: 390, height: 844 },
];
/** What can be wrong with a tab, one line each. */
type Findings = Record<string, string[]>;

async function show(stage: Stage, tab: string): Promise<void> {
  const direct = stage.tab(tab);
  await direct.focus();
  await direct.press('Enter');
  if (tab === 'Local data') {
    const items = stage.page.getByRole('treeitem');
    await items.first().waitFor();
    await items.first().click();
    await items.nth(1).waitFor();
  }
}

async function look(stage: Stage, name: string): Promise<string[]> {
  const overflow = await stage.page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  await stage.picture(name.toLowerCase().replaceAll(' ', '-'));
  const found = await stage.violations();
  return overflow > 0 ? [`${overflow} pixels wider than the screen`, ...found] : found;
}

describe.concurrent.each(SCREENS)('at $width pixels', (viewport) => {
  it.each(THEMES)('every tab of the %s theme is accessible and fits', async (theme) => {
    const stage = await Stage.set(viewport);
    try {
      await stage.signInWithKey();
      await stage.fillExample();
      await stage.run();
      await stage.completed();
      await show(stage, 'Theme');
      await stage.page.getByRole('radio', { name: theme }).check();
      const findings: Findings = {};
      for (const tab of TABS) {
        await show(stage, tab);
        findings[tab] = await look(stage, `${theme}-${viewport.width}-${tab}`);
      }
      expect(findings).toEqual(Object.fromEntries(TABS.map((tab) => [tab, []])));
    } finally {
      await stage.close();
    }
  });
});
