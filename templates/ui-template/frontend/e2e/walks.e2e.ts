/** The ways people take through the page, the bad days included. */
import { describe, expect, it as plain } from 'vitest';
import { canLogIn, SLOW, SLOWEST, Stage } from './stage';

/** Seconds before the end of a session of ten minutes at which it is renewed, or its end is told (`session.ts`). */
const LEAD = 120;

// Each walk on a page of its own: most of a walk is waiting, so several are under way at the same time.
const onStage = plain.extend<{ stage: Stage }>({
  stage: async ({}, use) => {
    const stage = await Stage.set();
    await use(stage);
    await stage.close();
  },
});

describe.concurrent('with an API key', () => {
  const it = onStage.extend<{ stage: Stage }>({
    stage: async ({ stage }, use) => {
      await stage.signInWithKey();
      await use(stage);
    },
  });

  it('fill, invalid, fix, submit, progress, result', async ({ stage, expect }) => {
    const { page } = stage;
    await stage.tab('Run').click();
    await stage.run();
    await page.getByRole('heading', { name: '2 things need your attention' }).waitFor();
    await expect.poll(() => page.evaluate(() => document.activeElement?.id), { timeout: 90_000 }).toBe('problem-summary');
    await stage.fillExample();
    const peptides = stage.peptides;
    const good = await peptides.inputValue();
    await peptides.fill(`${good}\nNLVPMVATX`);
    await stage.run();
    const help = page.locator('#input-peptides-help');
    await help.getByText('Line 15: Sequence “NLVPMVATX” does not fit.').waitFor();
    expect(await peptides.getAttribute('aria-invalid')).toBe('true');
    await stage.picture('walk-invalid');
    await peptides.fill(good);
    await help.waitFor({ state: 'detached' });
    await stage.run();
    await stage.completed();
    await page.getByRole('button', { name: 'Show the results' }).click();
    await page.getByRole('row', { name: /NLVPMVATV/ }).first().waitFor();
    await page.getByRole('button', { name: 'Download these 14 as CSV' }).waitFor();
  });

  it('shows what the server refuses beside the line it is about', async ({ stage }) => {
    stage.front.alter(/\/v1\/module-runs$/, (body) => body.replace('GILGFVFTL', 'GILGFVFTX'));
    await stage.fillExample();
    await stage.peptides.fill('# mine\nNLVPMVATV\n\nGILGFVFTL my second');
    await stage.run();
    await stage.page.locator('#input-peptides-help').getByText(/^Line 4: /).waitFor();
    expect(await stage.peptides.getAttribute('aria-invalid')).toBe('true');
    await stage.page.getByText('The server did not accept the input').waitFor();
    await stage.picture('walk-refused');
  });

  it('cancels a run', async ({ stage }) => {
    await stage.fillExample(SLOWEST);
    await stage.run();
    await stage.page.getByRole('progressbar', { name: 'Progress of the run' }).waitFor();
    await stage.page.getByRole('button', { name: 'Cancel the run' }).click({ timeout: 90_000 });
    await stage.page.getByText('Run cancelled', { exact: true }).waitFor();
    expect(await stage.peptides.inputValue()).toContain('NLVPMVATV');
  });

  it('shows progress as it happens and says it aloud', async ({ stage }) => {
    await stage.fillExample(SLOW);
    await stage.run();
    await stage.noticed(/^notice: .*\d+ %: (Scoring|Drawing)/);
    await stage.noticed(/^announcements: .*per cent/);
    await stage.picture('walk-progress');
    await stage.completed();
  });

  it('says that a call failed, why, and that it tries again', async ({ stage }) => {
    stage.front.refuse(/\/v1\/modules\?/, 503, 3);
    await stage.fillExample();
    await stage.run();
    await stage.noticed(/A call failed and will be tried again.*The server is restarting.*attempt [234] of 4/);
    await stage.picture('walk-retry');
    await stage.completed();
  });

  it('never starts a run twice on its own', async ({ stage }) => {
    stage.front.refuse(/\/v1\/module-runs$/, 503, 1);
    await stage.fillExample();
    const before = stage.front.seen.length;
    await stage.run();
    await stage.page.getByText('The run did not get through', { exact: true }).waitFor();
    expect(stage.front.seen.slice(before).filter((call) => call === 'POST /v1/module-runs')).toHaveLength(1);
    await stage.run();
    await stage.completed();
  });

  it('gives up waiting for a stalled server and asks again', async ({ stage }) => {
    const goOn = stage.front.stall(/\/v1\/modules\?/);
    await stage.fillExample();
    await stage.run();
    await stage.noticed(/No answer within 15 s.*attempt [23] of 4/);
    goOn();
    await stage.completed();
  });

  it('stays with a run through a lost connection', async ({ stage, expect }) => {
    stage.front.holdEvents();
    await stage.fillExample(SLOW);
    await stage.run();
    await stage.page.getByText(/^\d+ %: /).waitFor();
    const before = stage.front.seen.length;
    const comeBack = stage.front.vanish();
    await stage.page.getByText(/^Connection lost: /).waitFor();
    await expect.poll(() => stage.front.seen.length - before, { timeout: 90_000 }).toBeGreaterThan(1);
    comeBack();
    await stage.completed();
  });

  it('falls back to asking when live events are not to be had', async ({ stage }) => {
    stage.front.refuse(/\/events$/, 404, 99);
    await stage.fillExample(SLOW);
    await stage.run();
    await stage.noticed(/Asking for news every few seconds/);
    await stage.completed();
  });

  it('takes peptides from a local file with the keyboard alone', async ({ stage, expect }) => {
    const { page } = stage;
    await stage.tab('Local data').click();
    const items = page.getByRole('treeitem');
    await items.first().waitFor();
    await items.first().focus();
    await page.keyboard.press('ArrowRight');
    // While the folder is asked for, a line that says so stands where its first entry will.
    await items.filter({ hasNotText: 'Loading…' }).nth(1).waitFor();
    await page.keyboard.press('ArrowRight');
    await expect.poll(() => stage.focusedText(), { timeout: 90_000 }).toBe(await items.nth(1).textContent());
    await page.keyboard.press('End');
    await expect.poll(() => stage.focusedText(), { timeout: 90_000 }).toBe(await items.last().textContent());
    await page.keyboard.press('Home');
    await page.keyboard.type('pep');
    await page.keyboard.press('Enter');
    await page.getByText('2 peptides found.').waitFor();
    await page.getByRole('button', { name: 'Use in the form' }).press('Enter');
    await expect.poll(() => stage.peptides.inputValue(), { timeout: 90_000 }).toBe('KLGGALQAK\nQYDPVAALF');
  });

  it('runs from start to result with the keyboard alone', async ({ stage }) => {
    const { page } = stage;
    await stage.tab('Overview').focus();
    await page.keyboard.press('ArrowRight');
    await page.keyboard.press('Enter');
    await stage.tabTo('Fill in the example');
    await page.keyboard.press('Enter');
    await stage.tabTo('Run');
    await page.keyboard.press('Enter');
    await stage.completed();
    await stage.tabTo('Show the results');
    await page.keyboard.press('Enter');
    await page.getByRole('row', { name: /NLVPMVATV/ }).first().waitFor();
  });
});

describe.runIf(canLogIn).concurrent('with a session', () => {
  const it = onStage;

  it('asks to sign in again when the session has ended, and keeps the form', async ({ stage, expect }) => {
    await stage.logIn();
    await stage.fillExample();
    await stage.page.getByLabel('Random seed').fill('77');
    stage.front.expireSession();
    await stage.run();
    const heading = stage.page.getByRole('heading', { name: 'Sign in again' });
    await heading.waitFor();
    // Whatever was asked meanwhile is answered by now, and has not brought the page back.
    await expect.poll(() => stage.front.waiting, { timeout: 90_000 }).toBe(0);
    expect(await heading.isVisible()).toBe(true);
    await stage.picture('walk-expired');
    await stage.logIn();
    expect(await stage.page.getByLabel('Random seed').inputValue()).toBe('77');
    await stage.run();
    await stage.completed();
  });

  it('warns before the session ends and stays signed in on request', async ({ stage, expect }) => {
    stage.front.shortenSessions(600);
    await stage.page.clock.install();
    await stage.page.getByText('E-mail and password').click();
    await stage.logIn();
    await stage.letPass(600 - LEAD);
    await stage.page.getByText(/Your session ends in [12]:\d\d/).waitFor();
    await stage.picture('walk-ending');
    await stage.page.evaluate(() => [...document.querySelectorAll('button')].find((b) => b.textContent === 'Stay signed in')?.click());
    await stage.page.getByText(/Your session ends in/).waitFor({ state: 'detached' });
    expect(stage.front.seen).toContain('POST /v1/auth/refresh');
    expect(await stage.page.getByRole('heading', { name: 'Sign in again' }).count()).toBe(0);
  });

  it('renews the session of someone at work without asking', async ({ stage, expect }) => {
    stage.front.shortenSessions(600);
    await stage.page.clock.install();
    await stage.logIn();
    const before = stage.front.seen.length;
    await stage.tab('Run').click();
    await stage.letPass(600 - LEAD);
    await expect.poll(() => stage.front.seen.slice(before).includes('POST /v1/auth/refresh'), { timeout: 90_000 }).toBe(true);
    expect(await stage.page.getByText(/Your session ends in/).count()).toBe(0);
  });
});
