import { render, screen } from '@testing-library/react';
import userEvent from '@testing-library/user-event';
import { expect, it, vi } from 'vitest';
import type { DataSource } from '../src/api/localData';
import type { ArraySchema, ObjectSchema } from '../src/form/schema';
import { inputSchema } from '../src/manifest';
import { DataTree } from '../src/tree/DataTree';
import { linesIn } from '../src/tree/peptidesIn';
import { useDataTree } from '../src/tree/useDataTree';

const file = (name: string, path = name) => ({ name, path, kind: 'file' as const, sizeBytes: 10 });
const dir = (name: string, path = name) => ({ name, path, kind: 'dir' as const });
const source: DataSource = {
  roots: () => Promise.resolve([{ id: 'a', label: 'Alpha' }, { id: 'b', label: 'Beta' }]),
  list: (_root, path, next) =>
    Promise.resolve(
      path === '' && next === null
        ? { entries: [dir('melanoma'), file('peptides.txt'), file('proteins.fasta')], next: 'p2' }
        : path === '' ? { entries: [file('zebra.csv')], next: null } : { entries: [file('run.csv', 'melanoma/run.csv')], next: null },
    ),
  read: () => Promise.resolve({ text: '', truncated: false }),
};

function Harness({ onOpenFile }: { onOpenFile: (name: string) => void }) {
  const tree = useDataTree(source);
  return <DataTree tree={tree} label="Files" selected={null} onOpenFile={(node) => onOpenFile(node.label)} />;
}

async function open() {
  const opened = vi.fn();
  const user = userEvent.setup();
  render(<Harness onOpenFile={opened} />);
  await screen.findByRole('treeitem', { name: /Alpha/ });
  await user.tab();
  return { user, opened };
}

const focused = () => document.activeElement?.querySelector('.m-node-label')?.textContent;

it('is one tab stop', async () => {
  const { user } = await open();
  expect(focused()).toBe('Alpha');
  await user.tab();
  expect(document.body).toBe(document.activeElement);
});

it('opens with Right, enters with Right, leaves and closes with Left', async () => {
  const { user } = await open();
  await user.keyboard('{ArrowRight}');
  expect((await screen.findByRole('treeitem', { name: /melanoma/ })).getAttribute('aria-level')).toBe('2');
  await user.keyboard('{ArrowRight}');
  expect(focused()).toBe('melanoma');
  await user.keyboard('{ArrowLeft}');
  expect(focused()).toBe('Alpha');
  await user.keyboard('{ArrowLeft}');
  expect(screen.queryByRole('treeitem', { name: /melanoma/ })).toBeNull();
  expect(screen.getByRole('treeitem', { name: /Alpha/ }).getAttribute('aria-expanded')).toBe('false');
});

it('moves with Up, Down, Home and End', async () => {
  const { user } = await open();
  await user.keyboard('{ArrowRight}');
  await screen.findByRole('treeitem', { name: /melanoma/ });
  await user.keyboard('{ArrowDown}{ArrowDown}');
  expect(focused()).toBe('peptides.txt');
  await user.keyboard('{ArrowUp}');
  expect(focused()).toBe('melanoma');
  await user.keyboard('{End}');
  expect(focused()).toBe('Beta');
  await user.keyboard('{Home}');
  expect(focused()).toBe('Alpha');
});

it('jumps to a name that is typed', async () => {
  // At one moment: on a busy machine the letters would come too late for one name.
  vi.spyOn(Event.prototype, 'timeStamp', 'get').mockReturnValue(5000);
  const { user, opened } = await open();
  await user.keyboard('{ArrowRight}');
  await screen.findByRole('treeitem', { name: /melanoma/ });
  await user.keyboard('pro');
  expect(focused()).toBe('proteins.fasta');
  await user.keyboard('{Enter}');
  expect(opened).toHaveBeenCalledWith('proteins.fasta');
});

it('opens all siblings with the asterisk', async () => {
  const { user } = await open();
  await user.keyboard('*');
  expect(await screen.findAllByRole('treeitem', { name: /melanoma/ })).toHaveLength(2);
});

it('says that a folder goes on, and goes on', async () => {
  const { user } = await open();
  await user.keyboard('{ArrowRight}');
  const more = await screen.findByRole('treeitem', { name: 'Show more…' });
  expect(more.getAttribute('aria-setsize')).toBe('-1');
  await user.click(more);
  expect((await screen.findByRole('treeitem', { name: /zebra/ })).getAttribute('aria-setsize')).toBe('4');
});

it('finds peptides in tables, lists and FASTA', () => {
  const schema = inputSchema.properties.peptides as ArraySchema & { items: ObjectSchema };
  expect(linesIn('intensity\tPeptide\n1\tNLVPMVATV\n2\tNLVPMVATV\n3\tbad\n', schema)).toEqual(['NLVPMVATV']);
  expect(linesIn('>one\nNLVPMVATV\n>two\nGILGFVFTL\n', schema)).toEqual(['NLVPMVATV', 'GILGFVFTL']);
});
