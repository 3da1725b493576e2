import type { ProxyOptions } from 'vite';

/**
 * Sends the page's calls on to the devkit. With a key in the environment the dev server adds it, so it never reaches
 * the browser; only for requests of this very page, or any site open in the same browser could use the devkit.
 */
export function devkitProxy(target: string, key: string | undefined): Record<string, ProxyOptions> {
  const options: ProxyOptions = {
    target,
    changeOrigin: true,
    configure: (proxy) => {
      proxy.on('proxyReq', (outgoing, incoming) => {
        const ours = incoming.headers['sec-fetch-site'] === 'same-origin';
        const signedIn = 'authorization' in incoming.headers || 'x-api-key' in incoming.headers;
        if (key && ours && !signedIn) outgoing.setHeader('X-API-Key', key);
      });
    },
  };
  // With the closing slash: `/api` alone would also catch this project's own source files.
  return { '/v1/': options, '/dev/': options, '/api/': options, '/docs/': options };
}
