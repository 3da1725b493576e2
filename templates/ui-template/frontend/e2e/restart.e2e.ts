/** The server dies under a run and comes back. After all other walks, because it dies for them as well. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { restart, SLOWEST, Stage } from './stage';

let stage: Stage;
beforeAll(async () => {
  stage = await Stage.set();
  await stage.signInWithKey();
});
afterAll(() => stage.close());

it.skipIf(!restart)('tells of a run the server lost in a restart, keeps the form, and runs again', async () => {
  await stage.fillExample(SLOWEST);
  await stage.run();
  await stage.page.getByText(/^\d+ %: /).waitFor();
  expect((await fetch(restart ?? '', { method: 'POST' })).status).toBe(204);
  await stage.page.getByText('The run failed', { exact: true }).waitFor();
  await stage.page.getByText('RUN_INTERRUPTED').waitFor();
  await stage.page.getByText('Your input is kept; press Run to start it again.').waitFor();
  await stage.picture('walk-interrupted');
  expect(await stage.page.getByLabel('Bootstrap resamples').inputValue()).toBe(String(SLOWEST));
  await stage.fillExample();
  await stage.run();
  await stage.completed();
});
