/** Sets the stage for a walk: server, page and browser, and the few moves every walk makes. */
import { mkdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { chromium, type Browser, type Page } from 'playwright-core';
import { inject } from 'vitest';
import { Front } from './front';
import { STANDIN_KEY, STANDIN_LOGIN, StandIn } from './standin';

/** Set E2E_BASE_URL and E2E_API_KEY to walk in front of a running devkit. */
const real = process.env.E2E_BASE_URL !== undefined;
const KEY = process.env.E2E_API_KEY ?? STANDIN_KEY;
const LOGIN = { email: process.env.E2E_EMAIL ?? STANDIN_LOGIN.email, password: process.env.E2E_PASSWORD ?? STANDIN_LOGIN.password };
/** Whether this server can be logged in to with e-mail and password. */
export const canLogIn = !real || process.env.E2E_EMAIL !== undefined;
/** Resamples that keep a run busy for long enough to see it. */
export const SLOW = 1000;
/** The most there may be, with more peptides: long enough to do something to a run that need not end by itself. */
export const SLOWEST = 2000;
/** Where a POST restarts the server under test, when something can. */
export const restart = process.env.E2E_RESTART;

/** One browser for all walks; each walk has windows of its own. */
let browser: Promise<Browser> | undefined;
const STANDARDS = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];
const AXE = createRequire(import.meta.url).resolve('axe-core/axe.min.js');

/** In the page, before anything of it: every text that a notice has had, or that was said aloud. */
function keepNotices(): void {
  const notices = new Set<string>();
  Object.assign(window, { notices });
  const look = () => {
    for (const shown of document.querySelectorAll<HTMLElement>('.m-notice, [data-testid="announcements"]')) {
      notices.add(`${shown.dataset.testid ?? 'notice'}: ${shown.textContent}`);
    }
  };
  new MutationObserver(look).observe(document, { subtree: true, childList: true, characterData: true });
}

export class Stage {
  readonly front: Front;
  readonly page: Page;
  private readonly closing: Array<() => Promise<unknown>>;

  private constructor(front: Front, page: Page, closing: Array<() => Promise<unknown>>) {
    this.front = front;
    this.page = page;
    this.closing = closing;
  }

  /** A page nobody has used, with nothing kept from any other walk. */
  static async set(viewport = { width: 1280, height: 900 }): Promise<Stage> {
    const standIn = real ? null : new StandIn();
    const front = new Front(process.env.E2E_BASE_URL ?? (await standIn?.start()) ?? '');
    browser ??= chromium.connect(inject('browser'));
    const context = await (await browser).newContext({ viewport, reducedMotion: 'reduce' });
    const page = await context.newPage();
    page.setDefaultTimeout(90_000);
    await page.addInitScript(keepNotices);
    await page.goto(await front.start());
    return new Stage(front, page, [() => context.close(), () => front.stop(), () => standIn?.stop() ?? Promise.resolve()]);
  }

  async close(): Promise<void> {
    for (const step of this.closing) await step();
  }

  async signInWithKey(): Promise<void> {
    await this.page.getByLabel('API key', { exact: true }).last().fill(KEY);
    await this.page.getByRole('button', { name: 'Sign in' }).click();
    await this.page.getByRole('heading', { name: 'Sign in' }).waitFor({ state: 'detached' });
  }

  async logIn(): Promise<void> {
    const password = this.page.getByLabel('Password', { exact: true });
    if (!(await password.isVisible())) await this.page.getByText('E-mail and password').click();
    await this.page.getByLabel('E-mail', { exact: true }).fill(LOGIN.email);
    await password.fill(LOGIN.password);
    // On a busy machine the page may wait in vain for the answer, and people press again.
    let problem: string | null = null;
    for (let presses = 0; presses === 0 || (presses < 6 && problem === 'Signing in took too long.'); presses++) {
      await this.page.getByRole('button', { name: 'Sign in' }).click();
      problem = await this.afterSignIn();
    }
    if (problem !== null) throw new Error(`Not signed in: ${problem}`);
  }

  /** What the page says once its question is answered; null when it is signed in. */
  private async afterSignIn(): Promise<string | null> {
    await this.page.locator('#sign-in-problem').waitFor({ state: 'detached' });
    const answered = await this.page.waitForFunction(() => {
      const problem = document.getElementById('sign-in-problem');
      return problem || !document.querySelector('.m-sign-in') ? { problem: problem && problem.textContent } : false;
    });
    return (await answered.evaluate((found) => found && found.problem)) || null;
  }

  /** That a notice said this, be it for a moment only: whoever asks now and then may miss it. */
  async noticed(text: RegExp): Promise<void> {
    await this.page.waitForFunction(({ source }) => {
      const { notices } = window as unknown as { notices: Set<string> };
      return [...notices].some((notice) => new RegExp(source).test(notice));
    }, { source: text.source });
  }

  /** Lets this time pass on the page at once, its timers included. `page.clock.install()` comes before. */
  async letPass(seconds: number): Promise<void> {
    await this.page.clock.fastForward(seconds * 1000);
  }

  /** By its text: while focused, a tab's accessible name also says which of how many it is. */
  tab(name: string) {
    return this.page.locator('[role="tab"]', { hasText: name });
  }

  get peptides() {
    return this.page.getByRole('textbox', { name: 'Peptides' });
  }

  async fillExample(resamples?: number): Promise<void> {
    await this.tab('Run').click();
    await this.page.getByRole('button', { name: 'Fill in the example' }).click();
    if (resamples === undefined) return;
    await this.page.getByRole('button', { name: 'Choose all' }).click();
    const example = await this.peptides.inputValue();
    await this.peptides.fill(Array.from({ length: resamples === SLOWEST ? 50 : 25 }, () => example).join('\n'));
    await this.page.getByLabel('Bootstrap resamples').fill(String(resamples));
  }

  async run(): Promise<void> {
    await this.page.getByRole('button', { name: 'Run', exact: true }).click();
  }

  /** Presses Tab until what bears this text has the focus. */
  async tabTo(name: string): Promise<void> {
    for (let presses = 0; presses < 60; presses++) {
      await this.page.keyboard.press('Tab');
      if ((await this.focusedText())?.trim() === name) return;
    }
    throw new Error(`Tab never reached “${name}”.`);
  }

  focusedText(): Promise<string | null | undefined> {
    return this.page.evaluate(() => document.activeElement?.textContent);
  }

  async completed(): Promise<void> {
    await this.page.getByText('Run completed', { exact: true }).waitFor({ timeout: 150_000 });
  }

  /** Violations axe finds on the page as it stands, one line each; of the rules with these tags, or of one rule. */
  async violations(rules: string[] = STANDARDS): Promise<string[]> {
    if (!(await this.page.evaluate(() => 'axe' in window))) await this.page.addScriptTag({ path: AXE });
    return this.page.evaluate(async (runOnly) => {
      const { axe } = window as unknown as { axe: { run(o: object): Promise<{ violations: Array<{ id: string; nodes: Array<{ target: string[]; failureSummary: string }> }> }> } };
      const found = await axe.run({ runOnly });
      return found.violations.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.target.join(' ')}: ${node.failureSummary.slice(0, 220)}`));
    }, rules);
  }

  /** Keeps a picture when E2E_SCREENSHOTS names a directory. */
  async picture(name: string): Promise<void> {
    const directory = process.env.E2E_SCREENSHOTS;
    if (!directory) return;
    mkdirSync(directory, { recursive: true });
    await this.page.screenshot({ path: join(directory, `${name}.png`), fullPage: true });
  }
}
