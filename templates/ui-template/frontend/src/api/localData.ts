import type { HostContext } from '../host';
import type { HttpClient } from './http';

export interface DataEntry {
  name: string;
  path: string;
  kind: 'dir' | 'file';
  sizeBytes?: number | null;
  modifiedAt?: string | null;
}

export interface DataPage {
  entries: DataEntry[];
  next: string | null;
}

/** Somewhere files can be browsed: the devkit's folders, or the organisation's storage through the host. */
export interface DataSource {
  roots(signal: AbortSignal): Promise<Array<{ id: string; label: string }>>;
  list(root: string, path: string, next: string | null, signal: AbortSignal): Promise<DataPage>;
  /** The beginning of a file as text, and whether there is more. */
  read(root: string, path: string, signal: AbortSignal): Promise<{ text: string; truncated: boolean }>;
}

const PAGE_SIZE = 100;
export const PREVIEW_BYTES = 65_536;
const PREVIEW_RANGE = { Range: `bytes=0-${PREVIEW_BYTES - 1}`, Accept: '*/*' };

export function devkitSource(client: HttpClient): DataSource {
  return {
    roots: async (signal) =>
      (await client.json<{ roots: Array<{ id: string; label: string }> }>('GET', '/dev/data/roots', { signal })).roots,
    list: async (root, path, next, signal) => {
      const query = new URLSearchParams({ root, path, limit: String(PAGE_SIZE), ...(next ? { pageToken: next } : {}) });
      const page = await client.json<{ entries: DataEntry[]; nextToken: string | null }>('GET', `/dev/data/list?${query}`, {
        signal,
      });
      return { entries: page.entries, next: page.nextToken };
    },
    read: async (root, path, signal) => {
      const query = new URLSearchParams({ root, path });
      return client.request('GET', `/dev/data/file?${query}`, { signal, headers: PREVIEW_RANGE }, preview);
    },
  };
}

export function hostSource(context: HostContext): DataSource | null {
  const { listOrgStorageObjects: list, resolveOrgStorageFile: resolve } = context;
  if (!list || !resolve) return null;
  return {
    roots: () => Promise.resolve([{ id: '', label: 'Organisation storage' }]),
    list: async (_root, path, next) => {
      const page = await list({ prefix: path, limit: PAGE_SIZE, ...(next ? { continuationToken: next } : {}) });
      const folders = page.folders.map((folder): DataEntry => ({ name: folder.name, path: folder.prefix, kind: 'dir' }));
      const files = page.files.map(
        (file): DataEntry => ({ name: file.name, path: file.key, kind: 'file', sizeBytes: file.size, modifiedAt: file.lastModified }),
      );
      return { entries: [...folders, ...files], next: page.nextContinuationToken ?? null };
    },
    read: async (_root, path, signal) => {
      const { downloadUrl } = await resolve(path);
      return preview(await fetch(downloadUrl, { signal, headers: PREVIEW_RANGE }));
    },
  };
}

async function preview(response: Response): Promise<{ text: string; truncated: boolean }> {
  const bytes = new Uint8Array(await response.arrayBuffer());
  // An empty file has no range to give, and a server may ignore ranges and send the whole file.
  const total = Number(response.headers.get('Content-Range')?.split('/')[1] ?? bytes.length);
  const shown = bytes.subarray(0, PREVIEW_BYTES);
  return { text: new TextDecoder().decode(shown), truncated: total > shown.length };
}
