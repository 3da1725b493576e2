import { useCallback, useEffect, useMemo, useRef, useState } from 'react';
import { explain } from '../api/failure';
import type { DataEntry, DataSource } from '../api/localData';
import type { VisibleNode } from './keys';

export interface TreeNode extends VisibleNode {
  kind: 'root' | 'dir' | 'file' | 'more' | 'note';
  root: string;
  path: string;
  level: number;
  position: number;
  /** -1 while more pages may follow. */
  setSize: number;
  sizeBytes?: number | null;
}

interface Folder {
  entries: DataEntry[];
  next: string | null;
  state: 'loading' | 'ready' | { failed: string };
}

export interface DataTreeControls {
  nodes: TreeNode[];
  status: 'loading' | 'ready' | { failed: string };
  expand(ids: string[]): void;
  collapse(id: string): void;
  more(folderId: string): void;
  reload(): void;
}

const idOf = (root: string, path: string): string => `${root}:${path}`;
const EMPTY: Folder = { entries: [], next: null, state: 'loading' };

/** Folders are read when they are opened, a page at a time, and kept. */
export function useDataTree(source: DataSource): DataTreeControls {
  const [roots, setRoots] = useState<Array<{ id: string; label: string }>>([]);
  const [status, setStatus] = useState<DataTreeControls['status']>('loading');
  const [folders, setFolders] = useState<Record<string, Folder>>({});
  const [expanded, setExpanded] = useState<ReadonlySet<string>>(new Set());
  const [generation, setGeneration] = useState(0);
  const abort = useRef(new AbortController());

  useEffect(() => {
    const mine = new AbortController();
    abort.current = mine;
    setStatus('loading');
    setFolders({});
    setExpanded(new Set());
    source
      .roots(mine.signal)
      .then((found) => (setRoots(found), setStatus('ready')))
      .catch((error: unknown) => !mine.signal.aborted && setStatus({ failed: explain(error) }));
    return () => mine.abort();
  }, [source, generation]);

  const load = useCallback(
    async (id: string, next: string | null) => {
      const { signal } = abort.current;
      const [root, path] = split(id);
      const put = (change: (folder: Folder) => Folder) =>
        setFolders((before) => ({ ...before, [id]: change(before[id] ?? EMPTY) }));
      put((folder) => ({ ...folder, state: 'loading' }));
      try {
        const page = await source.list(root, path, next, signal);
        put((folder) => ({ entries: [...(next ? folder.entries : []), ...page.entries], next: page.next, state: 'ready' }));
      } catch (error) {
        if (!signal.aborted) put((folder) => ({ ...folder, state: { failed: explain(error) } }));
      }
    },
    [source],
  );

  const expand = useCallback(
    (ids: string[]) => {
      setExpanded((before) => new Set([...before, ...ids]));
      for (const id of ids) if (folders[id]?.state !== 'ready') void load(id, null);
    },
    [folders, load],
  );
  const collapse = useCallback((id: string) => setExpanded((before) => new Set([...before].filter((other) => other !== id))), []);
  const more = useCallback((id: string) => void load(id, folders[id]?.next ?? null), [folders, load]);
  const reload = useCallback(() => setGeneration((before) => before + 1), []);
  const nodes = useMemo(() => flatten(roots, folders, expanded), [roots, folders, expanded]);
  return { nodes, status, expand, collapse, more, reload };
}

function split(id: string): [root: string, path: string] {
  const colon = id.indexOf(':');
  return [id.slice(0, colon), id.slice(colon + 1)];
}

/** What is on screen, top to bottom. */
function flatten(roots: Array<{ id: string; label: string }>, folders: Record<string, Folder>, expanded: ReadonlySet<string>): TreeNode[] {
  const nodes: TreeNode[] = [];
  const addFolder = (node: TreeNode) => {
    nodes.push(node);
    const folder = folders[node.id];
    if (!node.expanded || !folder) return;
    const child = { root: node.root, parentId: node.id, level: node.level + 1, expandable: false, expanded: false };
    const setSize = folder.next ? -1 : folder.entries.length;
    folder.entries.forEach((entry, index) => {
      const id = idOf(node.root, entry.path);
      const common = { ...child, id, label: entry.name, path: entry.path, position: index + 1, setSize, kind: entry.kind };
      if (entry.kind === 'dir') addFolder({ ...common, expandable: true, expanded: expanded.has(id) });
      else nodes.push({ ...common, sizeBytes: entry.sizeBytes });
    });
    const note = noteFor(folder);
    if (!note) return;
    const position = folder.entries.length + 1;
    nodes.push({ ...child, ...note, id: `${node.id}#note`, path: node.path, position, setSize: folder.next ? -1 : position });
  };
  roots.forEach(({ id: root, label }, index) => {
    const id = idOf(root, '');
    const base = { root, path: '', parentId: null, level: 1, position: index + 1, setSize: roots.length };
    addFolder({ ...base, id, label, kind: 'root', expandable: true, expanded: expanded.has(id) });
  });
  return nodes;
}

function noteFor(folder: Folder): Pick<TreeNode, 'label' | 'kind'> | null {
  if (folder.state === 'loading') return { label: 'Loading…', kind: 'note' };
  if (typeof folder.state === 'object') return { label: `Could not be read: ${folder.state.failed} Press Enter to try again.`, kind: 'more' };
  if (folder.next) return { label: 'Show more…', kind: 'more' };
  return folder.entries.length === 0 ? { label: 'Empty folder', kind: 'note' } : null;
}
