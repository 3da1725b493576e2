/** A look at every tab in every theme: no axe violation, no sideways scrolling; pictures when asked for. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Stage } from './stage';

const TABS = ['Overview', 'Run', 'Results', 'Charts', 'Local data', 'API', 'Theme'];
const THEMES = ['Light', 'Dark', 'High contrast'];

/** The tests of a screen of this size, on one page that has results to show. */
export function lookAt(viewport: { width: number; height: number }): void {
  let stage: Stage;
  beforeAll(async () => {
    stage = await Stage.set(viewport);
    await stage.signInWithKey();
    await stage.fillExample();
    await stage.run();
    await stage.completed();
  });
  afterAll(() => stage.close());

  it.each(THEMES)(`every tab of the %s theme is accessible and fits ${viewport.width} pixels`, async (theme) => {
    await show(stage, 'Theme');
    await stage.page.getByRole('radio', { name: theme }).check();
    const findings: Record<string, string[]> = {};
    for (const tab of TABS) {
      await show(stage, tab);
      findings[tab] = await look(stage, theme, `${theme}-${viewport.width}-${tab}`);
    }
    expect(findings).toEqual(Object.fromEntries(TABS.map((tab) => [tab, []])));
  });
}

async function show(stage: Stage, tab: string): Promise<void> {
  const direct = stage.tab(tab);
  await direct.focus();
  await direct.press('Enter');
  if (tab === 'Local data') {
    const items = stage.page.getByRole('treeitem');
    await items.first().waitFor();
    if ((await items.count()) === 1) await items.first().click();
    await items.nth(1).waitFor();
  }
}

/** Themes differ in colours alone: of the others, only those are looked at. */
async function look(stage: Stage, theme: string, name: string): Promise<string[]> {
  const overflow = await stage.page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  await stage.picture(name.toLowerCase().replaceAll(' ', '-'));
  const found = await stage.violations(theme === THEMES[0] ? undefined : ['color-contrast']);
  return overflow > 0 ? [`${overflow} pixels wider than the screen`, ...found] : found;
}
