import type { ServerResponse } from 'node:http';
import type { Plugin } from 'vite';

const DEVKIT_TIMEOUT_MS = 1000;

/** `GET /health` on the dev server: that it serves, and whether the devkit behind it is ready. */
export function health(devkit: string): Plugin {
  const answer = async (response: ServerResponse): Promise<void> => {
    const body = JSON.stringify({ status: 'ok', service: 'anchor-motif-explorer-ui', devkit: await readiness(devkit) });
    response.setHeader('Content-Type', 'application/json');
    response.setHeader('Cache-Control', 'no-store');
    response.end(body);
  };
  return {
    name: 'health',
    configureServer: (server) => {
      server.middlewares.use('/health', (_request, response) => void answer(response));
    },
    configurePreviewServer: (server) => {
      server.middlewares.use('/health', (_request, response) => void answer(response));
    },
  };
}

async function readiness(devkit: string): Promise<'ready' | 'not ready' | 'unreachable'> {
  try {
    const response = await fetch(`${devkit}/v1/system/ready`, { signal: AbortSignal.timeout(DEVKIT_TIMEOUT_MS) });
    return response.ok ? 'ready' : 'not ready';
  } catch {
    return 'unreachable';
  }
}
