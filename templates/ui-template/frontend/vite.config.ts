import react from '@vitejs/plugin-react';
import { defineConfig, type LibraryFormats } from 'vite';
import { devkitProxy } from './scripts/devkit-proxy';
import { health } from './scripts/health';

/** What the platform's page provides; the hosted bundle must not carry its own copy. */
const HOST_GLOBALS = {
  react: 'React',
  'react-dom': 'ReactDOM',
  'react/jsx-runtime': 'ReactJSXRuntime',
  'react/jsx-dev-runtime': 'ReactJSXDevRuntime',
  antd: 'antd',
};

const standalone = process.env.BUNDLE === 'standalone';
const devkit = process.env.HLA_API_ENDPOINT ?? 'http://127.0.0.1:4100';

export default defineConfig({
  plugins: [react(), health(devkit)],
  // Libraries ask for the mode through `process`, which a browser does not have.
  define: { 'process.env.NODE_ENV': JSON.stringify(process.env.NODE_ENV ?? 'production') },
  build: {
    target: 'es2022',
    outDir: 'dist',
    emptyOutDir: !standalone,
    chunkSizeWarningLimit: 2000,
    lib: {
      entry: standalone ? 'standalone-entry.tsx' : 'index.tsx',
      name: 'ModuleUI',
      formats: ['umd'] satisfies LibraryFormats[],
      fileName: () => (standalone ? 'bundle.standalone.js' : 'bundle.js'),
    },
    rollupOptions: standalone ? {} : { external: Object.keys(HOST_GLOBALS), output: { globals: HOST_GLOBALS } },
  },
  server: {
    port: 3000,
    proxy: devkitProxy(devkit, process.env.HLA_API_KEY),
  },
});
