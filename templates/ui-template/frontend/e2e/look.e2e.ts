/** Every tab in every theme: no axe violation, no sideways scrolling at 390 pixels; pictures when asked for. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Stage } from './stage';

const TABS = ['Overview', 'Run', 'Results', 'Charts', 'Local data', 'API', 'Theme'];
const THEMES = ['Light', 'Dark', 'High contrast'];
let stage: Stage;

beforeAll(async () => {
  stage = await Stage.set();
  await stage.fresh();
  await stage.signInWithKey();
  await stage.fillExample();
  await stage.run();
  await stage.completed();
});
afterAll(() => stage.strike());

async function show(tab: string): Promise<void> {
  const direct = stage.tab(tab);
  await direct.focus();
  await direct.press('Enter');
  if (tab === 'Local data') {
    await stage.page.getByRole('treeitem').first().waitFor();
    if ((await stage.page.getByRole('treeitem').count()) === 1) await stage.page.getByRole('treeitem').first().click();
  }
}

describe.each(THEMES)('%s theme', (theme) => {
  beforeAll(async () => {
    await stage.page.setViewportSize({ width: 1280, height: 900 });
    await show('Theme');
    await stage.page.getByRole('radio', { name: theme }).check();
  });

  it.each(TABS)('%s has no accessibility violation', async (tab) => {
    await stage.page.setViewportSize({ width: 1280, height: 900 });
    await show(tab);
    expect(await stage.violations()).toEqual([]);
    await stage.picture(`${theme}-1280-${tab}`.toLowerCase().replaceAll(' ', '-'));
  });

  it.each(TABS)('%s fits a phone', async (tab) => {
    await stage.page.setViewportSize({ width: 390, height: 844 });
    await show(tab);
    const overflow = await stage.page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    await stage.picture(`${theme}-390-${tab}`.toLowerCase().replaceAll(' ', '-'));
    expect(overflow).toBeLessThanOrEqual(0);
    expect(await stage.violations()).toEqual([]);
  });
});
