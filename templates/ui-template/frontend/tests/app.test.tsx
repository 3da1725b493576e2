import { render, screen, waitFor, within } from '@testing-library/react';
import userEvent from '@testing-library/user-event';
import { beforeEach, expect, it, vi } from 'vitest';
import { readFileSync } from 'node:fs';
import ModuleUI from '../src/App';
import type { ExecutionResult, ModuleProps } from '../src/host';

const output = JSON.parse(readFileSync('e2e/fixtures/output.json', 'utf8')) as ExecutionResult;
const input = { peptides: [{ sequence: 'NLVPMVATV', name: 'CMV' }], alleles: ['HLA-A*02:01'] };

const show = (props: ModuleProps = {}) => {
  const onExecute = vi.fn<NonNullable<ModuleProps['onExecute']>>().mockResolvedValue(output);
  render(<ModuleUI onExecute={onExecute} {...props} />);
  return { onExecute, user: userEvent.setup() };
};
const openRun = (user: ReturnType<typeof userEvent.setup>) => user.click(screen.getByRole('tab', { name: 'Run' }));
const pressRun = (user: ReturnType<typeof userEvent.setup>) => user.click(screen.getByRole('button', { name: 'Run' }));

beforeEach(() => vi.stubGlobal('fetch', vi.fn(() => Promise.reject(new TypeError('no network')))));

it('runs through the host with the prefilled input and shows the results', async () => {
  const { onExecute, user } = show({ input });
  await openRun(user);
  await pressRun(user);
  await user.click(await screen.findByRole('button', { name: 'Show the results' }));
  expect(onExecute).toHaveBeenCalledWith({ ...input, resamples: 200, seed: 1, save_csv: true });
  expect(await screen.findByText('NLVPMVATV', { selector: 'span' })).toBeTruthy();
  expect(fetch).not.toHaveBeenCalled();
});

it('does not call with an invalid form, names each field, and moves the focus', async () => {
  const { onExecute, user } = show();
  await openRun(user);
  await pressRun(user);
  const summary = await screen.findByRole('heading', { name: '2 things need your attention' });
  await waitFor(() => expect(document.activeElement).toBe(summary));
  expect(screen.getByRole('textbox', { name: 'Peptides' }).getAttribute('aria-invalid')).toBe('true');
  expect(screen.getByRole('textbox', { name: 'Peptides' }).getAttribute('aria-describedby')).toContain('input-peptides-help');
  await waitFor(() => expect(document.getElementById('input-peptides-help')?.closest('.ant-form-item-has-error')).toBeTruthy());
  expect(onExecute).not.toHaveBeenCalled();
});

it('shows why the host’s run failed and keeps the form', async () => {
  const { onExecute, user } = show({ input });
  onExecute.mockRejectedValue(new Error('Not enough credit.'));
  await openRun(user);
  await pressRun(user);
  const notice = await screen.findByRole('region', { name: /The run could not be started/ });
  expect(within(notice).getByText('Not enough credit.')).toBeTruthy();
  expect((screen.getByRole('textbox', { name: 'Peptides' }) as HTMLTextAreaElement).value).toBe('NLVPMVATV CMV');
});

it('takes a cancelled run as cancelled', async () => {
  const { onExecute, user } = show({ input });
  onExecute.mockResolvedValue(null);
  await openRun(user);
  await pressRun(user);
  expect(await screen.findByText('Run cancelled')).toBeTruthy();
});

it('says so when the results are not this module’s', async () => {
  show({ result: { something: 'else' } });
  expect(await screen.findByText('The results cannot be shown')).toBeTruthy();
});

it('tells the host about valid edits only', async () => {
  const onInputChange = vi.fn();
  const { user } = show({ input, onInputChange });
  await waitFor(() => expect(onInputChange).toHaveBeenCalledTimes(1));
  await openRun(user);
  await user.click(screen.getByRole('textbox', { name: 'Peptides' }));
  await user.paste('\nX');
  await new Promise((later) => setTimeout(later, 600));
  expect(onInputChange).toHaveBeenCalledTimes(1);
});
